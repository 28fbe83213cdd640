//! Slack's Web API as far as limits and envelopes go.
//!
//! Source of the limits: Slack's "Rate limits" (tiers per method, workspace and app) and `chat.postMessage`.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    clock::Moment,
    exchange::{Ask, Reply},
    kept::Kept,
    ledger::fingerprint,
    limits::{Admission, Demand, Shape},
    window::Window,
};

/// Methods the simulated workspace knows.
const METHODS: [&str; 13] = [
    "api.test",
    "auth.test",
    "chat.delete",
    "chat.getPermalink",
    "chat.postMessage",
    "chat.update",
    "conversations.history",
    "conversations.info",
    "conversations.list",
    "conversations.replies",
    "reactions.add",
    "reactions.get",
    "users.info",
];

/// What Slack allows one app in one workspace.
#[derive(Clone, Debug)]
pub struct SlackLimits {
    /// Calls to each method that has no figure of its own.
    pub method: Window,
    /// Figures of single methods.
    pub methods: BTreeMap<String, Window>,
    /// `chat.postMessage` to one channel.
    pub channel: Window,
    /// How all of them are counted.
    pub shape: Shape,
}

impl Default for SlackLimits {
    /// 100 a minute for each method, and one message a second to a channel.
    fn default() -> Self {
        Self {
            method: Window::per_minute(100),
            methods: BTreeMap::new(),
            channel: Window::per_second(1),
            shape: Shape::Sliding,
        }
    }
}

/// The answer to a call that is wrong in itself, `None` when it is not.
pub fn refuse_wrong(method: &str, ask: &Ask) -> Option<Reply> {
    let missing = |name| ask.parameter(name).is_none_or(|value| value.is_empty());
    let error = if !METHODS.contains(&method) {
        "unknown_method"
    } else if method != "api.test" && token(ask).is_none() {
        "not_authed"
    } else if method == "chat.postMessage" && missing("channel") {
        "channel_not_found"
    } else if method == "chat.postMessage" && missing("text") && missing("blocks") && !has_blocks(ask) {
        "no_text"
    } else {
        return None;
    };
    Some(Reply::json(StatusCode::OK, &json!({"ok": false, "error": error})).rejected())
}

/// The limits a call has to pass: the method's, and the channel's for messages.
pub fn demands(limits: &SlackLimits, method: &str, ask: &Ask) -> Vec<Demand> {
    let scope = token(ask).map_or(0, |token| fingerprint(&token));
    let window = limits.methods.get(method).copied().unwrap_or(limits.method);
    let mut demands = vec![Demand::new(
        format!("slack {method}"),
        scope,
        window,
        limits.shape,
    )];
    if method == "chat.postMessage" {
        let mut hasher = DefaultHasher::new();
        (scope, ask.parameter("channel")).hash(&mut hasher);
        demands.push(Demand::new(
            "slack chat.postMessage per channel",
            hasher.finish(),
            limits.channel,
            limits.shape,
        ));
    }
    demands
}

/// The answer to a call within its limits.
pub(super) fn serve(method: &str, ask: &Ask, now: Moment, kept: &Kept) -> Reply {
    let channel = ask.parameter("channel").unwrap_or_else(|| "C0000000001".into());
    let since_epoch = now
        .wall
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let ts = format!("{}.{:06}", since_epoch.as_secs(), since_epoch.subsec_micros());
    let rest = match method {
        "auth.test" => json!({
            "url": "https://example.slack.com/", "team": "Example", "user": "weir",
            "team_id": "T0000000001", "user_id": "U0000000001", "bot_id": "B0000000001",
        }),
        "chat.postMessage" => {
            let (message, ts) = kept.message(ask, now);
            json!({"channel": channel, "message": message, "ts": ts})
        }
        "chat.getPermalink" => {
            let at = ask.parameter("message_ts").unwrap_or_default().replace('.', "");
            let permalink = format!("https://example.slack.com/archives/{channel}/p{at}");
            json!({"channel": channel, "permalink": permalink})
        }
        "conversations.info" => {
            json!({"channel": {"id": channel, "name": "general", "is_channel": true}})
        }
        "conversations.list" => json!({"channels": [{"id": channel, "name": "general"}]}),
        "conversations.history" => kept.history(ask, None),
        "conversations.replies" => kept.history(ask, ask.parameter("ts").as_deref()),
        "reactions.get" => {
            let ts = ask.parameter("timestamp").unwrap_or(ts);
            json!({"type": "message", "channel": channel, "message": {"ts": ts, "reactions": []}})
        }
        "users.info" => json!({"user": {"id": ask.parameter("user"), "name": "octocat"}}),
        "chat.update" | "chat.delete" => {
            json!({"channel": channel, "ts": ask.parameter("ts").unwrap_or(ts)})
        }
        _ => json!({}),
    };
    let mut body = json!({"ok": true});
    if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
        body.extend(rest);
    }
    Reply::json(StatusCode::OK, &body)
}

