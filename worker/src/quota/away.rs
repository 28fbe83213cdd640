//! What happens to a service while Redis cannot be asked: nothing, or a share of its limit that every worker keeps by
//! itself.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::limiter::{Bucket, Charge};

/// After so long without Redis nothing is left of what was booked: what lies furthest ahead, and how long it lasts.
const SHARE_AFTER: Duration = Duration::from_millis(1_000);
/// The share of a limit that all workers together use while they cannot agree.
const SHARE: f64 = 0.5;

/// `WEIR_SERVICE_<NAME>_REDIS_AWAY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// No call begins.
    #[default]
    Stop,
    /// Each worker makes its share of half the limit.
    Share,
}

impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stop" => Ok(Self::Stop),
            "share" => Ok(Self::Share),
            other => Err(format!("is {other:?}: must be stop or share")),
        }
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Share => "share",
        })
    }
}

/// One service's way through an outage.
#[derive(Debug)]
pub(super) struct Away {
    policy: Policy,
    /// Workers that shared the limit when Redis was last asked.
    workers: AtomicU32,
    /// Since when Redis has not answered.
    since: Mutex<Option<Instant>>,
    /// Whether calls were made that Redis has not heard of.
    owing: AtomicBool,
    share: Mutex<Option<(Duration, DefaultDirectRateLimiter)>>,
}

impl Away {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            workers: AtomicU32::new(1),
            since: Mutex::new(None),
            owing: AtomicBool::new(false),
            share: Mutex::new(None),
        }
    }

    /// Redis has not answered.
    pub(super) fn lost(&self) {
        self.since().get_or_insert_with(Instant::now);
    }

    /// Redis has answered.
    pub(super) fn found(&self) {
        *self.since() = None;
    }

    /// For how long Redis has not answered; `None` when it does.
    pub(super) fn away(&self) -> Option<Duration> {
        self.since().map(|since| since.elapsed())
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls go on without Redis.
    pub(super) fn shares(&self) -> bool {
        self.policy == Policy::Share
    }

    /// Redis has said how many workers share the limit.
    pub(super) fn workers(&self, workers: u32) {
        self.workers.store(workers, Ordering::Relaxed);
    }

    /// Workers that share the limit, as far as is known.
    pub(super) fn known_workers(&self) -> u32 {
        self.workers.load(Ordering::Relaxed)
    }

    /// Whether a call under these limits may begin without Redis; else in how long to ask again, if ever.
    pub(super) fn pass(&self, base: &[Charge]) -> Result<(), Option<Duration>> {
        if !self.shares() {
            return Err(None);
        }
        // What the workers have booked comes first.
        let left = SHARE_AFTER.saturating_sub(self.away().unwrap_or_default());
        if !left.is_zero() {
            return Err(Some(left));
        }
        let interval = interval(base, self.known_workers());
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        if share.as_ref().is_none_or(|(known, _)| *known != interval) {
            let quota = Quota::with_period(interval)
                .ok_or(None)?
                .allow_burst(NonZeroU32::MIN);
            let limiter = RateLimiter::direct(quota);
            // Nobody knows when the last call was: the first one waits like the others.
            let _ = limiter.check();
            *share = Some((interval, limiter));
        }
        let Some((_, limiter)) = share.as_ref() else {
            return Err(None);
        };
        match limiter.check() {
            Ok(()) => {
                self.owing.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(not_until) => Err(Some(not_until.wait_time_from(DefaultClock::default().now()))),
        }
    }

    /// Whether calls were made that Redis has not heard of; asked once.
    pub(super) fn settle(&self) -> bool {
        self.owing.swap(false, Ordering::Relaxed)
    }
}

/// Between two calls of one worker, so that the slowest of the limits keeps to its share.
fn interval(base: &[Charge], workers: u32) -> Duration {
    let slowest = base
        .iter()
        .filter(|charge| !charge.shadow)
        .map(|charge| match Bucket::from(charge.rule) {
            Bucket::Paced { interval, .. } => interval * f64::from(charge.cost),
            Bucket::Window { calls, period, .. } => period / calls * f64::from(charge.cost),
            // A worker cannot know how many calls the others have under way: as if each took a second.
            Bucket::AtOnce { calls } => 1e6 / calls,
        });
    let slowest = slowest.fold(1.0, f64::max);
    Duration::from_secs_f64(slowest * f64::from(workers.max(1)) / SHARE / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_keeps_its_share_of_half_the_slowest_limit() {
        let charge = |rule: &str, cost| Charge {
            key: "{x}:y".into(),
            rule: rule.parse().unwrap(),
            cost,
            shadow: false,
        };
        let base = [charge("100 per second", 1), charge("600 per minute", 2)];
        let near = |got: Duration, expected: f64| (got.as_secs_f64() - expected).abs() < 0.01 * expected;
        assert!(near(interval(&base, 4), 1.6), "{:?}", interval(&base, 4));
        let away = Away::new(Policy::Share);
        away.workers(4);
        assert!(
            away.pass(&base).unwrap_err().unwrap() > Duration::from_millis(900),
            "booked tickets first"
        );
        *away.since() = Instant::now().checked_sub(SHARE_AFTER);
        assert!(
            away.pass(&base).unwrap_err().unwrap() > Duration::from_secs(1),
            "no call at once"
        );
        assert!(!away.settle());
        let quick = [charge("1_000_000 per second", 1)];
        while away.pass(&quick).is_err() {}
        assert!(away.settle() && !away.settle());
        assert_eq!(Away::new(Policy::Stop).pass(&base), Err(None));
    }
}
