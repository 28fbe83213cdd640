//! A log of call times, exact by construction.
//!
//! It allows a call at `t` when the calls allowed in `(t - per, t]` leave room for its cost. No rate, no refill and no
//! clock but the argument: it proves a limiter because it has nothing in common with one.

use std::{collections::VecDeque, time::Duration};

use super::counting::Counting;
use crate::provider::window::Window;

/// Exact log of allowed calls.
#[derive(Debug)]
pub(super) struct SlidingLog {
    window: Window,
    calls: VecDeque<(Duration, u32)>,
    used: u32,
}

impl SlidingLog {
    /// An empty log.
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            calls: VecDeque::new(),
            used: 0,
        }
    }
}

impl Counting for SlidingLog {
    fn size(&self) -> u32 {
        self.window.calls
    }

    /// A call exactly one period ago has left.
    fn used(&mut self, now: Duration) -> u32 {
        while let Some((at, cost)) = self.calls.front().copied()
            && at + self.window.per <= now
        {
            self.calls.pop_front();
            self.used -= cost;
        }
        self.used
    }

    fn count(&mut self, now: Duration, cost: u32) {
        self.calls.push_back((now, cost));
        self.used += cost;
    }

    fn resets_at(&self, now: Duration) -> Duration {
        self.calls.front().map_or(now, |(at, _)| *at) + self.window.per
    }

    fn room_at(&self, now: Duration, cost: u32) -> Duration {
        let mut used = self.used;
        let mut at = now;
        for (called, theirs) in &self.calls {
            if used.saturating_add(cost) <= self.window.calls {
                break;
            }
            used -= theirs;
            at = *called + self.window.per;
        }
        at.max(now)
    }
}
