//! Which key follows which, bounded: what somebody asks for soon after what they asked for before, within a repository.
//!
//! The dependency graph of V. Padmanabhan and J. Mogul, "Using predictive prefetching to improve World Wide Web
//! latency" (SIGCOMM CCR 1996), a first-order Markov model that looks back a few steps. The followers that are kept are the
//! heavy ones of J. Misra and D. Gries, "Finding repeated elements" (1982), which never count more than was seen.

/// Followers kept of each.
const MOST: usize = 8;
/// Times after which all counts are halved, so that what is long ago matters less.
const HALVED_AT: u16 = 64;

/// How often something was seen, and what was seen after it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Followers {
    times: u16,
    of: [(u64, u16); MOST],
}

impl Followers {
    /// It was seen once more.
    pub(super) fn begin(&mut self) {
        if self.times >= HALVED_AT {
            self.times /= 2;
            for (_, count) in &mut self.of {
                *count /= 2;
            }
        }
        self.times += 1;
    }

    /// `key` came after it. Each beginning may be followed by each key once; that is the caller's part.
    pub(super) fn follow(&mut self, key: u64) {
        let counted = self
            .of
            .iter()
            .position(|(known, count)| *known == key && *count > 0);
        let free = || self.of.iter().position(|(_, count)| *count == 0);
        if let Some(place) = counted.or_else(free) {
            let before = counted.map_or(0, |place| self.of[place].1);
            self.of[place] = (key, (before + 1).min(self.times));
        } else {
            for (_, count) in &mut self.of {
                *count -= 1;
            }
        }
    }

    /// How often it was seen.
    pub(super) fn times(&self) -> u32 {
        self.times.into()
    }

    /// Which keys follow, and how likely each is, 0 to 1.
    pub(super) fn likely(&self) -> impl Iterator<Item = (u64, f32)> {
        let times = f32::from(self.times.max(1));
        let kept = self.of.iter().filter(|(_, count)| *count > 0);
        kept.map(move |(key, count)| (*key, (f32::from(*count) / times).min(1.0)))
    }
}

/// What somebody asked for last, newest first, each key once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trail {
    steps: [Option<(u64, u64)>; Trail::STEPS],
}

/// What a step on a trail means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The keys that this one comes after, newest first.
    pub(super) after: [Option<u64>; Trail::STEPS],
    /// Whether it is new, and not the last one asked for once more.
    pub(super) begins: bool,
}

impl Trail {
    const STEPS: usize = 4;
    /// What is longer ago led to nothing.
    const WINDOW_MS: u64 = 2 * 60_000;

    /// `key` was asked for. It follows what was asked for since it was asked for last.
    pub(super) fn step(&mut self, key: u64, at_ms: u64) -> Step {
        let mut after = [None; Self::STEPS];
        let place = self
            .steps
            .iter()
            .position(|step| step.is_some_and(|(known, _)| known == key));
        let fresh = |at: u64| at_ms.saturating_sub(at) <= Self::WINDOW_MS;
        let newer = &self.steps[..place.unwrap_or(Self::STEPS)];
        for (slot, (known, at)) in after.iter_mut().zip(newer.iter().flatten()) {
            *slot = fresh(*at).then_some(*known);
        }
        let again = place == Some(0) && self.steps[0].is_some_and(|(_, at)| fresh(at));
        self.steps[..=place.unwrap_or(Self::STEPS - 1)].rotate_right(1);
        self.steps[0] = Some((key, at_ms));
        Step {
            after,
            begins: !again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probability(followers: &Followers, key: u64) -> Option<f32> {
        followers
            .likely()
            .find(|(known, _)| *known == key)
            .map(|(_, likely)| likely)
    }

    #[test]
    fn heavy_followers_stay_and_light_ones_go() {
        let mut followers = Followers::default();
        for round in 0..1_000 {
            followers.begin();
            followers.follow(7);
            followers.follow(1_000 + round);
        }
        let heavy = probability(&followers, 7).unwrap();
        assert!((0.7..=1.0).contains(&heavy), "{heavy}");
        assert!(followers.times() <= u32::from(HALVED_AT));
        assert!(
            followers
                .likely()
                .filter(|(key, _)| *key != 7)
                .all(|(_, likely)| likely < 0.2)
        );
    }

    #[test]
    fn a_key_follows_what_came_since_it_came_last() {
        let mut trail = Trail::default();
        assert_eq!(trail.step(1, 0).after, [None; 4]);
        assert_eq!(trail.step(2, 1).after, [Some(1), None, None, None]);
        assert_eq!(trail.step(3, 2).after, [Some(2), Some(1), None, None]);
        let again = trail.step(2, 3);
        assert_eq!(again.after, [Some(3), None, None, None]);
        assert!(again.begins);
        assert!(!trail.step(2, 4).begins, "the last one once more");
        let late = trail.step(5, 4 + Trail::WINDOW_MS + 1);
        assert_eq!(late.after, [None; 4], "too long ago");
    }
}