/// Whether the method changes something.
pub(super) fn is_write(method: &str) -> bool {
    matches!(
        method,
        "chat.postMessage" | "chat.update" | "chat.delete" | "reactions.add"
    )
}

/// The answer of a Slack that has trouble and says so with a 200.
pub(super) fn trouble() -> Reply {
    let body = json!({"ok": false, "error": "internal_error"});
    Reply::json(StatusCode::OK, &body).rejected()
}

/// The answer to a call over a limit.
pub fn refuse(admission: &Admission, now: Moment) -> Reply {
    let standing = admission
        .breached
        .and_then(|index| admission.standings.get(index));
    let wait = standing.map_or(1, |standing| now.seconds_until(standing.room_at));
    Reply::json(
        StatusCode::TOO_MANY_REQUESTS,
        &json!({"ok": false, "error": "ratelimited"}),
    )
    .with("retry-after", wait)
    .rejected()
}

/// The token from the header or, as Slack also takes it, from the parameters.
fn token(ask: &Ask) -> Option<String> {
    ask.credential()
        .map(str::to_owned)
        .or_else(|| ask.parameter("token"))
}

/// JSON bodies carry blocks as an array, which is no text parameter.
fn has_blocks(ask: &Ask) -> bool {
    let body: Option<Value> = serde_json::from_slice(&ask.body).ok();
    let filled = |key| {
        body.as_ref()
            .and_then(|body| body.get(key))
            .and_then(Value::as_array)
            .is_some_and(|all| !all.is_empty())
    };
    filled("blocks") || filled("attachments")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use std::time::Duration;

    use http::Method;

    use super::super::{clock::Clock, exchange::ask, limits::Standing};
    use super::*;

    fn post(body: &str) -> Ask {
        let headers = [
            ("authorization", "Bearer xoxb-1"),
            ("content-type", "application/json"),
        ];
        ask(Method::POST, "/api/chat.postMessage", &headers, body)
    }

    fn error(reply: Option<Reply>) -> String {
        let body: Value = serde_json::from_slice(&reply.unwrap().body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }

    #[test]
    fn wrong_calls_are_named_as_slack_names_them() {
        let stranger = ask(Method::POST, "/api/auth.test", &[], "");
        assert_eq!(error(refuse_wrong("auth.test", &stranger)), "not_authed");
        assert_eq!(error(refuse_wrong("chat.shout", &stranger)), "unknown_method");
        assert_eq!(
            error(refuse_wrong("chat.postMessage", &post("{}"))),
            "channel_not_found"
        );
        let silent = post(r#"{"channel":"C1"}"#);
        assert_eq!(error(refuse_wrong("chat.postMessage", &silent)), "no_text");
        let blocks = post(r#"{"channel":"C1","blocks":[{"type":"divider"}]}"#);
        assert!(refuse_wrong("chat.postMessage", &blocks).is_none());
    }

    #[test]
    fn messages_are_also_counted_for_each_channel() {
        let limits = SlackLimits::default();
        let to = |channel: &str| {
            demands(
                &limits,
                "chat.postMessage",
                &post(&format!(r#"{{"channel":"{channel}","text":"x"}}"#)),
            )
        };
        let (one, two) = (to("C1"), to("C2"));
        assert_eq!(one[0].scope, two[0].scope);
        assert_ne!(one[1].scope, two[1].scope);
        assert_eq!(one[1].window, Window::per_second(1));
        assert_eq!(demands(&limits, "auth.test", &post("{}")).len(), 1);
    }

    #[test]
    fn messages_and_refusals_look_like_slacks() {
        let now = Clock::new(0).now();
        let reply = serve(
            "chat.postMessage",
            &post(r#"{"channel":"C1","text":"hi"}"#),
            now,
            &Kept::default(),
        );
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((&body["ok"], &body["channel"]), (&json!(true), &json!("C1")));
        assert_eq!(body["ts"], body["message"]["ts"]);
        let full = Standing {
            limit: 1,
            used: 1,
            resets_at: Duration::from_secs(9),
            room_at: Duration::from_millis(2500),
        };
        let reply = refuse(
            &Admission {
                breached: Some(0),
                standings: vec![full],
            },
            now,
        );
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(reply.headers["retry-after"], "3");
    }
}
