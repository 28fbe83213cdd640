//! Errors and the headers about limits, in each maker's form.

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Admission, Api, Moment, Reply, status};

/// What is limited, in the order of the demands.
const LIMITED: [&str; 2] = ["requests", "tokens"];

pub(super) fn error(api: Api, code: u16, kind: &str, word: &str, message: &str) -> Reply {
    let body = match api {
        Api::Anthropic => {
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_sim"})
        }
        Api::Xai => json!({"code": kind, "error": message}),
        _ => {
            let word = if word.is_empty() {
                serde_json::Value::Null
            } else {
                json!(word)
            };
            let kind = if code == 404 || code == 401 {
                "invalid_request_error"
            } else {
                kind
            };
            json!({"error": {"message": message, "type": kind, "param": null, "code": word}})
        }
    };
    Reply::json(status(code), &body).rejected()
}

pub(super) fn policy(api: Api) -> Reply {
    match api {
        Api::Anthropic => {
            let message = "Output blocked by content filtering policy";
            error(api, 400, "invalid_request_error", "", message)
        }
        Api::Xai => error(
            api,
            403,
            "permission-denied",
            "",
            "Content violates usage guidelines.",
        ),
        _ => error(
            api,
            400,
            "invalid_request_error",
            "content_policy_violation",
            "against the policy",
        ),
    }
}

pub(super) fn limited(api: Api, admission: &Admission, now: Moment) -> Reply {
    let which = admission.breached.unwrap_or(0);
    let wait = admission
        .standings
        .get(which)
        .map_or(1, |standing| now.seconds_until(standing.room_at));
    let what = LIMITED.get(which).copied().unwrap_or("requests");
    let message = format!("Rate limit reached on {what} per min");
    let kind = if api == Api::Anthropic {
        "rate_limit_error"
    } else {
        what
    };
    let reply = error(api, 429, kind, "rate_limit_exceeded", &message).with("retry-after", wait);
    told(api, reply, admission, now)
}

/// The answer with what it tells of the limits.
pub(super) fn told(api: Api, mut reply: Reply, admission: &Admission, now: Moment) -> Reply {
    for (what, standing) in LIMITED.into_iter().zip(&admission.standings) {
        let reset = standing.resets_at.saturating_sub(now.since_start);
        let (names, reset) = match (api, what) {
            (Api::Anthropic, "requests") => (
                [
                    "anthropic-ratelimit-requests-limit",
                    "anthropic-ratelimit-requests-remaining",
                    "anthropic-ratelimit-requests-reset",
                ],
                OffsetDateTime::from(now.wall + reset)
                    .format(&Rfc3339)
                    .unwrap_or_default(),
            ),
            // Read and written are counted apart there, which is not simulated.
            (Api::Anthropic, _) => continue,
            (_, "requests") => (
                [
                    "x-ratelimit-limit-requests",
                    "x-ratelimit-remaining-requests",
                    "x-ratelimit-reset-requests",
                ],
                format!("{}ms", reset.as_millis()),
            ),
            _ => (
                [
                    "x-ratelimit-limit-tokens",
                    "x-ratelimit-remaining-tokens",
                    "x-ratelimit-reset-tokens",
                ],
                format!("{}ms", reset.as_millis()),
            ),
        };
        reply = reply
            .with(names[0], standing.limit)
            .with(names[1], standing.remaining());
        // xAI does not tell its resets.
        if api != Api::Xai {
            reply = reply.with(names[2], reset);
        }
    }
    reply
}
