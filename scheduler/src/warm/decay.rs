//! A count that forgets: half of it is gone after a half-life.
//!
//! Exponential decay as in G. Cormode, V. Shkapenyuk, D. Srivastava, B. Xu, "Forward decay: a practical time decay model
//! for streaming systems" (ICDE 2009).

/// A decayed count. Its half-life is given with every use, and must always be the same.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Decayed {
    value: f32,
    at_ms: u64,
}

impl Decayed {
    /// One more, at `at_ms`. Times may come in any order: what comes late weighs what is left of it.
    pub(super) fn add(&mut self, at_ms: u64, half_life_ms: u64) {
        if at_ms >= self.at_ms {
            self.value = self.at(at_ms, half_life_ms) + 1.0;
            self.at_ms = at_ms;
        } else {
            self.value += left(self.at_ms - at_ms, half_life_ms);
        }
    }

    /// What is left of it at `now_ms`, never negative. Before the latest time that was added, nothing has decayed.
    pub(super) fn at(&self, now_ms: u64, half_life_ms: u64) -> f32 {
        self.value * left(now_ms.saturating_sub(self.at_ms), half_life_ms)
    }
}

/// What is left of 1 after `age_ms`.
fn left(age_ms: u64, half_life_ms: u64) -> f32 {
    (-(age_ms as f32) / half_life_ms.max(1) as f32).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn half_is_gone_after_a_half_life() {
        let mut count = Decayed::default();
        count.add(HOUR, HOUR);
        count.add(HOUR, HOUR);
        assert!((count.at(2 * HOUR, HOUR) - 1.0).abs() < 1e-6);
        assert!((count.at(0, HOUR) - 2.0).abs() < 1e-6);
        assert!(count.at(u64::MAX, HOUR).abs() < 1e-6);
    }

    #[test]
    fn the_order_of_times_makes_no_difference() {
        let (mut one, mut other) = (Decayed::default(), Decayed::default());
        for at in [1, 5, 3, 9, 2] {
            one.add(at * HOUR, HOUR);
        }
        for at in [9, 1, 2, 5, 3] {
            other.add(at * HOUR, HOUR);
        }
        assert!((one.at(10 * HOUR, HOUR) - other.at(10 * HOUR, HOUR)).abs() < 1e-6);
    }
}
