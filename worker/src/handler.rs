//! Stage 8: what is done with an event. One service, one file; one line here to register it.

pub mod github;
pub mod http;
mod marker;
pub mod slack;

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::Charge;

use crate::config::ServiceConfig;
use crate::effect::{Earlier, Effect, Found, Policy};
use crate::limits::Limits;
use crate::outbound::Outbound;
use crate::provider::Provider;
use crate::quota::Turn;

/// Goes with every call: the event's id, by which an API that knows the header does a repeated call once. GitHub and
/// Slack ignore it.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

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

    /// Makes the call that the event asks for, in its turn. Runs within the service's timeout; a panic is caught and
    /// makes the event a dead letter.
    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>>;
}

/// A handled event.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// One word for the audit log, for example `http_200` or `nothing_to_do`.
    pub code: Cow<'static, str>,
    /// What is worth keeping of the answer.
    pub result: Option<serde_json::Value>,
}

impl Completion {
    /// A completion without a result.
    pub fn new(code: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: code.into(),
            result: None,
        }
    }
}

/// The handlers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`github`].
    Github,
    /// [`slack`].
    Slack,
    /// [`http`].
    Http,
}

impl Kind {
    const ALL: [(&'static str, Self); 3] = [
        ("github", Self::Github),
        ("slack", Self::Slack),
        ("http", Self::Http),
    ];

    /// The handler of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| kind)
    }

    /// The names of all handlers.
    pub fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// Makes the handler for a service.
    pub fn build(self, config: &ServiceConfig, outbound: Outbound) -> Result<Arc<dyn Handler>, String> {
        Ok(match self {
            Self::Github => Arc::new(github::Github::new(config, outbound)?),
            Self::Slack => Arc::new(slack::Slack::new(config, outbound)?),
            Self::Http => Arc::new(http::Http::new(config, outbound)?),
        })
    }

    /// Where the API is unless the settings say otherwise.
    pub fn default_url(self) -> &'static str {
        match self {
            Self::Github => "https://api.github.com",
            Self::Slack => "https://slack.com/api",
            Self::Http => "",
        }
    }

    /// Events in flight at once in one worker.
    pub fn default_concurrency(self) -> u64 {
        match self {
            Self::Github => 20,
            Self::Slack => 10,
            Self::Http => 50,
        }
    }

    /// Whose limits hold unless the settings say otherwise.
    pub fn default_provider(self) -> Provider {
        match self {
            Self::Github => Provider::Github,
            Self::Slack => Provider::Slack,
            Self::Http => Provider::Other,
        }
    }

    /// What happens when nobody knows what became of a call, unless the settings say otherwise: the strictest that the
    /// handler can keep. An endpoint that `http` delivers to knows the event by its id.
    pub fn default_unknown(self) -> Policy {
        match self {
            Self::Github | Self::Slack => Policy::LookUp,
            Self::Http => Policy::Retry,
        }
    }

    /// The limits that only some calls fall under: this handler charges them itself.
    pub fn charged_apart(self) -> &'static [&'static str] {
        match self {
            Self::Github => &["content", "content-hour", "graphql"],
            Self::Slack => &["method", "channel"],
            Self::Http => &["tokens", "input-tokens", "output-tokens", "complexity"],
        }
    }
}

/// Service and credential, in the braces that keep all buckets of a credential on one node of a Redis cluster. The
/// credential appears as the first 8 hex digits of its SHA-256.
pub fn bucket_tag(config: &ServiceConfig) -> String {
    use sha2::Digest;
    let credential = sha2::Sha256::digest(config.token.as_deref().unwrap_or_default());
    let [a, b, c, d] = [credential[0], credential[1], credential[2], credential[3]];
    format!("{{{}:{a:02x}{b:02x}{c:02x}{d:02x}}}", config.service)
}
