//! When calls to an upstream stop, and when it is looked at again: pure, time is an argument.
//!
//! Workers count the calls that they make ([`window`]) and tell each other while any of them fail ([`Tally`]). When so
//! large a share of the fleet's calls has failed as the [`Rule`] says, one of them writes a [`Record`] for all: open, no
//! call goes there. After a time that grows from opening to opening one worker claims the probe (half-open) and makes
//! one call, which closes it or opens it again. A record that is not there means closed.

pub mod record;
pub mod window;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::value::{duration, show_duration};
pub use record::{Now, Record, Standing, State};
pub use window::{Heard, Window};

/// Longest time that an upstream stays out of service without a probe, whatever settings or records say.
pub const LONGEST_OPEN: Duration = Duration::from_secs(3600);

/// Calls and how many of them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Calls whose outcome says something of the upstream.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            failures: self.failures.saturating_add(other.failures),
        }
    }
}

/// What workers tell each other, JSON on the subject [`BREAKER`](crate::subject::BREAKER) of their service. What gets
/// lost is told again or found out later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub enum Word {
    /// Its calls to one upstream.
    Counts(Tally),
    /// It has changed a record.
    Changed {
        /// The record's key.
        key: String,
    },
}

/// A worker's calls to one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The key of the upstream's record.
    pub key: String,
    /// Which process: a word of its own.
    pub worker: String,
    /// Its calls within the window.
    pub counts: Counts,
    /// It is about to open the breaker and wants to hear the others' counts first.
    pub ask: bool,
}

/// What opens a breaker and for how long, as `50% of 10 in 30s, open 15s to 5m`: half or more of at least ten calls
/// within thirty seconds; then 15 s, twice as long with each opening in a row, five minutes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    share: u64,
    calls: u64,
    window: Duration,
    open: Duration,
    longest: Duration,
}

impl Rule {
    /// Whether these counts open the breaker.
    pub fn trips(&self, counts: Counts) -> bool {
        let enough = counts.calls >= self.calls && counts.failures > 0;
        enough && counts.failures.saturating_mul(100) >= counts.calls.saturating_mul(self.share)
    }

    /// How far back calls count.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// How long it stays open the `openings`-th time in a row, from 1. `unit` in `0..1` spreads it over 0.8 to 1.2 of
    /// that.
    pub fn open_for(&self, openings: u32, unit: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(openings.saturating_sub(1).min(20));
        let grown = self.open.saturating_mul(doubled).min(self.longest);
        grown.mul_f64(0.8 + 0.4 * unit.clamp(0.0, 1.0)).min(self.longest)
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            share: 50,
            calls: 10,
            window: Duration::from_secs(30),
            open: Duration::from_secs(15),
            longest: Duration::from_secs(300),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share, calls, .. } = self;
        let [window, open, longest] = [self.window, self.open, self.longest].map(show_duration);
        write!(f, "{share}% of {calls} in {window}, open {open} to {longest}")
    }
}

impl FromStr for Rule {
    type Err = String;

    /// Reads `50% of 10 in 30s, open 15s` or `…, open 15s to 5m`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "{text:?} is no rule of a breaker: write off, 50% of 10 in 30s, open 15s, or … open 15s to 5m"
            )
        };
        let (counts, times) = text.split_once(',').ok_or_else(form)?;
        let (share, rest) = counts.split_once('%').ok_or_else(form)?;
        let (calls, window) = rest
            .trim_start()
            .strip_prefix("of ")
            .and_then(|rest| rest.split_once(" in "))
            .ok_or_else(form)?;
        let times = times.trim().strip_prefix("open ").ok_or_else(form)?;
        let (open, longest) = match times.split_once(" to ") {
            Some((open, longest)) => (duration(open)?, Some(duration(longest)?)),
            None => (duration(times)?, None),
        };
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| form());
        let rule = Self {
            share: number(share)?,
            calls: number(calls)?,
            window: duration(window)?,
            open,
            longest: longest.unwrap_or(Self::default().longest.max(open)),
        };
        let second = Duration::from_secs(1);
        if !(1..=100).contains(&rule.share) {
            return Err(format!("has a share of {}%: must be 1% to 100%", rule.share));
        }
        if !(1..=1_000_000).contains(&rule.calls) {
            return Err(format!("has {} calls: must be 1 to 1000000", rule.calls));
        }
        if !(second..=second * 3600).contains(&rule.window) {
            return Err("has a window outside 1s to 1h".into());
        }
        if rule.open < second / 10 || rule.longest < rule.open || rule.longest > LONGEST_OPEN {
            return Err("must stay open 100ms to 1h, and at most as long as at the longest".into());
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests;
