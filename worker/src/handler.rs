//! Stage 8: what is done with an event. One service, one file; one line here to register it.

pub mod agent;
pub mod analysis;
pub mod drive;
pub mod github;
mod graphql;
pub mod http;
pub mod kind;
pub mod linear;
mod marker;
pub mod none;
mod path;
pub mod read;
pub mod slack;
#[cfg(any(test, feature = "stage"))]
pub mod stage;

use std::borrow::Cow;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::{Charge, live};

use crate::config::ServiceConfig;
use crate::effect::{Earlier, Effect, Found};
use crate::idle::NOTHING_TO_DO;
use crate::limits::Limits;
use crate::quota::Turn;

pub use kind::{Kind, Make, Parts};
pub use read::Read;

/// Goes with every call: the event's id, by which an API that knows the header does a repeated call once. GitHub and
/// Slack ignore it.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The code of an answer that is as it was: the event's result is what is kept of it.
pub const UNCHANGED: &str = "http_304";

/// The handlers that ship. A new one is a file with a `KIND`, and a line here.
pub const KINDS: &[&Kind] = &[
    &drive::KIND,
    &github::KIND,
    &linear::KIND,
    &slack::KIND,
    &http::KIND,
    &analysis::KIND,
    &agent::KIND,
    &none::KIND,
];

/// The code that handles a service's events.
pub trait Handler: Send + Sync + 'static {
    /// The limits that this event's call falls under beside those of every call, for example one of a channel.
    fn charges(&self, event: &Event, limits: &Limits) -> Vec<Charge> {
        let _ = (event, limits);
        Vec::new()
    }

    /// Whether the event's call may be made again without having its effect twice.
    fn effect(&self, event: &Event) -> Effect {
        let _ = event;
        Effect::Repeatable
    }

    /// Asks the API, in a turn of its own, whether an earlier call of this event has had its effect. Runs within the
    /// service's timeout.
    fn look_up<'a>(
        &'a self,
        event: &'a Event,
        earlier: Earlier,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Result<Found, Failure>> {
        let _ = (event, earlier, turn);
        std::future::ready(Ok(Found::CannotTell)).boxed()
    }

    /// What the event reads, if that is all that it does and may be done again at will: an answer that is kept may do.
    /// Where one is known that is too old, [`Turn::knows`] has its tag, and [`Handler::handle`] may answer [`UNCHANGED`].
    fn read(&self, event: &Event) -> Option<Read> {
        let _ = event;
        None
    }

    /// Makes the call that the event asks for, in its turn. Runs within the service's timeout; a panic is caught and
    /// makes the event a dead letter.
    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>>;

    /// What it asks under limits that are not the service's, by name.
    fn models(&self) -> live::Models {
        live::Models::new()
    }

    /// What it may spend in a day; `None` where nothing bounds it.
    fn budget(&self) -> Option<live::Budget> {
        None
    }

    /// How events go together into one call; `None` where each goes alone.
    fn grouping(&self) -> Option<Grouping> {
        None
    }

    /// What events must share to go together; `None` for one that goes alone. Asked only where [`Self::grouping`] says
    /// how, and of events whose call is [`Effect::Repeatable`].
    fn group(&self, event: &Event) -> Option<String> {
        let _ = event;
        None
    }

    /// The limits that the one call for all of these events falls under beside those of every call.
    fn group_charges(&self, events: &[&Event], limits: &Limits) -> Vec<Charge> {
        events
            .first()
            .map_or_else(Vec::new, |event| self.charges(event, limits))
    }

    /// Makes one call for all of these events, which are of one group: an outcome for each, in their order; `None` for one
    /// that is to have a call of its own, because others spoilt this one, or it did.
    fn handle_group<'a>(
        &'a self,
        events: Vec<&'a Event>,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Vec<Option<Outcome>>> {
        async move {
            let mut outcomes = Vec::with_capacity(events.len());
            for event in events {
                outcomes.push(Some(self.handle(event, turn).await));
            }
            outcomes
        }
        .boxed()
    }
}

/// How an attempt ended.
pub type Outcome = Result<Completion, Failure>;

/// How many events go together, and how long one waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// Most events in one call; at least 2.
    pub most: usize,
    /// Longest time that the first of a group waits for others.
    pub within: Duration,
}

/// A handled event.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// One word for the audit log, for example `http_200` or `nothing_to_do`.
    pub code: Cow<'static, str>,
    /// What is worth keeping of the answer.
    pub result: Option<serde_json::Value>,
    /// By which the API knows an answer that was read.
    pub etag: Option<String>,
    /// What has changed, as the event has told us: answers with one of these tags are invalid. Only of events whose call
    /// may be repeated, for it is until this is said.
    pub changed: Vec<String>,
}

impl Completion {
    /// That of an event with which the service does nothing.
    pub fn nothing_to_do() -> Self {
        Self::new(NOTHING_TO_DO)
    }

    /// A completion without a result.
    pub fn new(code: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: code.into(),
            result: None,
            etag: None,
            changed: Vec::new(),
        }
    }

    /// A completion with a result.
    pub fn with(code: impl Into<Cow<'static, str>>, result: serde_json::Value) -> Self {
        Self {
            result: Some(result),
            ..Self::new(code)
        }
    }
}

/// Service and credential, in the braces that keep all buckets of a credential on one node of a Redis cluster. The
/// credential appears as the first 8 hex digits of its SHA-256; of one whose tokens change, what does not change.
pub fn bucket_tag(config: &ServiceConfig) -> String {
    use sha2::Digest;
    let identity = config.own.identity().or_else(|| config.token.clone());
    let credential = sha2::Sha256::digest(identity.unwrap_or_default());
    let [a, b, c, d] = [credential[0], credential[1], credential[2], credential[3]];
    format!("{{{}:{a:02x}{b:02x}{c:02x}{d:02x}}}", config.service)
}
