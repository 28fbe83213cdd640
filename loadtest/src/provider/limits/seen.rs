//! What was seen of a limit, and how much of it could have been used.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{shape::Shape, window::next_edge};
use crate::provider::window::Window;

/// What was seen of one limit, of all credentials (or channels, or paths) that it counts apart.
///
/// `spent / capacity` is how much of the limit was used. Both are about the same time: for windows, the whole periods
/// that have ended since the first call, so that the one that is still running distorts nothing; for a bucket, all the
/// time since the first call. What is counted apart begins apart, with its own first call, and is added up.
///
/// | way of counting | `capacity` | the periods begin |
/// |---|---|---|
/// | sliding, fixed | `calls` × whole periods | with the first call |
/// | aligned | `calls` × whole periods | with the first edge of the clock not before the first call |
/// | bucket | burst + `calls` × time / period, rounded down | with the first call |
///
/// It is the most that this way of counting can allow in that time, whatever comes when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStats {
    /// Calls (or points) the limit allows in a period.
    pub calls: u32,
    /// The period in milliseconds.
    pub per_ms: u64,
    /// How it counts.
    pub shape: Shape,
    /// Calls allowed.
    pub allowed: u64,
    /// Calls over this limit.
    pub breaches: u64,
    /// The highest cost, refused calls included, that came in any one period from one credential.
    pub worst: u64,
    /// True when more came than the meter can hold; `worst` is then a lower bound.
    pub worst_saturated: bool,
    /// What the allowed calls cost in the time that `capacity` is about.
    pub spent: u64,
    /// The most they could have cost in it; 0 when no whole period has ended yet.
    pub capacity: u64,
}

impl LimitStats {
    pub(super) fn new(window: Window, shape: Shape) -> Self {
        Self {
            calls: window.calls,
            per_ms: window.per.as_millis() as u64,
            shape,
            allowed: 0,
            breaches: 0,
            worst: 0,
            worst_saturated: false,
            spent: 0,
            capacity: 0,
        }
    }

    /// `spent` of `capacity`, 0 to 1; `None` when nothing can be told yet.
    pub fn used_share(&self) -> Option<f64> {
        (self.capacity > 0).then(|| self.spent as f64 / self.capacity as f64)
    }
}

/// What one scope spent since its first call, and in the whole periods of it that have ended.
#[derive(Debug)]
pub(super) struct Course {
    window: Window,
    shape: Shape,
    begins: Duration,
    ended: u128,
    spent_in_ended: u64,
    spent_since: u64,
}

impl Course {
    /// Begins with a first call at `now`.
    pub(super) fn new(window: Window, shape: Shape, origin: Duration, now: Duration) -> Self {
        let begins = match shape {
            Shape::Aligned => {
                let last_nano = now.saturating_sub(Duration::from_nanos(1));
                next_edge(last_nano, origin, window.per)
            }
            Shape::Sliding | Shape::Fixed | Shape::Bucket { .. } => now,
        };
        Self {
            window,
            shape,
            begins,
            ended: 0,
            spent_in_ended: 0,
            spent_since: 0,
        }
    }

    /// Counts an allowed call.
    pub(super) fn spend(&mut self, now: Duration, cost: u32) {
        if now < self.begins {
            return;
        }
        let ended = self.ended_at(now);
        if ended > self.ended {
            self.ended = ended;
            self.spent_in_ended += self.spent_since;
            self.spent_since = 0;
        }
        self.spent_since += u64::from(cost);
    }

    /// `spent` and `capacity` as [`LimitStats`] means them.
    pub(super) fn account(&self, now: Duration) -> (u64, u64) {
        let calls = u128::from(self.window.calls);
        if let Shape::Bucket { burst } = self.shape {
            let burst = burst.map_or(self.window.calls, u32::from);
            let nanos = now.saturating_sub(self.begins).as_nanos();
            let refilled = nanos * calls / self.window.per.as_nanos().max(1);
            let spent = self.spent_in_ended + self.spent_since;
            return (spent, u64::from(burst) + refilled as u64);
        }
        let ended = self.ended_at(now);
        let since = if ended > self.ended { self.spent_since } else { 0 };
        (self.spent_in_ended + since, (calls * ended) as u64)
    }

    fn ended_at(&self, now: Duration) -> u128 {
        now.saturating_sub(self.begins).as_nanos() / self.window.per.as_nanos().max(1)
    }
}
