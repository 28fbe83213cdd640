//! How many workers a service can make use of, told from what its queue does. Pure: time is an argument.
//!
//! Depth alone is a poor signal: a queue that waits for quota is deep however many workers stand by, and one that is
//! worked off in a second needs none of those that its depth calls for. So the demand is told in workers:
//!
//! ```text
//! calls at once = min( arrivals * S + backlog * S / drain,  quota * S * 1.25,  what may be unacked )
//! demand        = calls at once / concurrency of a worker
//! ```
//!
//! S is the time that one attempt takes, by Little's law: messages held by workers / attempts that end per second. Retries
//! that wait for their time, for a limit above all, lie in another stream and are no backlog. While no upstream is in
//! service, one worker is enough to find out when one is back.

mod advice;
mod rates;

use std::time::Duration;

pub use advice::{Advice, Adviser, Thresholds};
pub use rates::{Rates, Sample};

/// How much more than the quota's own share may be asked for: attempts that end early and limits that others use less
/// must not leave quota unused.
pub const QUOTA_HEADROOM: f64 = 1.25;
/// A demand above this is told as this.
pub const MOST_WORKERS: u64 = 100_000;

/// What a service's queue does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Messages that come, per second: new ones and retries whose time has come.
    pub arrivals: f64,
    /// Time that one attempt takes, in seconds; `None` while none was seen to end.
    pub service_time: Option<f64>,
    /// Messages that no worker holds.
    pub pending: u64,
    /// Messages that workers hold.
    pub unacked: u64,
}

/// What one worker does of a service, and what all workers together may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Events in flight at once in one worker, at least 1.
    pub concurrency: u32,
    /// Longest time of an attempt; bounds what is measured. Zero when workers do not tell.
    pub timeout: Duration,
    /// Calls that the limits allow, per second; `None` without a limit.
    pub per_second: Option<f64>,
    /// Calls that the limits allow at a time; `None` without a limit.
    pub at_once: Option<u32>,
}

/// What else a demand depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The time in which a backlog is to be gone.
    pub drain: Duration,
    /// Messages that the server lets be unacked.
    pub most_unacked: u64,
    /// Whether any upstream is in service. While none is, workers can only wait.
    pub in_service: bool,
}

/// Workers that a service can make use of, and what they were told from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Workers, in thousandths.
    pub milli: u64,
    /// What the queue does.
    pub load: Load,
    /// What bounds it.
    pub bound: Bound,
}

/// What autoscalers get, and what those do who have none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Useful workers.
    pub demand: Demand,
    /// A count that does not change all the time.
    pub advice: Advice,
}

/// What a demand is bounded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Nothing: it is what arrivals and backlog call for.
    Load,
    /// The limits of the API.
    Quota,
    /// The messages that may be unacked.
    Unacked,
    /// Something waits, so one worker is needed, however little it is.
    Floor,
    /// No upstream is in service: one worker tries whether one is back.
    OutOfService,
    /// No worker ever said how much it does at once, or how long that takes: so many as are at work, and one at least.
    Unmeasured,
}

impl Bound {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Quota => "quota",
            Self::Unacked => "unacked",
            Self::Floor => "floor",
            Self::OutOfService => "out_of_service",
            Self::Unmeasured => "unmeasured",
        }
    }
}

/// The workers that a service can make use of.
///
/// Never negative, never more than [`MOST_WORKERS`], one at least while anything is left to do.
pub fn demand(load: Load, capacity: Option<Capacity>, frame: Frame) -> Demand {
    let Frame {
        drain,
        most_unacked,
        in_service,
    } = frame;
    let backlog = load.pending.saturating_add(load.unacked);
    let concurrency = capacity.map_or(1.0, |capacity| f64::from(capacity.concurrency.max(1)));
    let at_once = capacity.and_then(|capacity| capacity.at_once);
    let measured = capacity.zip(load.service_time.filter(|time| time.is_finite() && *time >= 0.0));
    let (calls, bound) = match measured {
        Some((capacity, time)) => {
            let longest = capacity.timeout.as_secs_f64();
            let time = if longest > 0.0 { time.min(longest) } else { time };
            let wanted =
                positive(load.arrivals) * time + backlog as f64 * time / drain.as_secs_f64().max(1e-3);
            let quota = capacity
                .per_second
                .map_or(f64::INFINITY, |rate| positive(rate) * time * QUOTA_HEADROOM);
            least(wanted, quota, at_once, most_unacked)
        }
        // How many there are at work is known even so. Without a concurrency it is not known how many workers that are.
        None => {
            let at_work = if capacity.is_some() {
                load.unacked as f64
            } else {
                0.0
            };
            let (calls, _) = least(at_work, f64::INFINITY, at_once, most_unacked);
            (calls, Bound::Unmeasured)
        }
    };
    // Rounded up: what is needed a little is needed.
    let milli = (calls / concurrency * 1_000.0)
        .ceil()
        .clamp(0.0, MOST_WORKERS as f64 * 1_000.0) as u64;
    let (milli, bound) = match bound {
        _ if backlog == 0 || milli >= 1_000 => (milli, bound),
        // Why it is so few is more to know than that it is one.
        Bound::Unmeasured | Bound::Quota => (1_000, bound),
        _ => (1_000, Bound::Floor),
    };
    let (milli, bound) = if in_service || milli <= 1_000 {
        (milli, bound)
    } else {
        (1_000, Bound::OutOfService)
    };
    Demand { milli, load, bound }
}

/// The smallest of what is wanted and what bounds it, and which of them it is.
fn least(wanted: f64, quota: f64, at_once: Option<u32>, most_unacked: u64) -> (f64, Bound) {
    let at_once = at_once.map_or(f64::INFINITY, |calls| f64::from(calls) * QUOTA_HEADROOM);
    let unacked = most_unacked as f64;
    let mut smallest = (wanted, Bound::Load);
    for (calls, bound) in [(quota.min(at_once), Bound::Quota), (unacked, Bound::Unacked)] {
        if calls < smallest.0 {
            smallest = (calls, bound);
        }
    }
    smallest
}

fn positive(rate: f64) -> f64 {
    if rate.is_finite() { rate.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests;
