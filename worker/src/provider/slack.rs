//! Slack's Web API: limits by method, and by channel for messages; no headers but `Retry-After`.

use std::time::SystemTime;

use http::StatusCode;

use super::headers::Headers;
use super::{DEFAULT_WAIT, Preset, Reading, Refusal, error_body};
use crate::outbound::Answer;

const SOURCE: &str = "https://docs.slack.dev/apis/web-api/rate-limits";

/// The rule of `channel:<id>`: `chat.postMessage` posts one message a second and channel. Source: docs.slack.dev, rate
/// limits, posting messages.
pub const CHANNEL: &str = "1 per second";

const TIER_1: &str = "1 per minute";
const TIER_2: &str = "20 per minute, burst 4";
const TIER_3: &str = "50 per minute, burst 10";
const TIER_4: &str = "100 per minute, burst 20";
/// «Hundreds of requests per minute», «several hundred messages per minute»: the methods' own pages name no number.
const SPECIAL: &str = "300 per minute, burst 20";

/// Slack has no limit over all methods; the project's is the rate of tier 4, the highest that has a number. The limits
/// of methods: [`tier`].
pub(super) const PRESET: &[Preset] = &[Preset {
    dimension: "requests",
    rule: "100 per minute, burst 20",
    source: SOURCE,
}];

/// The rule of `method:<name>`, for one app in one workspace: tiers of 1, 20, 50 and 100 calls a minute. A method that
/// is not listed has tier 2, as most have.
///
/// Source of the tiers: docs.slack.dev, rate limits; of each method's: its page there, as listed in Slack's Java SDK
/// (`MethodsRateLimits.java`). Slack allows more at times («20+»); the bursts are the project's. Apps that are sold
/// outside Slack's marketplace may call `conversations.history` and `conversations.replies` only once a minute since
/// May 2025: that is for the settings to say.
pub fn tier(method: &str) -> &'static str {
    match method {
        "apps.connections.open"
        | "apps.manifest.create"
        | "apps.manifest.delete"
        | "apps.manifest.update"
        | "apps.uninstall"
        | "conversations.acceptSharedInvite"
        | "conversations.approveSharedInvite"
        | "conversations.declineSharedInvite"
        | "conversations.listConnectInvites"
        | "rtm.connect"
        | "rtm.start"
        | "team.externalTeams.disconnect"
        | "tooling.tokens.rotate" => TIER_1,

        "apps.manifest.export"
        | "apps.manifest.validate"
        | "assistant.threads.setSuggestedPrompts"
        | "assistant.threads.setTitle"
        | "auth.revoke"
        | "bookmarks.list"
        | "bots.info"
        | "canvases.access.delete"
        | "canvases.access.set"
        | "canvases.delete"
        | "canvases.edit"
        | "canvases.sections.lookup"
        | "chat.delete"
        | "chat.deleteScheduledMessage"
        | "chat.meMessage"
        | "chat.scheduleMessage"
        | "chat.scheduledMessages.list"
        | "chat.unfurl"
        | "chat.update"
        | "conversations.history"
        | "conversations.info"
        | "conversations.invite"
        | "conversations.join"
        | "conversations.kick"
        | "conversations.leave"
        | "conversations.mark"
        | "conversations.open"
        | "conversations.replies"
        | "dnd.info"
        | "files.delete"
        | "files.list"
        | "files.revokePublicURL"
        | "files.sharedPublicURL"
        | "functions.completeError"
        | "functions.completeSuccess"
        | "openid.connect.userInfo"
        | "reactions.add"
        | "reactions.get"
        | "slackLists.items.create"
        | "slackLists.items.update"
        | "stars.list"
        | "team.billing.info"
        | "team.info"
        | "team.preferences.list"
        | "team.profile.get"
        | "users.getPresence"
        | "users.identity"
        | "users.lookupByEmail"
        | "users.profile.set" => TIER_3,

        "api.test"
        | "apps.event.authorizations.list"
        | "chat.appendStream"
        | "chat.postEphemeral"
        | "conversations.members"
        | "dialog.open"
        | "files.completeUploadExternal"
        | "files.getUploadURLExternal"
        | "files.info"
        | "oauth.v2.access"
        | "openid.connect.token"
        | "users.info"
        | "users.profile.get"
        | "views.open"
        | "views.publish"
        | "views.push"
        | "views.update" => TIER_4,

        "assistant.threads.setStatus"
        | "auth.test"
        | "blocks.validate"
        | "chat.getPermalink"
        | "chat.postMessage" => SPECIAL,

        _ => TIER_2,
    }
}

/// A refusal is a 429 with `Retry-After`, and in places a 200 whose error says so. It concerns the method that was
/// called: the dimension is `method`, and the caller knows which one. Other errors in a 200 are the handler's.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let retry_after = headers.retry_after();
    let refused = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::OK => {
            let body = error_body(answer);
            let error = body["error"].as_str().unwrap_or_default();
            body["ok"] == false && matches!(error, "ratelimited" | "rate_limited" | "message_limit_exceeded")
        }
        _ => false,
    };
    Reading {
        refusal: refused.then(|| Refusal::new(Some("method"), retry_after.unwrap_or(DEFAULT_WAIT))),
        absurd: headers.absurd,
        ..Reading::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::super::tests::{answer, at, seconds};
    use super::*;
    use shared::limiter::Rule;

    #[test]
    fn methods_have_their_tiers() {
        for (method, rule) in [
            ("rtm.start", "1 per minute"),
            ("users.list", "20 per minute, burst 4"),
            ("conversations.history", "50 per minute, burst 10"),
            ("users.info", "100 per minute, burst 20"),
            ("chat.postMessage", "300 per minute, burst 20"),
            ("made.up", "20 per minute, burst 4"),
            ("", "20 per minute, burst 4"),
        ] {
            assert_eq!(tier(method), rule, "{method}");
            assert!(rule.parse::<Rule>().is_ok());
        }
    }

    #[test]
    fn refusals_concern_the_method() {
        let limited = r#"{"ok":false,"error":"ratelimited"}"#;
        for (status, headers, body, wait) in [
            (429, &[("retry-after", "17")][..], "", 17),
            (429, &[("retry-after", "30")], limited, 30),
            (429, &[], "", 30),
            (429, &[("retry-after", "-5")], "", 30),
            (200, &[("retry-after", "3")], limited, 3),
            (200, &[], r#"{"ok":false,"error":"message_limit_exceeded"}"#, 30),
            (429, &[("retry-after", "864000")], "", 86_400),
        ] {
            let answer = answer(status, headers, body);
            let reading = read(&answer, at(0));
            assert_eq!(
                reading.refusal,
                Some(Refusal::new(Some("method"), seconds(wait))),
                "{status} {headers:?}"
            );
            let failure = Provider::Slack.failure(&answer, &reading, at(0)).unwrap_err();
            let code = if status == 200 { "ratelimited" } else { "http_429" };
            assert_eq!((failure.class(), &*failure.reason().code), ("throttled", code));
        }
    }

    #[test]
    fn other_errors_are_left_to_the_handler() {
        for body in [
            r#"{"ok":false,"error":"channel_not_found"}"#,
            r#"{"ok":true,"error":"ratelimited"}"#,
            r#"{"ok":true,"ts":"1.2"}"#,
            "<html>",
        ] {
            let answer = answer(200, &[], body);
            let reading = read(&answer, at(0));
            assert_eq!(reading, Reading::default(), "{body}");
            assert_eq!(Provider::Slack.failure(&answer, &reading, at(0)), Ok(()));
        }
    }
}
