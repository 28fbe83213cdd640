//! `slack`: makes the Web API call that an event describes.
//!
//! An event of type `call` says it outright: data `{"method": "chat.postMessage", "args": {"channel": "C…", "text":
//! "…"}}`. Of Slack's own events, those about a message are asked for again (`reactions.get` for a reaction,
//! `chat.getPermalink` for a message or mention); others describe no call.

mod writing;

use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::Charge;

use super::{Completion, Handler, IDEMPOTENCY_KEY};
use crate::config::ServiceConfig;
use crate::effect::{Earlier, Effect, Found};
use crate::limits::Limits;
use crate::outbound::{Answer, Outbound, classify};
use crate::provider::{Provider, Reading, slack as provider};
use crate::quota::Turn;

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
    pub fn new(config: &ServiceConfig, outbound: Outbound) -> Result<Self, String> {
        if config.token.is_none() {
            tracing::warn!(service = %config.service, "no token: Slack refuses every call");
        }
        Ok(Self {
            token: config.token.clone(),
            outbound,
        })
    }

    async fn make(&self, event: &Event, turn: &Turn) -> Result<Completion, Failure> {
        let Some(call) = describe(event)? else {
            return Ok(Completion::new("nothing_to_do"));
        };
        let (answer, _) = self
            .ask(
                &call.method,
                &writing::marked(&call, event, self.token.as_deref()),
                event,
                turn,
            )
            .await?;
        let done = json!({"channel": answer["channel"], "ts": answer["ts"], "warning": answer["warning"]});
        Ok(Completion {
            code: "ok".into(),
            result: Some(done),
        })
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
mod tests {
    use shared::event::{Data, EventId};

    use super::*;

    fn event(kind: &str, data: &Value) -> Event {
        Event {
            data: Data::json(data.to_string()),
            ..Event::new(EventId::generate(), kind)
        }
    }

    #[test]
    fn events_describe_their_calls() {
        let reaction = json!({"event": {"type": "reaction_added", "item": {"channel": "C1", "ts": "1.2"}}});
        let call = describe(&event("reaction_added", &reaction)).unwrap().unwrap();
        assert_eq!(
            (call.method.as_str(), call.args["timestamp"].as_str()),
            ("reactions.get", Some("1.2"))
        );
        let removed = json!({"event": {"type": "app_uninstalled"}});
        assert_eq!(describe(&event("app_uninstalled", &removed)).unwrap(), None);
        let file = json!({"event": {"type": "reaction_added", "item": {"file": "F1"}}});
        assert_eq!(describe(&event("reaction_added", &file)).unwrap(), None);
    }

    #[test]
    fn methods_that_would_leave_the_api_are_refused() {
        for method in ["", "..", "chat/../x", "a b", ".x", "x?y=1", "https://x"] {
            assert!(
                describe(&event("call", &json!({"method": method}))).is_err(),
                "{method:?}"
            );
        }
        assert!(describe(&event("call", &json!({"method": "auth.test", "args": [1]}))).is_err());
    }

    #[test]
    fn refusals_have_their_failures() {
        let answer = |body: &Value| Answer {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: body.to_string().into(),
        };
        let judged = |answer: &Answer| {
            judge(
                answer,
                &Provider::Slack.read(answer, SystemTime::now()),
                SystemTime::now(),
            )
        };
        let of = |error: &str| judged(&answer(&json!({"ok": false, "error": error})));
        assert_eq!(of("ratelimited").unwrap_err().class(), "throttled");
        assert_eq!(of("internal_error").unwrap_err().class(), "transient");
        assert_eq!(of("channel_not_found").unwrap_err().class(), "permanent");
        assert!(judged(&answer(&json!({"ok": true, "ts": "1"}))).is_ok());
        assert_eq!(
            judged(&answer(&json!("<html>"))).unwrap_err().class(),
            "permanent"
        );
    }
}
