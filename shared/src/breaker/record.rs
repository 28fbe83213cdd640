//! What the fleet knows of an upstream: one JSON value in the bucket
//! [`BREAKERS_BUCKET`](crate::subject::BREAKERS_BUCKET), changed only by whoever saw its last revision.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Counts, LONGEST_OPEN, Rule};

/// Most bytes of a record.
pub const MAX_BYTES: usize = 8 * 1024;
/// Most upstreams of a service.
pub const MAX_UPSTREAMS: u32 = 16;

/// Whether calls go to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// They do.
    Closed,
    /// None does.
    Open,
    /// One does, a probe.
    HalfOpen,
}

/// A breaker, as the last worker that changed it wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which upstream, for people: no credentials, no path.
    pub upstream: String,
    /// Its place in the service's order of preference, from 1.
    pub place: u32,
    /// How many upstreams the service has.
    pub of: u32,
    /// Whether calls go there.
    pub state: State,
    /// Since when it is out of service, or in service again: milliseconds since the Unix epoch.
    pub since: u64,
    /// When this was written, milliseconds since the Unix epoch.
    pub at: u64,
    /// How long this holds from then on, milliseconds: open, until a probe may be made; half-open, until the probe is
    /// lost; closed, 0.
    pub lasts: u64,
    /// Openings in a row.
    pub openings: u32,
    /// The calls that it was opened for.
    pub counts: Counts,
    /// The last failure.
    pub why: String,
    /// The worker that wrote this; half-open, the one that makes the probe.
    pub by: String,
}

/// Who changes a record, and when.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The worker.
    pub by: &'a str,
}

/// What a record means some time after it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Calls go there.
    Closed,
    /// None does, for so long.
    Open(Duration),
    /// A probe may be made, and could have been for so long.
    Due(Duration),
    /// A probe is under way; after so long it is lost.
    Probing(Duration),
}

impl Record {
    /// Reads one.
    ///
    /// # Errors
    /// Too long, or no JSON of this form: told in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_BYTES {
            return Err(format!("has more than {MAX_BYTES} bytes"));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !(1..=MAX_UPSTREAMS).contains(&record.of) || !(1..=record.of).contains(&record.place) {
            return Err(format!("is number {} of {} upstreams", record.place, record.of));
        }
        Ok(Self {
            lasts: record.lasts.min(LONGEST_OPEN.as_millis() as u64),
            ..record
        })
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// One that is closed and always was.
    pub fn new(upstream: &str, place: u32, of: u32) -> Self {
        Self {
            upstream: upstream.to_owned(),
            place,
            of,
            state: State::Closed,
            since: 0,
            at: 0,
            lasts: 0,
            openings: 0,
            counts: Counts::default(),
            why: String::new(),
            by: String::new(),
        }
    }

    /// What it means after `age`.
    pub fn standing(&self, age: Duration) -> Standing {
        let lasts = Duration::from_millis(self.lasts);
        let left = lasts.saturating_sub(age);
        match self.state {
            State::Closed => Standing::Closed,
            _ if left.is_zero() => Standing::Due(age.saturating_sub(lasts)),
            State::Open => Standing::Open(left),
            State::HalfOpen => Standing::Probing(left),
        }
    }

    /// Whether these, all of one service and all out of service, leave it without an upstream. What the settings named
    /// once and name no more says another number of upstreams; the one that comes first in the order of preference counts.
    pub fn are_all(out: &[&Self]) -> bool {
        let first = out.iter().min_by_key(|record| record.place);
        first.is_some_and(|first| {
            let of = out.iter().filter(|record| record.of == first.of).count();
            of >= first.of as usize
        })
    }

    /// How old it is at `now`, milliseconds since the Unix epoch, as far as clocks agree: never more than it lasts before
    /// a probe is due.
    pub fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.at))
    }

    /// Out of service. Openings are in a row unless it stayed closed for as long as it counts calls, and for twice as
    /// long as the last opening can have lasted.
    #[must_use]
    pub fn opened(&self, rule: &Rule, counts: Counts, why: &str, unit: f64, now: Now<'_>) -> Self {
        let calm = rule.window().max(rule.open_for(self.openings, 1.0) * 2);
        let closed = self.state == State::Closed;
        let again = self.openings > 0 && (!closed || self.age(now.at) < calm);
        let openings = if again { self.openings.saturating_add(1) } else { 1 };
        Self {
            state: State::Open,
            since: if closed { now.at } else { self.since },
            lasts: millis(rule.open_for(openings, unit)),
            openings,
            counts,
            why: why.chars().take(200).collect(),
            ..self.by(now)
        }
    }

    /// A probe is claimed: another worker may claim it after `lasts`.
    #[must_use]
    pub fn claimed(&self, lasts: Duration, now: Now<'_>) -> Self {
        Self {
            state: State::HalfOpen,
            lasts: millis(lasts),
            ..self.by(now)
        }
    }

    /// The probe was not made after all: it is due again at once.
    #[must_use]
    pub fn released(&self, now: Now<'_>) -> Self {
        Self {
            state: State::Open,
            lasts: 0,
            ..self.by(now)
        }
    }

    /// In service.
    #[must_use]
    pub fn closed(&self, now: Now<'_>) -> Self {
        Self {
            state: State::Closed,
            since: now.at,
            lasts: 0,
            ..self.by(now)
        }
    }

    /// Whether this, written by us but not yet there, goes before `there`, which another has written meanwhile. Only
    /// proof that the upstream works does, before a probe under way.
    pub fn prevails_over(&self, there: &Self) -> bool {
        self.state == State::Closed && there.state == State::HalfOpen
    }

    fn by(&self, now: Now<'_>) -> Self {
        Self {
            at: now.at,
            by: now.by.to_owned(),
            ..self.clone()
        }
    }
}

fn millis(time: Duration) -> u64 {
    time.min(LONGEST_OPEN).as_millis() as u64
}
