//! Whether an entry can be used, and whether it is to be refreshed before its end.
//!
//! A popular entry that ends is missed by everybody at once. Instead each reader throws a die before the end, the more
//! likely to win the nearer the end is and the longer a fetch takes; whoever wins refreshes it while all others go on
//! reading. Source: A. Vattani, F. Chierichetti, K. Lowenstein, Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.

/// Longest that two machines' clocks may differ, in milliseconds. An entry from further ahead is not used.
pub(super) const SKEW: u64 = 2_000;

/// What an entry's age says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It can be used.
    Fresh,
    /// It can be used, and is to be refreshed.
    Early,
    /// It can be used while it is refreshed.
    Stale,
    /// It cannot.
    Ended,
}

/// Times of an entry, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// How long it is fresh since it was asked for.
    pub(super) fresh: u64,
    /// How long after that it is used while it is refreshed.
    pub(super) stale: u64,
    /// How long it is kept since it was asked for: at least for both.
    pub(super) kept: u64,
    /// How long it took to fetch.
    pub(super) took: u64,
}

impl Times {
    /// What an entry asked for at `asked_at` is at `now`. `unit` in `0..1` is the die; `beta` above 1 refreshes sooner,
    /// 0 not before the end.
    pub(super) fn standing(&self, asked_at: u64, now: u64, beta: f64, unit: f64) -> Standing {
        if asked_at > now.saturating_add(SKEW) {
            return Standing::Ended;
        }
        let age = now.saturating_sub(asked_at);
        if age < self.fresh {
            let left = (self.fresh - age) as f64;
            if left <= ahead(self.took as f64, beta, unit) {
                Standing::Early
            } else {
                Standing::Fresh
            }
        } else if age < self.fresh.saturating_add(self.stale) {
            Standing::Stale
        } else {
            Standing::Ended
        }
    }

    /// How long it is still kept at `now`, in milliseconds.
    pub(super) fn left(&self, asked_at: u64, now: u64) -> u64 {
        asked_at
            .saturating_add(self.kept)
            .saturating_sub(now)
            .min(self.kept)
    }
}

/// How long before the end a reader refreshes whose die fell on `unit`: longer than `x` with a probability of
/// `exp(-x / (took * beta))`.
fn ahead(took: f64, beta: f64, unit: f64) -> f64 {
    // Never the logarithm of 0.
    -took * beta * (1.0 - unit.clamp(0.0, 1.0)).max(f64::MIN_POSITIVE).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMES: Times = Times {
        fresh: 10_000,
        stale: 5_000,
        kept: 60_000,
        took: 0,
    };

    #[test]
    fn an_entry_ends_when_its_times_say() {
        let at = |now| TIMES.standing(1_000_000, now, 1.0, 0.999);
        assert_eq!(at(1_000_000), Standing::Fresh);
        assert_eq!(at(1_009_999), Standing::Fresh);
        assert_eq!(at(1_010_000), Standing::Stale);
        assert_eq!(at(1_014_999), Standing::Stale);
        assert_eq!(at(1_015_000), Standing::Ended);
        assert_eq!(at(u64::MAX), Standing::Ended);
        // Another machine's clock is a little ahead, or far.
        assert_eq!(at(1_000_000 - SKEW), Standing::Fresh);
        assert_eq!(at(1_000_000 - SKEW - 1), Standing::Ended);
        assert_eq!(TIMES.standing(u64::MAX, 1_000_000, 1.0, 0.5), Standing::Ended);
        assert_eq!(TIMES.left(1_000_000, 1_020_000), 40_000);
        assert_eq!(TIMES.left(1_000_000, 2_000_000), 0);
        assert_eq!(TIMES.left(u64::MAX, 0), 60_000);
    }

    proptest! {
        /// Of a thousand dice thrown evenly, as many win as the formula says.
        #[test]
        fn as_many_refresh_early_as_should(left in 1_u64..60_000, took in 1_u64..20_000, beta in 0.1_f64..4.0) {
            let times = Times { fresh: 60_000, stale: 0, kept: 60_000, took };
            let now = 1_000_000 + 60_000 - left;
            let early = (0..1000)
                .map(|n| (f64::from(n) + 0.5) / 1000.0)
                .filter(|unit| times.standing(1_000_000, now, beta, *unit) == Standing::Early)
                .count();
            let should = (-(left as f64) / (took as f64 * beta)).exp();
            prop_assert!((early as f64 / 1000.0 - should).abs() <= 0.001, "{early} of 1000, should be {should}");
        }

        /// Whatever the die says: the nearer the end and the slower the fetch, the sooner; and never wrong about the end.
        #[test]
        fn nearer_and_slower_is_sooner(
            unit in 0.0_f64..=1.0,
            age in 0_u64..12_000,
            took in 0_u64..20_000,
            beta in 0.0_f64..4.0,
        ) {
            let at = |age, took| Times { took, ..TIMES }.standing(0, age, beta, unit);
            let (now, later, slower) = (at(age, took), at(age + 1, took), at(age, took + 1));
            prop_assert_eq!(matches!(now, Standing::Fresh | Standing::Early), age < 10_000);
            if now == Standing::Early {
                prop_assert!(later != Standing::Fresh && slower == Standing::Early);
            }
            if beta == 0.0 || took == 0 {
                prop_assert!(now != Standing::Early);
            }
        }
    }
}
