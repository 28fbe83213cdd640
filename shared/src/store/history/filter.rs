//! What of the past is asked for, and how people write it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::sql::{FAILURES, OUTCOMES, Source};
use crate::config::value;
use crate::event::Tenant;
use crate::subject::Service;

/// What an entry tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The event's effect is done.
    Done,
    /// It is a dead letter.
    Dead,
    /// An attempt failed.
    Failed,
}

impl State {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Done, Self::Dead, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not done, dead or failed"))
    }
}

/// What of the past is asked for. The default asks for the ends of all events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of these services; all when empty.
    pub services: Vec<Service>,
    /// Of one state.
    pub state: Option<State>,
    /// Of one tenant.
    pub tenant: Option<Tenant>,
    /// Not before this time, microseconds since the Unix epoch.
    pub from_us: Option<i64>,
    /// Before this time, microseconds since the Unix epoch.
    pub to_us: Option<i64>,
    /// Failed attempts too, where no state is asked for.
    pub attempts: bool,
}

impl Filter {
    /// The tables that the answer lies in.
    pub(super) fn sources(&self) -> impl Iterator<Item = &'static Source> {
        let outcomes = self.state != Some(State::Failed);
        let failures = self.state == Some(State::Failed) || self.state.is_none() && self.attempts;
        let sources = [(outcomes, &OUTCOMES), (failures, &FAILURES)];
        sources
            .into_iter()
            .filter(|(asked, _)| *asked)
            .map(|(_, source)| source)
    }

    /// What a place in the order of all belongs to. The times are no part of it: they say where the order begins and ends, and
    /// `2h` ago is another moment when the next page is asked for.
    pub(super) fn canonical(&self) -> String {
        let services: Vec<&str> = self.services.iter().map(Service::as_str).collect();
        let state = self.state.map_or("", State::as_str);
        let tenant = self.tenant.as_ref().map_or("", Tenant::as_str);
        format!("{} {state} {tenant} {}", services.join("+"), self.attempts)
    }
}

/// A moment as people write it: `2h` for so long ago, `2026-11-22`, `2026-11-22T08:00:00Z`. Microseconds since the Unix epoch.
///
/// # Errors
/// What is wrong with it.
pub fn instant(text: &str, now: SystemTime) -> Result<i64, String> {
    let text = text.trim();
    let at = if let Ok(ago) = value::duration(text) {
        now.checked_sub(ago)
            .filter(|at| *at >= UNIX_EPOCH)
            .ok_or_else(|| format!("{text:?} is longer ago than 1970"))?
    } else {
        let whole = if text.len() == 10 {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        let wrong = |_| format!("{text:?} is no time: write 2h, 2026-11-22 or 2026-11-22T08:00:00Z");
        SystemTime::from(OffsetDateTime::parse(&whole, &Rfc3339).map_err(wrong)?)
    };
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_248_000);
        for (text, seconds) in [
            ("2h", 1_795_240_800),
            ("2026-11-21", 1_795_219_200),
            ("2026-11-21T09:00:00+01:00", 1_795_248_000),
            (" 2026-11-21T08:00:00.5Z ", 1_795_248_000),
        ] {
            assert_eq!(instant(text, now).map(|us| us / 1_000_000), Ok(seconds), "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11-21 08:00",
            "-2h",
            "99999d",
            "2h ago",
            "1e9",
            "🕐",
        ] {
            assert!(instant(bad, now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn states_are_three() {
        for state in [State::Done, State::Dead, State::Failed] {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("".parse::<State>().is_err() && "Done".parse::<State>().is_err());
    }
}
