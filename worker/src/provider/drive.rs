//! Google Drive: calls a minute, and no headers that tell of them. A refusal is a 429, or a 403 with one of several
//! reasons; other 403s are what they say.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::Value;

use super::headers::Headers;
use super::{Preset, Reading, Refusal, error_body};
use crate::outbound::Answer;

const SOURCE: &str = "https://developers.google.com/workspace/drive/api/guides/limits";
/// Wait after a refusal for calls of the last minute, which leave it bit by bit.
const MINUTE: Duration = Duration::from_secs(10);
/// Wait after a refusal for calls of the day: somebody may have raised the limit.
const DAY: Duration = Duration::from_secs(3600);

/// For a project, and for each of its users. Every call in a batch counts. The burst is the project's.
pub(super) const PRESET: &[Preset] = &[Preset {
    dimension: "requests",
    rule: "12000 per minute, burst 200",
    source: SOURCE,
}];

/// Source of the reasons: Google, Drive API, resolve errors.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let retry_after = headers.retry_after();
    let wait = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => Some(MINUTE),
        StatusCode::FORBIDDEN => match reason(&error_body(answer)) {
            Some("rateLimitExceeded" | "userRateLimitExceeded") => Some(MINUTE),
            Some("dailyLimitExceeded" | "dailyLimitExceededUnreg") => Some(DAY),
            _ => None,
        },
        _ => None,
    };
    Reading {
        standings: Vec::new(),
        refusal: wait.map(|wait| Refusal::new(Some("requests"), retry_after.unwrap_or(wait))),
        usage: Vec::new(),
        absurd: headers.absurd,
    }
}

/// Why Google refuses, in its word.
fn reason(body: &Value) -> Option<&str> {
    body.pointer("/error/errors/0/reason")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::super::tests::{answer, at, seconds};
    use super::*;

    fn error(code: u16, reason: &str) -> String {
        serde_json::json!({"error": {"code": code, "message": "x", "errors": [
            {"domain": "usageLimits", "reason": reason, "message": "x"}]}})
        .to_string()
    }

    #[test]
    fn refusals_for_a_limit() {
        let retry = [("retry-after", "7")];
        for (status, headers, body, wait) in [
            (403, &[][..], error(403, "userRateLimitExceeded"), 10),
            (403, &[], error(403, "rateLimitExceeded"), 10),
            (403, &retry, error(403, "rateLimitExceeded"), 7),
            (403, &[], error(403, "dailyLimitExceeded"), 3600),
            (429, &[], error(429, "rateLimitExceeded"), 10),
            (429, &retry, String::new(), 7),
        ] {
            let answer = answer(status, headers, &body);
            let reading = read(&answer, at(0));
            assert_eq!(
                reading.refusal,
                Some(Refusal::new(Some("requests"), seconds(wait))),
                "{body}"
            );
            let failure = Provider::Drive.failure(&answer, &reading, at(0)).unwrap_err();
            assert_eq!(failure.class(), "throttled");
        }
    }

    #[test]
    fn other_refusals_are_what_they_say() {
        for (status, body, class) in [
            (403, error(403, "insufficientFilePermissions"), "permanent"),
            (403, error(403, "storageQuotaExceeded"), "permanent"),
            (403, error(403, "sharingRateLimitExceeded"), "permanent"),
            (403, "rateLimitExceeded".into(), "permanent"),
            (403, error(403, "x").replace("\"x\"", "7"), "permanent"),
            (
                403,
                "{\"error\": {\"errors\": {\"reason\": \"rateLimitExceeded\"}}}".into(),
                "permanent",
            ),
            (400, error(400, "rateLimitExceeded"), "permanent"),
            (404, error(404, "notFound"), "permanent"),
            (500, error(500, "backendError"), "transient"),
            (503, String::new(), "transient"),
        ] {
            let answer = answer(status, &[], &body);
            let reading = read(&answer, at(0));
            assert_eq!(reading.refusal, None, "{status} {body}");
            let failure = Provider::Drive.failure(&answer, &reading, at(0)).unwrap_err();
            assert_eq!(failure.class(), class, "{status} {body}");
        }
    }
}
