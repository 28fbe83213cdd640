//! Logs of call times, exact by construction.
//!
//! A sliding log allows a call at `t` when fewer than `calls` allowed calls lie in
//! `(t - per, t]`. No rate, no refill and no clock but the argument: it proves a
//! token bucket because it has nothing in common with one.

use std::{collections::VecDeque, time::Duration};

use super::Shape;
use crate::provider::window::Window;

/// Exact log of allowed calls.
#[derive(Debug)]
pub struct SlidingLog {
    window: Window,
    times: VecDeque<Duration>,
}

impl SlidingLog {
    /// An empty log.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            times: VecDeque::new(),
        }
    }

    /// Counts a call at `now` if the window has room. Times must not run backwards.
    pub fn allow(&mut self, now: Duration) -> bool {
        let room = self.used(now) < self.window.calls;
        if room {
            self.times.push_back(now);
        }
        room
    }

    fn used(&mut self, now: Duration) -> u32 {
        forget_before(&mut self.times, self.window.per, now);
        self.times.len() as u32
    }

    /// When the oldest call leaves the window if it is full, else when all have left.
    fn resets_at(&self, now: Duration) -> Duration {
        let full = self.times.len() >= self.window.calls as usize;
        let last = if full {
            self.times.front()
        } else {
            self.times.back()
        };
        last.map_or(now, |at| *at) + self.window.per
    }
}

#[derive(Debug)]
struct FixedWindow {
    window: Window,
    opened: Duration,
    used: u32,
}

impl FixedWindow {
    fn used(&mut self, now: Duration) -> u32 {
        if self.used == 0 || now >= self.opened + self.window.per {
            self.opened = now;
            self.used = 0;
        }
        self.used
    }
}

#[derive(Debug)]
enum Log {
    Sliding(SlidingLog),
    Fixed(FixedWindow),
}

/// Counts every call that came, allowed or not: `worst` must be able to pass the limit.
#[derive(Debug)]
struct Meter {
    times: VecDeque<Duration>,
    capacity: usize,
}

impl Meter {
    fn saw(&mut self, per: Duration, now: Duration) -> usize {
        forget_before(&mut self.times, per, now);
        if self.times.len() == self.capacity {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.times.len()
    }
}

/// One limit as it counts for one scope.
#[derive(Debug)]
pub(super) struct Gate {
    window: Window,
    log: Log,
    meter: Meter,
}

impl Gate {
    pub(super) fn new(window: Window, shape: Shape) -> Self {
        let log = match shape {
            Shape::Sliding => Log::Sliding(SlidingLog::new(window)),
            Shape::Fixed => Log::Fixed(FixedWindow {
                window,
                opened: Duration::ZERO,
                used: 0,
            }),
        };
        let capacity = (window.calls as usize * 4).max(1024);
        Self {
            window,
            log,
            meter: Meter {
                times: VecDeque::new(),
                capacity,
            },
        }
    }

    pub(super) fn used(&mut self, now: Duration) -> u32 {
        match &mut self.log {
            Log::Sliding(log) => log.used(now),
            Log::Fixed(fixed) => fixed.used(now),
        }
    }

    pub(super) fn count(&mut self, now: Duration) {
        match &mut self.log {
            Log::Sliding(log) => log.times.push_back(now),
            Log::Fixed(fixed) => fixed.used += 1,
        }
    }

    pub(super) fn resets_at(&self, now: Duration) -> Duration {
        match &self.log {
            Log::Sliding(log) => log.resets_at(now),
            Log::Fixed(fixed) => fixed.opened + fixed.window.per,
        }
    }

    /// Meters a call that came, allowed or not; tells how many the window now holds.
    pub(super) fn saw(&mut self, now: Duration) -> usize {
        self.meter.saw(self.window.per, now)
    }

    /// Whether so many calls are as many as the meter can tell apart.
    pub(super) fn saturated(&self, came: usize) -> bool {
        came == self.meter.capacity
    }

    pub(super) fn idle(&mut self, now: Duration) -> bool {
        forget_before(&mut self.meter.times, self.window.per, now);
        self.meter.times.is_empty() && self.used(now) == 0
    }
}

/// A call exactly `per` ago has left the window.
fn forget_before(times: &mut VecDeque<Duration>, per: Duration, now: Duration) {
    while times.front().is_some_and(|at| *at + per <= now) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    proptest! {
        #[test]
        fn the_log_agrees_with_a_naive_count(
            calls in 1u32..8,
            per in 1u64..50,
            gaps in prop::collection::vec(0u64..12, 1..200),
        ) {
            let mut log = SlidingLog::new(Window::new(calls, ms(per)));
            let mut allowed: Vec<u64> = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                let naive = allowed.iter().filter(|at| **at + per > now).count() < calls as usize;
                prop_assert_eq!(log.allow(ms(now)), naive);
                if naive {
                    allowed.push(now);
                }
            }
            for end in &allowed {
                let inside = allowed.iter().filter(|at| **at <= *end && **at + per > *end).count();
                prop_assert!(inside <= calls as usize);
            }
        }
    }

    #[test]
    fn a_call_exactly_one_window_later_is_allowed() {
        let mut log = SlidingLog::new(Window::per_second(2));
        assert!(log.allow(ms(0)) && log.allow(ms(500)));
        assert!(!log.allow(ms(999)));
        assert!(log.allow(ms(1000)));
        assert!(!log.allow(ms(1499)));
    }
}
