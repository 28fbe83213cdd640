//! The provider's clock: one reading for everything said about a call, and off by as much as asked for.

use std::time::{Duration, Instant, SystemTime};

/// Most that the clock may be off, in milliseconds either way: ten years.
pub const MAX_SKEW_MS: i64 = 10 * 365 * 86_400_000;

/// A clock that goes as fast as the machine's, never backwards, and is ahead of it or behind by a fixed time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Instant,
    /// What it showed at `started`, since the Unix epoch.
    origin: Duration,
}

impl Clock {
    /// A clock that is `skew_ms` ahead, behind when negative; more than [`MAX_SKEW_MS`] is cut to that.
    pub(super) fn new(skew_ms: i64) -> Self {
        let skew = Duration::from_millis(skew_ms.unsigned_abs().min(MAX_SKEW_MS.unsigned_abs()));
        let real = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            origin: if skew_ms < 0 {
                real.saturating_sub(skew)
            } else {
                real + skew
            },
        }
    }

    /// What it showed at its start, since the Unix epoch.
    pub(super) fn origin(&self) -> Duration {
        self.origin
    }

    /// Reads it.
    pub(super) fn now(&self) -> Moment {
        let since_start = self.started.elapsed();
        Moment {
            since_start,
            wall: SystemTime::UNIX_EPOCH + self.origin + since_start,
        }
    }
}

/// One reading of the clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the provider's start.
    pub since_start: Duration,
    /// What the provider takes for the time of day.
    pub wall: SystemTime,
}

impl Moment {
    /// Seconds since the epoch of a time since the start, rounded up: quota is back then for sure.
    pub fn epoch_seconds(&self, at: Duration) -> u64 {
        let ahead = at.saturating_sub(self.since_start);
        let since_epoch = (self.wall + ahead)
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        since_epoch.as_secs() + u64::from(since_epoch.subsec_nanos() > 0)
    }

    /// Whole seconds until a time since the start, rounded up, at least one.
    pub fn seconds_until(&self, at: Duration) -> u64 {
        let left = at.saturating_sub(self.since_start);
        (left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_off_by_what_was_asked() {
        let real = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
        let shown = |skew| {
            let wall = Clock::new(skew).now().wall;
            wall.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64()
        };
        for skew in [0, 90_000, -90_000] {
            let off = shown(skew) - real - skew as f64 / 1e3;
            assert!((0.0..5.0).contains(&off), "{skew}: {off}");
        }
        assert!(
            shown(i64::MIN) < real && shown(i64::MAX) > real,
            "cut, not overflown"
        );
    }

    #[test]
    fn times_are_rounded_up_to_seconds() {
        let now = Moment {
            since_start: Duration::from_millis(500),
            wall: SystemTime::UNIX_EPOCH + Duration::from_millis(9_400),
        };
        assert_eq!(now.epoch_seconds(Duration::from_millis(1_100)), 10);
        assert_eq!(now.epoch_seconds(Duration::from_millis(1_101)), 11);
        assert_eq!(now.epoch_seconds(Duration::ZERO), 10, "what is past is now");
        assert_eq!(now.seconds_until(Duration::from_millis(2_500)), 2);
        assert_eq!(now.seconds_until(Duration::from_millis(2_501)), 3);
        assert_eq!(now.seconds_until(Duration::ZERO), 1);
    }
}
