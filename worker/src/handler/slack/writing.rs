//! Writes of Slack, which takes no idempotency key: a message carries a mark in its metadata, and is looked for by it in
//! its channel or thread.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;

use super::{Call, Slack, describe};
use crate::effect::{Earlier, Effect, Found};
use crate::handler::Completion;
use crate::handler::marker::marker;
use crate::quota::Turn;

/// The one method whose work can be found again.
const POST: &str = "chat.postMessage";
/// Where the mark lies in a message's metadata.
const MARK: &str = "weir";
/// Messages looked through, newest first. Slack recommends no more than 200 at a time.
const LIMIT: u32 = 200;

/// Whether a method has its effect again when it is called again. What sets something, or takes it away, does not;
/// of a method that is not known here the worse is assumed.
pub(super) fn effect(method: &str) -> Effect {
    const READS: [&str; 9] = [
        "get", "list", "info", "history", "replies", "test", "members", "search", "lookup",
    ];
    const SETS: [&str; 5] = ["chat.update", "chat.delete", "reactions.", "pins.", "stars."];
    let verb = method.rsplit('.').next().unwrap_or_default();
    let repeatable =
        READS.iter().any(|read| verb.starts_with(read)) || SETS.iter().any(|set| method.starts_with(set));
    if repeatable {
        Effect::Repeatable
    } else {
        Effect::Once
    }
}

/// Whether a refusal says that what a method sets is set already, by an earlier attempt or somebody else.
pub(super) fn is_so_already(method: &str, error: &str) -> bool {
    matches!(
        (method, error),
        ("reactions.add", "already_reacted")
            | ("reactions.remove", "no_reaction")
            | ("pins.add", "already_pinned")
            | ("pins.remove", "no_pin" | "not_pinned")
            | ("stars.add", "already_starred")
            | ("stars.remove", "not_starred")
    )
}

/// The arguments of a call, a message's with its mark. Metadata that somebody put there stays.
pub(super) fn marked(call: &Call, event: &Event, token: Option<&str>) -> Value {
    let mut args = call.args.clone();
    if call.method != POST {
        // Nothing else carries a mark, or it could pass for another event's.
        if let Some(Value::Object(payload)) = args.pointer_mut("/metadata/event_payload") {
            payload.remove(MARK);
        }
        return args;
    }
    if args.get("metadata").is_none_or(Value::is_null) {
        args["metadata"] = json!({"event_type": MARK, "event_payload": {}});
    }
    if let Some(Value::Object(payload)) = args.pointer_mut("/metadata/event_payload") {
        payload.insert(MARK.into(), marker(event, token).into());
    }
    args
}

/// Looks through the newest messages of the channel, or of the thread, that the event's message goes to.
pub(super) async fn look_up(
    slack: &Slack,
    event: &Event,
    earlier: Earlier,
    turn: &Turn,
) -> Result<Found, Failure> {
    let mark = Value::String(marker(event, slack.token.as_deref()));
    // Metadata of somebody else's making may have left no place for a mark.
    let is_marked = |call: &Call| {
        let sent = marked(call, event, slack.token.as_deref());
        sent["metadata"]["event_payload"][MARK] == mark
    };
    if event.kind == super::respond::KIND {
        return Ok(Found::CannotTell);
    }
    let Some(call) = describe(event)?.filter(|call| call.method == POST && is_marked(call)) else {
        return Ok(Found::CannotTell);
    };
    let oldest = earlier
        .asked_from()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut args = json!({
        "channel": call.args["channel"],
        "oldest": format!("{}.000000", oldest.as_secs()),
        "include_all_metadata": true,
        "limit": LIMIT,
    });
    let method = match call.args.get("thread_ts") {
        Some(thread @ Value::String(_)) => {
            args["ts"] = thread.clone();
            "conversations.replies"
        }
        None | Some(Value::Null) => "conversations.history",
        Some(_) => return Ok(Found::CannotTell),
    };
    let (history, now) = match slack.ask(method, &args, event, turn).await {
        Ok(answered) => answered,
        // A channel by its name, one that we may write to and not read: Slack does not tell.
        Err(Failure::Permanent { .. }) => return Ok(Found::CannotTell),
        Err(failure) => return Err(failure),
    };
    let messages = history["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ours = |message: &&Value| message["metadata"]["event_payload"][MARK] == mark;
    if let Some(message) = messages.iter().find(ours) {
        return Ok(Found::Done(Completion::with(
            "found",
            json!({"channel": call.args["channel"], "ts": message["ts"]}),
        )));
    }
    Ok(if history["has_more"] != true && earlier.is_covered(now) {
        Found::Nothing
    } else {
        Found::CannotTell
    })
}

#[cfg(test)]
mod tests {
    use shared::event::EventId;

    use super::*;

    #[test]
    fn a_method_that_is_not_known_to_be_harmless_is_not() {
        for method in [
            "conversations.history",
            "users.info",
            "chat.getPermalink",
            "auth.test",
            "chat.update",
            "reactions.add",
        ] {
            assert_eq!(effect(method), Effect::Repeatable, "{method}");
        }
        for method in [
            POST,
            "chat.scheduleMessage",
            "files.upload",
            "conversations.create",
            "new.thing",
        ] {
            assert_eq!(effect(method), Effect::Once, "{method}");
        }
    }

    #[test]
    fn the_mark_leaves_other_metadata_alone() {
        let event = Event::new(EventId::generate(), "call");
        let call = |metadata: Option<Value>| {
            let mut args = json!({"channel": "C1"});
            if let Some(metadata) = metadata {
                args["metadata"] = metadata;
            }
            let call = Call {
                method: POST.into(),
                args,
            };
            marked(&call, &event, None)["metadata"].clone()
        };
        assert_eq!(call(None)["event_payload"][MARK], marker(&event, None));
        let theirs = call(Some(json!({"event_type": "theirs", "event_payload": {"a": 1}})));
        assert_eq!(theirs["event_type"], "theirs");
        assert_eq!(
            theirs["event_payload"],
            json!({"a": 1, MARK: marker(&event, None)})
        );
        assert_eq!(call(Some(json!("odd"))), json!("odd"));
        let forged = json!({"metadata": {"event_payload": {MARK: "another's"}}});
        let call = Call {
            method: "chat.update".into(),
            args: forged,
        };
        assert_eq!(
            marked(&call, &event, None),
            json!({"metadata": {"event_payload": {}}})
        );
    }
}
