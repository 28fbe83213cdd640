//! `slack`: makes the Web API call that an event describes.
//!
//! An event of type `call` says it outright: data `{"method": "chat.postMessage", "args": {"channel": "C…", "text":
//! "…"}}`. One of type `respond` answers an interaction or a command: data `{"response_url": "https://hooks.slack.com/…",
//! "body": {"text": "…"}}`. Of Slack's own events, those about a message are asked for again (`reactions.get` for a reaction,
//! `chat.getPermalink` for a message or mention); others describe no call.

mod check;
mod respond;
mod writing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::Charge;

use super::{Completion, Handler, IDEMPOTENCY_KEY, Kind, Make, Parts};
use crate::config::ServiceConfig;
use crate::effect::{Earlier, Effect, Found, Policy};
use crate::limits::Limits;
use crate::outbound::{Answer, Outbound, classify};
use crate::provider::{Provider, Reading, slack as provider};
use crate::quota::Turn;

/// `slack`, as workers know it. Messages are found again by a mark.
pub const KIND: Kind = Kind {
    name: "slack",
    url: "https://slack.com/api",
    types: &[
        "call",
        respond::KIND,
        "reaction_added",
        "reaction_removed",
        "message",
        "app_mention",
    ],
    concurrency: 10,
    timeout: Duration::from_secs(30),
    provider: Provider::Slack,
    unknown: Policy::LookUp,
    charged_apart: &["method", "channel"],
    own_endpoint: false,
    caches: false,
    read: |_, _| Arc::new(Settings),
};

/// It has no settings of its own.
#[derive(Debug)]
struct Settings;

impl Make for Settings {
    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        Ok(Arc::new(Slack::new(config, parts.outbound)))
    }
}

/// Calls the Web API with one token.
#[derive(Debug)]
pub struct Slack {
    token: Option<String>,
    outbound: Outbound,
}

/// A call, as an event of type `call` holds it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    method: String,
    #[serde(default)]
    args: Value,
}

impl Slack {
    /// The API at the service's `_URL`, with its `_TOKEN`.
    pub fn new(config: &ServiceConfig, outbound: Outbound) -> Self {
        if config.token.is_none() {
            tracing::warn!(service = %config.service, "no token: Slack refuses every call");
        }
        Self {
            token: config.token.clone(),
            outbound,
        }
    }

    async fn make(&self, event: &Event, turn: &Turn) -> Result<Completion, Failure> {
        if event.kind == respond::KIND {
            return respond::respond(self, event, turn).await;
        }
        let Some(call) = describe(event)? else {
            return Ok(Completion::nothing_to_do());
        };
        check::check(&call.method, &call.args)?;
        let args = writing::marked(&call, event, self.token.as_deref());
        let answer = match self.ask(&call.method, &args, event, turn).await {
            Ok((answer, _)) => answer,
            Err(Failure::Permanent { reason }) if writing::is_so_already(&call.method, &reason.code) => {
                return Ok(Completion::new(reason.code));
            }
            Err(failure) => return Err(failure),
        };
        let done = json!({"channel": answer["channel"], "ts": answer["ts"], "warning": answer["warning"]});
        Ok(Completion::with("ok", done))
    }

    /// The answer to a call, when it is a good one, and when it was given on Slack's clock.
    async fn ask(
        &self,
        method: &str,
        args: &Value,
        event: &Event,
        turn: &Turn,
    ) -> Result<(Value, Option<SystemTime>), Failure> {
        let mut request = self
            .outbound
            .client()
            .post(format!("{}/{method}", turn.upstream()?.base))
            .json(args)
            .header(IDEMPOTENCY_KEY, event.id.as_str());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let request = request.build().map_err(|e| Failure::permanent("request", e))?;
        let answer = self.outbound.call(request, method).await?;
        let reading = turn.answered(&answer);
        let body = judge(&answer, &reading, SystemTime::now())?;
        Ok((body, classify::date(&answer.headers)))
    }
}

