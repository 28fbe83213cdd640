//! A count of workers for those who have no autoscaler: raised when the load is high, lowered when it is low, and left
//! alone in between.

use std::time::Duration;

/// When the count is changed, and how far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Load from which the count is raised.
    pub up: f64,
    /// Load down to which the count is lowered.
    pub down: f64,
    /// Least workers.
    pub least: u32,
    /// Most workers.
    pub most: u32,
    /// Pause after a change until the count is lowered.
    pub cooldown: Duration,
    /// Pause between two decisions.
    pub every: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            up: 0.8,
            down: 0.3,
            least: 2,
            most: 10,
            cooldown: Duration::from_mins(5),
            every: Duration::from_mins(1),
        }
    }
}

/// How many workers to run of a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    /// So many.
    pub workers: u32,
    /// What they are loaded with when they are that many: 1 is all that they can do.
    pub load: f64,
}

/// Keeps the count of one service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Adviser {
    workers: Option<u32>,
    changed: Duration,
    decided: Duration,
}

impl Adviser {
    /// The count for this demand, in thousandths of a worker, at `now`, counted from any fixed moment.
    ///
    /// A new count is one at which the load lies in the middle between both thresholds, within the bounds. It is raised
    /// at any decision, and lowered when it was not changed for the cooldown. The first count is the demand's.
    pub fn decide(&mut self, now: Duration, demand_milli: u64, thresholds: &Thresholds) -> Advice {
        let demand = demand_milli as f64 / 1_000.0;
        let load = |workers: u32| demand / f64::from(workers.max(1));
        let (least, most) = (
            thresholds.least.max(1),
            thresholds.most.max(thresholds.least).max(1),
        );
        let middle = f64::midpoint(thresholds.up, thresholds.down).max(f64::MIN_POSITIVE);
        let wanted = ((demand / middle).ceil() as u32).clamp(least, most);
        let workers = match self.workers {
            None => self.change(wanted, now),
            Some(workers) if now.saturating_sub(self.decided) < thresholds.every => workers,
            Some(workers) => {
                self.decided = now;
                let rested = now.saturating_sub(self.changed) >= thresholds.cooldown;
                if load(workers) >= thresholds.up && wanted > workers
                    || load(workers) <= thresholds.down && wanted < workers && rested
                {
                    self.change(wanted, now)
                } else {
                    workers
                }
            }
        };
        Advice {
            workers,
            load: load(workers),
        }
    }

    fn change(&mut self, workers: u32, now: Duration) -> u32 {
        *self = Self {
            workers: Some(workers),
            changed: now,
            decided: now,
        };
        workers
    }
}
