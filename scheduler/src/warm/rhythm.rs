//! Time of day and of week: in which quarters of an hour a key was asked for on each of the last days, and how likely it is
//! to be asked for in those that come.
//!
//! The days that are like today are few after a fortnight (two Mondays), so the share of Mondays leans on that of
//! workdays, and that on the share of all days, each as if it had been seen on [`LEANING`] more days: shrinkage of binomial
//! rates towards a wider group's, beta-binomial empirical Bayes (A. Gelman et al., "Bayesian Data Analysis", chapter 5).
//! Days and hours are UTC: a change to summer time shifts a rhythm once, and is learnt like any other change.

/// Length of a slot.
pub(super) const SLOT_MS: u64 = 15 * 60_000;
const DAY_MS: u64 = 24 * 3_600_000;
const SLOTS: u64 = DAY_MS / SLOT_MS;
/// Days remembered, today included.
pub(super) const DAYS: u64 = 15;
/// As how many days the wider group's share counts.
const LEANING: f32 = 2.0;

/// When a key was asked for, of the last [`DAYS`] days.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rhythm {
    /// A row a day (number of the day modulo [`DAYS`]), a bit a slot.
    rows: [u128; DAYS as usize],
    first_day: u64,
    last_day: u64,
}

/// A share of days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    /// How likely it is, 0 to 1.
    pub(super) probability: f32,
    /// Days that it was learnt from.
    pub(super) days: u32,
}

impl Rhythm {
    /// It was asked for at `at_ms`. What is older than the rows reach is left out.
    pub(super) fn note(&mut self, at_ms: u64) {
        let day = at_ms / DAY_MS;
        if self.rows == [0; DAYS as usize] {
            (self.first_day, self.last_day) = (day, day);
        }
        for stale in (self.last_day + 1..=day).rev().take(DAYS as usize) {
            self.rows[(stale % DAYS) as usize] = 0;
        }
        self.last_day = self.last_day.max(day);
        if day + DAYS > self.last_day {
            self.first_day = self.first_day.min(day);
            self.rows[(day % DAYS) as usize] |= 1 << (at_ms % DAY_MS / SLOT_MS);
        }
    }

    /// How likely it is to be asked for in the slot that `from_ms` lies in or the `slots` - 1 after it of the same day,
    /// told from the same slots of the days before.
    pub(super) fn share(&self, from_ms: u64, slots: u64) -> Share {
        let (today, slot) = (from_ms / DAY_MS, from_ms % DAY_MS / SLOT_MS);
        let width = slots.clamp(1, SLOTS - slot);
        let window = ((1_u128 << width) - 1) << slot;
        let first = self.first_day.max(today.saturating_sub(DAYS - 1));
        let (mut all, mut kind, mut same) = (Seen::default(), Seen::default(), Seen::default());
        for day in first..today {
            let asked = self.row(day) & window != 0;
            all.add(asked);
            if weekend(day) == weekend(today) {
                kind.add(asked);
            }
            if day % 7 == today % 7 {
                same.add(asked);
            }
        }
        let probability = same.leaning(kind.leaning(all.leaning(0.0)));
        Share {
            probability: probability.clamp(0.0, 1.0),
            days: all.of as u32,
        }
    }

    fn row(&self, day: u64) -> u128 {
        if day <= self.last_day && day + DAYS > self.last_day {
            self.rows[(day % DAYS) as usize]
        } else {
            0
        }
    }
}

/// Days on which it was asked for, of how many.
#[derive(Default)]
struct Seen {
    asked: f32,
    of: f32,
}

impl Seen {
    fn add(&mut self, asked: bool) {
        self.of += 1.0;
        self.asked += f32::from(u8::from(asked));
    }

    fn leaning(&self, wider: f32) -> f32 {
        (self.asked + LEANING * wider) / (self.of + LEANING)
    }
}

/// Whether it is a Saturday or a Sunday; day 0 of the epoch was a Thursday.
fn weekend(day: u64) -> bool {
    (day + 3) % 7 >= 5
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Wednesday.
    const START: u64 = 20_761;

    fn at(day: u64, hour: u64) -> u64 {
        (START + day) * DAY_MS + hour * 3_600_000
    }

    fn asked(days: impl Iterator<Item = u64>) -> Rhythm {
        let mut rhythm = Rhythm::default();
        for day in days {
            rhythm.note(at(day, 9));
        }
        rhythm
    }

    #[test]
    fn workdays_are_told_from_weekends() {
        let rhythm = asked((0..14).filter(|day| !weekend(START + day)));
        let (wednesday, saturday) = (rhythm.share(at(14, 9), 1), rhythm.share(at(17, 9), 1));
        assert!(wednesday.probability > 0.9, "{wednesday:?}");
        assert!(saturday.probability < 0.4, "{saturday:?}");
        assert_eq!(wednesday.days, 14);
        assert!(rhythm.share(at(14, 11), 1).probability < 0.01);
    }

    #[test]
    fn mondays_are_known_after_two_of_them() {
        // The days 5 and 12 are Mondays, and something else shows from the start that the key is there.
        let mut rhythm = asked([5, 12].into_iter());
        rhythm.note(at(0, 20));
        assert!(rhythm.share(at(19, 9), 1).probability > 0.5);
        assert!(rhythm.share(at(15, 9), 1).probability < 0.3);
    }

    #[test]
    fn days_of_silence_are_remembered_as_such() {
        let rhythm = asked(0..5);
        assert!(rhythm.share(at(13, 9), 1).probability < 0.5);
        let long_after = rhythm.share(at(40, 9), 1);
        assert!(long_after.probability.abs() < 1e-6);
    }

    #[test]
    fn the_last_slot_of_a_day_is_as_good_as_any() {
        let mut rhythm = Rhythm::default();
        for day in 0..14 {
            rhythm.note(at(day, 23) + 45 * 60_000);
        }
        assert!(rhythm.share(at(14, 23) + 45 * 60_000, 4).probability > 0.9);
        assert!(rhythm.share(at(14, 23), 96).probability > 0.9);
    }
}
