//! Windows that begin and end as a whole: all that was counted is forgotten at once.

use std::time::Duration;

use super::counting::Counting;
use crate::provider::window::Window;

/// A window of a period's length; it begins with its first call, or where a clock says.
#[derive(Debug)]
pub(super) struct FixedWindow {
    window: Window,
    /// What the clock showed at time zero; `None` when the first call opens the window.
    clock: Option<Duration>,
    ends: Option<Duration>,
    used: u32,
}

impl FixedWindow {
    pub(super) fn from_first_call(window: Window) -> Self {
        Self {
            window,
            clock: None,
            ends: None,
            used: 0,
        }
    }

    pub(super) fn aligned(window: Window, origin: Duration) -> Self {
        Self {
            clock: Some(origin),
            ..Self::from_first_call(window)
        }
    }

    fn end_of_one_opened(&self, now: Duration) -> Duration {
        match self.clock {
            None => now + self.window.per,
            Some(origin) => next_edge(now, origin, self.window.per),
        }
    }
}

impl Counting for FixedWindow {
    fn size(&self) -> u32 {
        self.window.calls
    }

    fn used(&mut self, now: Duration) -> u32 {
        if self.ends.is_some_and(|ends| ends <= now) {
            self.ends = None;
            self.used = 0;
        }
        self.used
    }

    fn count(&mut self, now: Duration, cost: u32) {
        self.ends = Some(self.resets_at(now));
        self.used += cost;
    }

    fn resets_at(&self, now: Duration) -> Duration {
        self.ends.unwrap_or_else(|| self.end_of_one_opened(now))
    }

    fn room_at(&self, now: Duration, cost: u32) -> Duration {
        if self.used.saturating_add(cost) <= self.window.calls {
            now
        } else {
            self.resets_at(now)
        }
    }
}

/// The first whole multiple of `per`, on a clock that showed `origin` at time zero, after `now`.
pub(super) fn next_edge(now: Duration, origin: Duration, per: Duration) -> Duration {
    let per = per.as_nanos().max(1);
    let ahead = per - (origin + now).as_nanos() % per;
    now + Duration::from_nanos_u128(ahead)
}
