//! One limit as it counts for one scope: a credential, a channel, a path.

use std::{collections::VecDeque, time::Duration};

use super::{
    Demand, Standing,
    counting::{Counting, counting},
    seen::Course,
};

/// Counts every call that came, allowed or not: the highest count must be able to pass the limit.
#[derive(Debug)]
struct Meter {
    per: Duration,
    calls: VecDeque<(Duration, u32)>,
    sum: u64,
    capacity: usize,
}

impl Meter {
    fn saw(&mut self, now: Duration, cost: u32) {
        self.forget(now);
        if self.calls.len() == self.capacity {
            self.drop_oldest();
        }
        self.calls.push_back((now, cost));
        self.sum += u64::from(cost);
    }

    /// A call exactly one period ago has left.
    fn forget(&mut self, now: Duration) {
        while self.calls.front().is_some_and(|(at, _)| *at + self.per <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, cost)) = self.calls.pop_front() {
            self.sum -= u64::from(cost);
        }
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    counting: Box<dyn Counting>,
    meter: Meter,
    pub(super) course: Course,
}

impl Gate {
    /// A gate for what has its first call at `now`.
    pub(super) fn new(demand: &Demand, origin: Duration, now: Duration) -> Self {
        let Demand { window, shape, .. } = *demand;
        Self {
            counting: counting(shape, window, origin),
            meter: Meter {
                per: window.per,
                calls: VecDeque::new(),
                sum: 0,
                capacity: (window.calls as usize * 4).max(1024),
            },
            course: Course::new(window, shape, origin, now),
        }
    }

    pub(super) fn has_room(&mut self, now: Duration, cost: u32) -> bool {
        self.counting.used(now).saturating_add(cost) <= self.counting.size()
    }

    pub(super) fn count(&mut self, now: Duration, cost: u32) {
        self.counting.count(now, cost);
        self.course.spend(now, cost);
    }

    /// How it stands for the next call of this cost.
    pub(super) fn standing(&mut self, now: Duration, cost: u32) -> Standing {
        Standing {
            used: self.counting.used(now),
            limit: self.counting.size(),
            resets_at: self.counting.resets_at(now),
            room_at: self.counting.room_at(now, cost),
        }
    }

    /// Meters a call that came, allowed or not; tells what now came in a period, and whether that is as much as the
    /// meter can tell.
    pub(super) fn saw(&mut self, now: Duration, cost: u32) -> (u64, bool) {
        self.meter.saw(now, cost);
        (self.meter.sum, self.meter.calls.len() == self.meter.capacity)
    }

    pub(super) fn is_idle(&mut self, now: Duration) -> bool {
        self.meter.forget(now);
        self.meter.calls.is_empty() && self.counting.used(now) == 0
    }
}