impl Handler for Slack {
    /// A method has a limit of its own, and a channel takes one message a second.
    fn charges(&self, event: &Event, limits: &Limits) -> Vec<Charge> {
        let Ok(Some(call)) = describe(event) else {
            return Vec::new();
        };
        let method = format!("method:{}", call.method);
        let tier = || Some(limits.charge_by(&method, provider::tier(&call.method).parse().ok()?));
        let mut charges: Vec<_> = limits.charge(&method, 1).or_else(tier).into_iter().collect();
        if call.method == "chat.postMessage" {
            let channel = call.args.get("channel").and_then(Value::as_str);
            let channel = channel.filter(|channel| channel.len() <= 64);
            charges.extend(channel.and_then(|channel| limits.charge_of("channel", channel, 1)));
        }
        charges
    }

    fn effect(&self, event: &Event) -> Effect {
        if event.kind == respond::KIND {
            return Effect::Once;
        }
        match describe(event) {
            Ok(Some(call)) => writing::effect(&call.method),
            _ => Effect::Repeatable,
        }
    }

    fn look_up<'a>(
        &'a self,
        event: &'a Event,
        earlier: Earlier,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Result<Found, Failure>> {
        writing::look_up(self, event, earlier, turn).boxed()
    }

    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.make(event, turn).boxed()
    }
}

fn bad(what: &str) -> Failure {
    Failure::permanent("call", format!("data does not describe a call: {what}"))
}

/// The call that an event describes; `None` for one that describes none.
fn describe(event: &Event) -> Result<Option<Call>, Failure> {
    let Some(data) = event.data.to_json().map_err(|e| bad(&e))? else {
        return Ok(None);
    };
    if event.kind == "call" {
        let call: Call = serde_json::from_value(data).map_err(|e| bad(&e.to_string()))?;
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'_';
        let fits = (1..=64).contains(&call.method.len()) && call.method.bytes().all(name);
        if !fits || call.method.contains("..") || call.method.starts_with('.') {
            return Err(bad("method must be a name like chat.postMessage"));
        }
        return match call.args {
            Value::Object(_) => Ok(Some(call)),
            Value::Null => Ok(Some(Call {
                args: json!({}),
                ..call
            })),
            _ => Err(bad("args must be an object")),
        };
    }
    let inner = &data["event"];
    let method_and_args = match inner["type"].as_str() {
        Some("reaction_added" | "reaction_removed") => {
            let (channel, ts) = (&inner["item"]["channel"], &inner["item"]["ts"]);
            (
                "reactions.get",
                json!({"channel": channel, "timestamp": ts}),
                channel,
                ts,
            )
        }
        Some("app_mention" | "message") => {
            let (channel, ts) = (&inner["channel"], &inner["ts"]);
            (
                "chat.getPermalink",
                json!({"channel": channel, "message_ts": ts}),
                channel,
                ts,
            )
        }
        _ => return Ok(None),
    };
    let (method, args, channel, ts) = method_and_args;
    Ok((channel.is_string() && ts.is_string()).then(|| Call {
        method: method.into(),
        args,
    }))
}

/// What an answer of Slack means: 429 with Retry-After for a limit, otherwise 200 with `ok` and an error's name. Names
/// that may pass by themselves are those that Slack documents as such.
fn judge(answer: &Answer, reading: &Reading, now: SystemTime) -> Result<Value, Failure> {
    Provider::Slack.failure(answer, reading, now)?;
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| Failure::unknown("answer", format!("no JSON: {}", classify::excerpt(answer))))?;
    if body["ok"] == true {
        return Ok(body);
    }
    let error = body["error"].as_str().unwrap_or("no error named").to_owned();
    Err(match error.as_str() {
        // Slack documents of these two that the method may have done some of its work.
        "internal_error" | "fatal_error" => Failure::unknown(error, "Slack's own trouble"),
        "service_unavailable" | "request_timeout" | "team_added_to_org" => {
            Failure::transient(error, "Slack's own trouble")
        }
        _ => Failure::permanent(error, "refused by Slack"),
    })
}

#[cfg(test)]
mod tests;
