//! What each provider says of its limits: in its documents ([`Provider::preset`]) and in its answers
//! ([`Provider::read`]). Pure: one provider, one file.

pub mod github;
pub mod slack;

mod anthropic;
mod drive;
mod headers;
mod linear;
mod openai;
mod other;
mod xai;

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use shared::failure::Failure;

use crate::outbound::{Answer, classify};

/// The dimension of a refusal by a pool that the provider counts and we do not, for example GitHub's search: calls of
/// that sort wait, all others go on.
pub const UNCOUNTED: &str = "uncounted";
/// Longest wait after a refusal, however long the provider asks for.
pub const MAX_WAIT: Duration = Duration::from_secs(86_400);
/// Shortest wait after a refusal: an API that says «at once» and refuses again must not be asked in a tight loop.
pub const MIN_WAIT: Duration = Duration::from_millis(100);
/// Wait after a refusal that names none.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// Errors are short; a longer body is not searched for one.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Who an API belongs to, and so how its limits are counted and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// GitHub, REST and GraphQL.
    Github,
    /// Linear.
    Linear,
    /// Slack's Web API.
    Slack,
    /// Google Drive.
    Drive,
    /// OpenAI, and what speaks like it.
    Openai,
    /// Anthropic.
    Anthropic,
    /// xAI.
    Xai,
    /// Any other: what the standards and the common headers say.
    Other,
}

/// A limit that holds for a service from the start, until its settings or the provider's answers say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What is limited.
    pub dimension: &'static str,
    /// How much, as a rule's text, for example `5000 per hour, burst 100`.
    pub rule: &'static str,
    /// The page that says so.
    pub source: &'static str,
}

/// What an answer says of the limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Where each limit stands; at most one of a dimension.
    pub standings: Vec<Standing>,
    /// That the call was refused for a limit.
    pub refusal: Option<Refusal>,
    /// What the call really cost, by dimension.
    pub usage: Vec<(&'static str, u64)>,
    /// Headers and figures that made no sense and were ignored.
    pub absurd: u32,
}

/// Where one limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What is limited.
    pub dimension: &'static str,
    /// How much in a window, above zero; `None` when the answer does not say.
    pub limit: Option<u64>,
    /// What is left of it, at most `limit`.
    pub remaining: u64,
    /// How long from now until all of it is there again; at most 32 days, zero when that moment has passed.
    pub reset: Duration,
}

/// A refusal for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Which limit; [`UNCOUNTED`] for one that is none of ours; `None` for the whole credential. A limit that the call
    /// was not charged under, having none in the settings, is the whole credential's too.
    pub dimension: Option<&'static str>,
    /// How long to stay away, from [`MIN_WAIT`] to [`MAX_WAIT`].
    pub wait: Duration,
    /// No waiting mends it, for money is lacking: `wait` is when it makes sense to look whether somebody has paid.
    pub forever: bool,
}

impl Refusal {
    fn new(dimension: Option<&'static str>, wait: Duration) -> Self {
        Self {
            dimension,
            wait: wait.clamp(MIN_WAIT, MAX_WAIT),
            forever: false,
        }
    }

    fn forever() -> Self {
        Self {
            dimension: None,
            wait: Duration::from_secs(60),
            forever: true,
        }
    }
}

impl Provider {
    const ALL: [(&'static str, Self); 8] = [
        ("github", Self::Github),
        ("linear", Self::Linear),
        ("slack", Self::Slack),
        ("drive", Self::Drive),
        ("openai", Self::Openai),
        ("anthropic", Self::Anthropic),
        ("xai", Self::Xai),
        ("other", Self::Other),
    ];

    /// The provider of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, provider)| provider)
    }

