//! Limits in the providers' own words.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::value::{duration, show_duration};

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

    /// Calls that may come at once after idleness.
    pub fn burst(&self) -> u32 {
        self.burst
    }
}

/// How a provider limits one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// So many in any window of the period, wherever it begins, spread over it: right for every provider that counts
    /// in windows, fixed or sliding, or with a bucket.
    Paced(Limit),
    /// So many in a window that begins with its first call, or, `aligned`, at a whole multiple of the period since the
    /// Unix epoch; all of them may come at once.
    Window {
        /// Calls in a window.
        calls: u32,
        /// Its length.
        period: Duration,
        /// Where it begins.
        aligned: bool,
    },
    /// So many at a time.
    AtOnce(u32),
}

impl Rule {
    /// The most that one call may cost: more would never be let through.
    pub fn most(&self) -> u32 {
        match self {
            Self::Paced(limit) => limit.burst(),
            Self::Window { calls, .. } => *calls,
            Self::AtOnce(_) => 1,
        }
    }

    /// Calls in a period, or at a time.
    pub fn calls(&self) -> u32 {
        match self {
            Self::Paced(limit) => limit.calls(),
            Self::Window { calls, .. } | Self::AtOnce(calls) => *calls,
        }
    }

    /// The shortest time that the rule speaks of; `None` when it knows no time.
    pub fn period(&self) -> Option<Duration> {
        match self {
            Self::Paced(limit) => Some(limit.period()),
            Self::Window { period, .. } => Some(*period),
            Self::AtOnce(_) => None,
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    /// Reads `5000 per hour, burst 100`, `1000 per day, fixed`, `1000 per day, aligned`, `100 at once`, and all that
    /// [`Limit`] reads.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(calls) = text.trim().strip_suffix("at once") {
            return match number(calls.trim()) {
                Some(0) => Err("allows no call at all".into()),
                Some(calls) => Ok(Self::AtOnce(calls)),
                None => Err(wrong(text)),
            };
        }
        let Some((rate, how @ ("fixed" | "aligned"))) = text.split_once(',').map(|(r, how)| (r, how.trim()))
        else {
            return text.parse().map(Self::Paced);
        };
        let limit: Limit = rate.parse()?;
        Ok(Self::Window {
            calls: limit.calls(),
            period: limit.period(),
            aligned: how == "aligned",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paced(limit) => limit.fmt(f),
            Self::Window {
                calls,
                period,
                aligned,
            } => {
                let how = if *aligned { "aligned" } else { "fixed" };
                write!(f, "{calls} per {}, {how}", show_period(*period))
            }
            Self::AtOnce(calls) => write!(f, "{calls} at once"),
        }
    }
}

fn wrong(text: &str) -> String {
    format!("{text:?} is no limit: write `5000 per hour, burst 100`, `1000 per day, fixed` or `100 at once`")
}

/// A count as people write it: `5000` or `3,000,000`.
fn number(text: &str) -> Option<u32> {
    let mut groups = text.split('_');
    let first = groups.next()?;
    let rest: Vec<&str> = groups.collect();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (digits(first) && rest.iter().all(|part| part.len() == 3 && digits(part)))
        .then(|| text.replace('_', "").parse().ok())
        .flatten()
}

fn show_period(period: Duration) -> String {
    match (period.as_secs(), period.subsec_nanos()) {
        (1, 0) => "second".into(),
        (60, 0) => "minute".into(),
        (3600, 0) => "hour".into(),
        (86_400, 0) => "day".into(),
        _ => show_duration(period),
    }
}

impl FromStr for Limit {
    type Err = String;

    /// Reads `5000 per hour, burst 100`, `100 per minute`, `50 per second`, `90 per 30s`, `3_000_000 per hour`. Without
    /// a burst: a fiftieth of the calls, at least 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (
                rate,
                Some(burst.trim().strip_prefix("burst").ok_or_else(|| wrong(text))?),
            ),
            None => (text, None),
        };
        let (calls, period) = rate.split_once(" per ").ok_or_else(|| wrong(text))?;
        let calls = number(calls.trim()).ok_or_else(|| wrong(text))?;
        let period = match period.trim() {
            "second" => Duration::from_secs(1),
            "minute" => Duration::from_secs(60),
            "hour" => Duration::from_secs(3600),
            "day" => Duration::from_secs(86_400),
            other => duration(other).map_err(|_| wrong(text))?,
        };
        let burst = match burst {
            Some(burst) => number(burst.trim()).ok_or_else(|| wrong(text))?,
            None => (calls / 50).max(1),
        };
        Self::new(calls, period, burst)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = show_period(self.period);
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
            (
                "3_000_000 per hour, burst 10_000",
                "3000000 per hour, burst 10000",
            ),
            ("1000 per day, fixed", "1000 per day, fixed"),
            ("60 per minute, aligned", "60 per minute, aligned"),
            ("100 at once", "100 at once"),
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rule));
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
            "0 at once",
            "x at once",
            "at once",
            "0 per day, fixed",
            "5_0 per hour",
            "+5 per hour",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad:?}");
        }
    }
}
