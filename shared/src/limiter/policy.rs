//! Limits in the providers' own words, and the bucket that can never let more through than they say.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Bucket;
use crate::config::value::{duration, show_duration};

/// How far the network may pull two calls together between our clock and the provider's.
pub const JITTER: Duration = Duration::from_millis(100);

/// So many calls in a period, and how many of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    calls: u32,
    period: Duration,
    burst: u32,
}

impl Limit {
    /// Checks and takes a limit: at least one call, a burst of at least 1 and at most `calls`, a period of 100 ms to
    /// 31 days.
    pub fn new(calls: u32, period: Duration, burst: u32) -> Result<Self, String> {
        if calls == 0 {
            return Err("allows no call at all".into());
        }
        if burst == 0 || burst > calls {
            return Err(format!("has a burst of {burst}: must be from 1 to {calls}"));
        }
        if period < Duration::from_millis(100) || period > Duration::from_secs(31 * 86_400) {
            return Err("has a period outside 100ms to 31d".into());
        }
        Ok(Self { calls, period, burst })
    }

    /// Calls in a period.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// The period.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The bucket that keeps this limit in every window of the provider, fixed or sliding.
    ///
    /// A bucket of burst b that refills every i lets at most `b + floor(T / i)` calls into any window of length T.
    /// With `i = (period + JITTER) / (calls - b + 1)` that is at most `calls` for every T up to period + JITTER.
    pub fn bucket(&self) -> Bucket {
        let window = (self.period + JITTER).as_micros() as u64;
        let refills = u64::from(self.calls - self.burst) + 1;
        Bucket::new(window.div_ceil(refills), self.burst)
    }
}

impl FromStr for Limit {
    type Err = String;

    /// Reads `5000 per hour, burst 100`, `100 per minute`, `50 per second`, `90 per 30s`. Without a burst: a fiftieth
    /// of the calls, at least 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no limit: write `5000 per hour, burst 100`");
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (rate, Some(burst.trim().strip_prefix("burst").ok_or_else(wrong)?)),
            None => (text, None),
        };
        let (calls, period) = rate.split_once(" per ").ok_or_else(wrong)?;
        let calls: u32 = calls.trim().parse().map_err(|_| wrong())?;
        let period = match period.trim() {
            "second" => Duration::from_secs(1),
            "minute" => Duration::from_secs(60),
            "hour" => Duration::from_secs(3600),
            "day" => Duration::from_secs(86_400),
            other => duration(other).map_err(|_| wrong())?,
        };
        let burst = match burst {
            Some(burst) => burst.trim().parse().map_err(|_| wrong())?,
            None => (calls / 50).max(1),
        };
        Self::new(calls, period, burst)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period.as_secs() {
            1 => "second".into(),
            60 => "minute".into(),
            3600 => "hour".into(),
            86_400 => "day".into(),
            _ => show_duration(self.period),
        };
        write!(f, "{} per {period}, burst {}", self.calls, self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_providers_words() {
        for (text, shown) in [
            ("5000 per hour, burst 100", "5000 per hour, burst 100"),
            ("100 per minute", "100 per minute, burst 2"),
            ("1 per second", "1 per second, burst 1"),
            ("90 per 30s, burst 9", "90 per 30s, burst 9"),
        ] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "5000",
            "5000 per",
            "0 per hour",
            "5 per hour, burst 0",
            "5 per hour, burst 6",
            "5 per 1ms",
            "5 per 99d",
            "-5 per hour",
            "5 per hour burst 2",
            "5 per hour, peak 2",
            "99999999999 per hour",
        ] {
            assert!(bad.parse::<Limit>().is_err(), "{bad:?}");
        }
    }
}
