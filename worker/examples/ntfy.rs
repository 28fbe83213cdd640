//! A service in one file: notifications by [ntfy](https://docs.ntfy.sh/publish/#publish-as-json). `docs/new-service.md`
//! goes through it. Run as a worker that knows it beside the handlers that ship:
//!
//! ```sh
//! WEIR_SERVICES=ntfy WEIR_POSTGRES_URL=postgres://… cargo run -p worker --example ntfy
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::config::Reader;
use shared::event::Event;
use shared::failure::Failure;
use worker::config::ServiceConfig;
use worker::effect::{Effect, Policy};
use worker::handler::{Completion, Handler, KINDS, Kind, Make, Parts};
use worker::outbound::Outbound;
use worker::provider::Provider;
use worker::quota::Turn;

/// `ntfy`, as workers know it.
const KIND: Kind = Kind {
    name: "ntfy",
    url: "https://ntfy.sh",
    types: &[],
    concurrency: 5,
    timeout: Duration::from_secs(10),
    // Its answers have no headers about limits that we know: plain HTTP.
    provider: Provider::Other,
    // A message that may have been sent cannot be looked for, and must not be sent twice.
    unknown: Policy::Dead,
    charged_apart: &[],
    own_endpoint: false,
    caches: false,
    read: Settings::read,
};

/// `_TOPIC`: where a notification goes whose event names no topic.
#[derive(Debug)]
struct Settings {
    topic: Option<String>,
}

impl Settings {
    fn read(reader: &mut Reader<'_>, prefix: &str) -> Arc<dyn Make> {
        let name = format!("{prefix}_TOPIC");
        let topic = reader.optional(&name);
        if topic.as_deref().is_some_and(|topic| !is_topic(topic)) {
            reader.problem(&name, "must be 1 to 64 letters, digits, _ and -");
        }
        Arc::new(Self { topic })
    }
}

impl Make for Settings {
    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        Ok(Arc::new(Ntfy {
            topic: self.topic.clone(),
            token: config.token.clone(),
            outbound: parts.outbound,
        }))
    }
}

/// Sends notifications with one token.
struct Ntfy {
    topic: Option<String>,
    token: Option<String>,
    outbound: Outbound,
}

/// An event's data.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Notification {
    topic: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
}

fn is_topic(topic: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&topic.len()) && topic.chars().all(allowed)
}

impl Ntfy {
    /// What an event asks for; an event that asks for nothing that can be is a dead letter at once.
    fn notification(&self, event: &Event) -> Result<Notification, Failure> {
        let bad = |what: String| Failure::permanent("notification", format!("data is none: {what}"));
        let data = event.data.to_json().map_err(bad)?;
        let data = data.ok_or_else(|| bad("it is empty or no JSON".into()))?;
        let mut wanted: Notification =
            serde_json::from_value(data).map_err(|error| bad(error.to_string()))?;
        wanted.topic = wanted.topic.or_else(|| self.topic.clone());
        match &wanted.topic {
            None => Err(bad(
                "topic is missing, and WEIR_SERVICE_<NAME>_TOPIC is not set".into()
            )),
            Some(topic) if !is_topic(topic) => {
                Err(bad("topic must be 1 to 64 letters, digits, _ and -".into()))
            }
            Some(_)
                if wanted
                    .priority
                    .is_some_and(|priority| !(1..=5).contains(&priority)) =>
            {
                Err(bad("priority must be 1 to 5".into()))
            }
            Some(_) => Ok(wanted),
        }
    }

    async fn send(&self, event: &Event, turn: &Turn) -> Result<Completion, Failure> {
        let wanted = self.notification(event)?;
        let mut request = self
            .outbound
            .client()
            .post(turn.upstream()?.url.clone())
            .json(&wanted);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let request = request
            .build()
            .map_err(|error| Failure::permanent("request", error))?;
        let answer = self.outbound.call(request, "publish").await?;
        // The fleet learns from it what is left of the quota; then its status is a success or a failure.
        let reading = turn.answered(&answer);
        Provider::Other.failure(&answer, &reading, SystemTime::now())?;
        let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(Completion::with(
            "sent",
            json!({"id": said["id"], "topic": wanted.topic}),
        ))
    }
}

impl Handler for Ntfy {
    /// Each call sends a message: it is noted before it begins.
    fn effect(&self, _: &Event) -> Effect {
        Effect::Once
    }

    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.send(event, turn).boxed()
    }
}

fn main() -> ExitCode {
    let kinds: Vec<_> = KINDS.iter().copied().chain([&KIND]).collect();
    worker::program::main(&kinds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use serde_json::Value;
    use worker::handler::stage::{Api, Stage, event, told};

    use super::*;

    async fn stage(status: u16, settings: &[(&str, &str)]) -> (Stage, Api) {
        let api = Api::new(move |_| told(status, &json!({"id": "hwQ2YpKdmg", "event": "message"}))).await;
        let stage = Stage::new(&KIND, &api.url, settings);
        (stage, api)
    }

    #[tokio::test]
    async fn an_event_becomes_a_notification() {
        let (stage, api) = stage(200, &[("TOPIC", "ops"), ("TOKEN", "tk_generated")]).await;
        let data = json!({"message": "build 7 failed", "priority": 4});
        let done = stage.handle(&event("notify", &data)).await.unwrap();
        assert_eq!(done.code, "sent");
        assert_eq!(done.result.unwrap(), json!({"id": "hwQ2YpKdmg", "topic": "ops"}));
        let calls = api.seen();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].header("authorization"), "Bearer tk_generated");
        let body = json!({"topic": "ops", "message": "build 7 failed", "priority": 4});
        assert_eq!(calls[0].json(), body);
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_without_a_call() {
        let (stage, api) = stage(200, &[]).await;
        for (data, says) in [
            (Value::Null, "invalid type: null"),
            (json!({"message": "x"}), "topic is missing"),
            (json!({"message": "x", "topic": "a/b"}), "letters, digits"),
            (json!({"message": "x", "topic": "a", "priority": 6}), "1 to 5"),
            (
                json!({"message": "x", "topic": "a", "icon": "y"}),
                "unknown field",
            ),
        ] {
            let failure = stage.handle(&event("notify", &data)).await.unwrap_err();
            assert!(
                matches!(failure, Failure::Permanent { .. }),
                "{data}: {failure:?}"
            );
            assert!(failure.reason().detail.contains(says), "{data}: {failure:?}");
        }
        assert!(api.seen().is_empty());
    }

    #[tokio::test]
    async fn refusals_are_told_apart() {
        let data = json!({"message": "x", "topic": "a"});
        for (status, is) in [
            (401, "permanent"),
            (413, "permanent"),
            (429, "throttled"),
            (500, "transient"),
        ] {
            let (stage, _api) = stage(status, &[]).await;
            let failure = stage.handle(&event("notify", &data)).await.unwrap_err();
            let class = match failure {
                Failure::Permanent { .. } => "permanent",
                Failure::Throttled { .. } => "throttled",
                Failure::Transient { .. } => "transient",
            };
            assert_eq!(class, is, "{status}");
        }
    }
}