    /// The names of all providers.
    pub fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Linear => "linear",
            Self::Slack => "slack",
            Self::Drive => "drive",
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Xai => "xai",
            Self::Other => "other",
        }
    }

    /// The limits that hold for every credential of this provider. Those of a method or a channel are not here: see
    /// [`slack::tier`] and [`slack::CHANNEL`].
    pub fn preset(self) -> &'static [Preset] {
        match self {
            Self::Github => github::PRESET,
            Self::Linear => linear::PRESET,
            Self::Slack => slack::PRESET,
            Self::Drive => drive::PRESET,
            Self::Openai => openai::PRESET,
            Self::Anthropic => anthropic::PRESET,
            Self::Xai => xai::PRESET,
            Self::Other => &[],
        }
    }

    /// Whether its limits refill all the time, and its reset is when all of it is there again; otherwise nothing comes
    /// back before the reset. Sources: Linear, rate limiting (leaky bucket); Anthropic, rate limits (token bucket);
    /// OpenAI's headers tell the time until «the limit resets to its initial state», and xAI speaks OpenAI's protocol.
    pub fn refills(self) -> bool {
        match self {
            Self::Linear | Self::Openai | Self::Anthropic | Self::Xai => true,
            Self::Github | Self::Slack | Self::Drive | Self::Other => false,
        }
    }

    /// The most that one call costs of this dimension.
    pub fn largest_cost(self, dimension: &str) -> u32 {
        match (self, dimension) {
            (Self::Github, "points" | "graphql-minute") => github::points(&http::Method::POST),
            // The most complex query that Linear takes.
            (Self::Linear, "complexity") => 10_000,
            _ => 1,
        }
    }

    /// What an answer says of the limits. Moments are measured by the answer's own `Date`, so that a provider's clock
    /// may be wrong; `now` stands in where there is none. Whatever makes no sense is ignored and counted.
    pub fn read(self, answer: &Answer, now: SystemTime) -> Reading {
        match self {
            Self::Github => github::read(answer, now),
            Self::Linear => linear::read(answer, now),
            Self::Slack => slack::read(answer, now),
            Self::Drive => drive::read(answer, now),
            Self::Openai => openai::read(answer, now),
            Self::Anthropic => anthropic::read(answer, now),
            Self::Xai => xai::read(answer, now),
            Self::Other => other::read(answer, now),
        }
    }

    /// Success, or the failure that an answer is, given its reading. Errors that come with a success status (Slack's
    /// `ok: false`, errors of GraphQL) and are no limit are left to the handler.
    pub fn failure(self, answer: &Answer, reading: &Reading, now: SystemTime) -> Result<(), Failure> {
        if let Some(refusal) = reading.refusal {
            let detail = classify::excerpt(answer);
            return Err(if refusal.forever {
                Failure::permanent("quota_exhausted", detail)
            } else {
                Failure::throttled(refusal_code(answer), detail, refusal.wait)
            });
        }
        match self {
            Self::Openai => openai::failure(answer, now),
            Self::Anthropic => obey_should_retry(answer, now),
            _ => classify::by_status(answer, now),
        }
    }
}

/// `http_429`; a status that does not say «limit» by itself (Slack's 200, Linear's 400) would name it badly.
fn refusal_code(answer: &Answer) -> String {
    match answer.status.as_u16() {
        200..=299 | 400 => "ratelimited".to_owned(),
        status => format!("http_{status}"),
    }
}

/// By status, unless `x-should-retry` decides. It stands in no documentation, but the official clients of OpenAI and
/// Anthropic obey it before anything else (`_should_retry` in their `_base_client.py`).
fn obey_should_retry(answer: &Answer, now: SystemTime) -> Result<(), Failure> {
    let told = answer
        .headers
        .get("x-should-retry")
        .map(http::HeaderValue::as_bytes);
    classify::by_status(answer, now).map_err(|failure| match (told, failure) {
        (Some(b"true"), Failure::Permanent { reason }) => Failure::Transient {
            reason,
            retry_after: classify::retry_after(&answer.headers, now),
            unknown: false,
        },
        (Some(b"false"), Failure::Transient { reason, .. }) => Failure::Permanent { reason },
        (_, failure) => failure,
    })
}

/// The body of an error as JSON; null when it is none or too long for one.
fn error_body(answer: &Answer) -> Value {
    if answer.body.len() > MAX_ERROR_BODY {
        return Value::Null;
    }
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The object `usage` of a successful answer; counted as absurd when it is there and unreadable.
fn usage<T: DeserializeOwned>(answer: &Answer, absurd: &mut u32) -> Option<T> {
    #[derive(Deserialize)]
    struct Body<T> {
        usage: Option<T>,
    }
    if !answer.status.is_success() || answer.body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    match serde_json::from_slice::<Body<T>>(&answer.body) {
        Ok(body) => body.usage,
        Err(error) => {
            *absurd += u32::from(error.classify() == Category::Data);
            None
        }
    }
}

/// The one limit that is used up. `None` when there is none or more than one: then nobody knows which of them refused.
fn exhausted(standings: &[Standing]) -> Option<&'static str> {
    let mut empty = standings.iter().filter(|standing| standing.remaining == 0);
    let first = empty.next()?;
    empty.next().is_none().then_some(first.dimension)
}

/// How long to stay away where the provider does not say: until `dimension` is there again, else until the last of
/// the limits that are used up is.
fn until_reset(standings: &[Standing], dimension: Option<&'static str>) -> Option<Duration> {
    let named = standings.iter().find(|s| Some(s.dimension) == dimension);
    let empty = || {
        standings
            .iter()
            .filter(|s| s.remaining == 0)
            .map(|s| s.reset)
            .max()
    };
    named.map(|s| s.reset).or_else(empty)
}

#[cfg(test)]
mod tests;
