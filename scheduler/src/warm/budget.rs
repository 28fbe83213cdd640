//! How many calls warming may make: a share of all of them, however they are counted.
//!
//! A token bucket in whole numbers. It begins empty, a call that somebody needed puts in `share`, a call of warming takes
//! out `1 - share`; so at no time were more than that share of all calls those of warming. What is saved is bounded: within
//! any time, calls of warming are that share and what was saved at most, so a busy day does not pay for a burst a week later.

/// Parts of a call that are counted.
const PARTS: u64 = 1_000;

/// Calls that warming may make.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    parts: u64,
    share: u64,
    most: u64,
}

impl Budget {
    /// Empty. `share` of all calls, in thousandths (at most 500, more counts as that), of which `saved` at most may be
    /// left over.
    pub(super) fn new(share_permille: u32, saved: u32) -> Self {
        let share = u64::from(share_permille.min(500));
        Self {
            parts: 0,
            share,
            most: u64::from(saved) * (PARTS - share),
        }
    }

    /// A call was made that somebody needed.
    pub(super) fn earn(&mut self) {
        self.parts = (self.parts + self.share).min(self.most);
    }

    /// Whether a call may be made; if so it counts as made.
    pub(super) fn spend(&mut self) -> bool {
        let left = self.parts.checked_sub(PARTS - self.share);
        self.parts = left.unwrap_or(self.parts);
        left.is_some()
    }

    /// A call that was spent was not made after all.
    pub(super) fn give_back(&mut self) {
        self.parts = (self.parts + PARTS - self.share).min(self.most);
    }

    /// How much of what may be saved is there, 0 to 1.
    pub(super) fn fill(&self) -> f32 {
        self.parts as f32 / self.most.max(1) as f32
    }

    /// Calls that may be made now.
    pub(super) fn left(&self) -> u64 {
        self.parts / (PARTS - self.share)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_the_share(
            share in 0_u32..=500,
            saved in 0_u32..100,
            calls in prop::collection::vec(0_u8..3, 0..2_000),
        ) {
            let mut budget = Budget::new(share, saved);
            let (mut needed, mut warmed, mut open) = (0_u64, 0_u64, 0_u64);
            for call in calls {
                match call {
                    0 => {
                        budget.earn();
                        needed += 1;
                    }
                    1 if budget.spend() => {
                        warmed += 1;
                        open += 1;
                    }
                    2 if open > 0 => {
                        budget.give_back();
                        warmed -= 1;
                        open -= 1;
                    }
                    _ => {}
                }
                prop_assert!(warmed * 1_000 <= u64::from(share) * (needed + warmed));
                prop_assert!(budget.left() <= u64::from(saved));
            }
        }
    }

    #[test]
    fn a_twentieth() {
        let mut budget = Budget::new(50, 500);
        assert!(!budget.spend(), "nothing was earned");
        for _ in 0..19 {
            budget.earn();
        }
        assert!(budget.spend());
        assert!(!budget.spend());
    }
}
