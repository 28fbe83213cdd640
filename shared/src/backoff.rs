//! When to try again: a list of delays a service, spread by jitter.

use std::str::FromStr;
use std::time::Duration;

use crate::config::value::{duration, show_duration};

/// Longest wait that a provider's `Retry-After` is believed, one hour: an absurd value must not park events.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Most retries a schedule may hold.
pub const MAX_RETRIES: usize = 50;

/// The delays before the 2nd, 3rd, … attempt; when they are used up, the event is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Schedule {
    /// The delay before the next attempt when `failed` attempts have failed, `None` when none is left. `unit` in
    /// `0..1` spreads it over 0.8 to 1.2 of the schedule's figure, so that what failed together does not return
    /// together; `retry_after` (at most [`MAX_RETRY_AFTER`]) is a lower bound.
    pub fn delay(&self, failed: u32, retry_after: Option<Duration>, unit: f64) -> Option<Duration> {
        let base = *self.0.get(failed.checked_sub(1)? as usize)?;
        let spread = base.mul_f64(0.8 + 0.4 * unit.clamp(0.0, 1.0));
        Some(spread.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
    }

    /// How many attempts an event gets in all.
    pub fn attempts(&self) -> u32 {
        self.0.len() as u32 + 1
    }
}

impl Default for Schedule {
    /// 5 s, 30 s, 2 min, 10 min, 1 h: five retries over about 75 minutes.
    fn default() -> Self {
        Self([5, 30, 120, 600, 3600].map(Duration::from_secs).to_vec())
    }
}

impl FromStr for Schedule {
    type Err = String;

    /// Reads `5s, 30s, 2m`; `none` for no retry at all.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let delays = text.split(',').map(duration).collect::<Result<Vec<_>, _>>()?;
        if delays.len() > MAX_RETRIES {
            return Err(format!(
                "holds {} delays, at most {MAX_RETRIES} make sense",
                delays.len()
            ));
        }
        let most = Duration::from_secs(7 * 24 * 3600);
        if delays.iter().any(|d| d.is_zero() || *d > most) {
            return Err("has a delay that is zero or above 7 days".into());
        }
        Ok(Self(delays))
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let shown: Vec<_> = self.0.iter().map(|d| show_duration(*d)).collect();
        f.write_str(&shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_shows() {
        let schedule: Schedule = "5s, 2m,1h".parse().unwrap();
        assert_eq!(schedule.to_string(), "5s, 2m, 1h");
        assert_eq!(schedule.attempts(), 4);
        assert_eq!("none".parse::<Schedule>().unwrap().attempts(), 1);
        for bad in ["", "5", "0s", "8d", "5s,,2m", "x"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn delays_are_spread_bounded_and_end(failed in 0_u32..20, unit in -1.0..2.0, after in 0_u64..1_000_000) {
            let schedule = Schedule::default();
            let after = Duration::from_secs(after);
            match schedule.delay(failed, Some(after), unit) {
                None => prop_assert!(failed == 0 || failed > 5),
                Some(delay) => {
                    prop_assert!((1..=5).contains(&failed));
                    prop_assert!(delay >= after.min(MAX_RETRY_AFTER));
                    prop_assert!(delay <= Duration::from_secs(3600).mul_f64(1.2));
                }
            }
        }
    }
}
