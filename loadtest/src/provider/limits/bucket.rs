//! A literal token bucket: a level that rises with time and falls with calls.
//!
//! The level is kept in whole parts of a call, one part for each nanosecond of the period, so that nothing is rounded:
//! in a nanosecond as many parts come back as calls are allowed in a period.

use std::time::Duration;

use super::counting::Counting;
use crate::provider::window::Window;

/// A bucket, full at first.
#[derive(Debug)]
pub(super) struct TokenBucket {
    window: Window,
    burst: u32,
    level: u128,
    filled: Duration,
}

impl TokenBucket {
    pub(super) fn new(window: Window, burst: u32) -> Self {
        let mut bucket = Self {
            window,
            burst,
            level: 0,
            filled: Duration::ZERO,
        };
        bucket.level = bucket.parts(burst);
        bucket
    }

    fn parts(&self, calls: u32) -> u128 {
        u128::from(calls) * self.window.per.as_nanos()
    }

    /// When the level reaches so many parts if nothing is taken.
    fn reaches(&self, level: u128) -> Duration {
        let missing = level.saturating_sub(self.level);
        self.filled + Duration::from_nanos_u128(missing.div_ceil(u128::from(self.window.calls.max(1))))
    }
}

impl Counting for TokenBucket {
    fn size(&self) -> u32 {
        self.burst
    }

    /// Started parts of a call count as used: only whole tokens can be spent.
    fn used(&mut self, now: Duration) -> u32 {
        let passed = now.saturating_sub(self.filled).as_nanos();
        self.level = (self.level + passed * u128::from(self.window.calls)).min(self.parts(self.burst));
        self.filled = now;
        self.burst - (self.level / self.window.per.as_nanos().max(1)) as u32
    }

    fn count(&mut self, _: Duration, cost: u32) {
        self.level = self.level.saturating_sub(self.parts(cost));
    }

    fn resets_at(&self, _: Duration) -> Duration {
        self.reaches(self.parts(self.burst))
    }

    fn room_at(&self, now: Duration, cost: u32) -> Duration {
        self.reaches(self.parts(cost.min(self.burst))).max(now)
    }
}
