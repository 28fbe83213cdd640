//! OpenAI: requests and tokens a minute and a day, by organisation, project and model.

use std::time::SystemTime;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use shared::failure::Failure;

use super::headers::{Headers, MAX_COUNT};
use super::{
    DEFAULT_WAIT, Preset, Reading, Refusal, Standing, error_body, exhausted, obey_should_retry, until_reset,
    usage,
};
use crate::outbound::{Answer, classify};

const SOURCE: &str = "https://platform.openai.com/docs/guides/rate-limits";

/// OpenAI's own figures depend on model and tier (500 requests and 30,000 tokens a minute and more for the models of
/// the lowest paid tier) and stand in every answer; these are the project's for the time before the first one. Failed
/// calls count. The burst of `tokens` is the largest call there can be.
pub(super) const PRESET: &[Preset] = &[
    Preset {
        dimension: "requests",
        rule: "60 per minute, burst 1",
        source: SOURCE,
    },
    Preset {
        dimension: "tokens",
        rule: "30_000 per minute, burst 10_000",
        source: SOURCE,
    },
];

/// Reads `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, with resets like `6m0s`; compatible APIs send plain
/// seconds. A project may have a limit on tokens of its own: whichever leaves less is the one that binds.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let requests = pool(&mut headers, "requests", "requests");
    let tokens = pool(&mut headers, "tokens", "tokens");
    let project = pool(&mut headers, "tokens", "project-tokens");
    let tokens = tokens.into_iter().chain(project).min_by_key(|s| s.remaining);
    let standings: Vec<Standing> = requests.into_iter().chain(tokens).collect();
    let retry_after = headers.retry_after();
    let should_retry = headers.word("x-should-retry");

    let mut absurd = headers.absurd;
    let usage = total_tokens(answer, &mut absurd);
    let body = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => error_body(answer),
        _ => Value::Null,
    };
    let error = &body["error"];
    let refusal = match answer.status {
        StatusCode::TOO_MANY_REQUESTS if is_too_large(error) => None,
        StatusCode::TOO_MANY_REQUESTS if is_quota(error, should_retry) => Some(Refusal::forever()),
        StatusCode::TOO_MANY_REQUESTS => {
            let dimension = refused_by(error, &standings);
            let wait = retry_after.or_else(|| until_reset(&standings, dimension));
            Some(Refusal::new(dimension, wait.unwrap_or(DEFAULT_WAIT)))
        }
        _ => None,
    };
    Reading {
        standings,
        refusal,
        usage: usage.into_iter().collect(),
        absurd,
    }
}

/// The failure of an answer that is no refusal.
pub(super) fn failure(answer: &Answer, now: SystemTime) -> Result<(), Failure> {
    if answer.status == StatusCode::TOO_MANY_REQUESTS && is_too_large(&error_body(answer)["error"]) {
        return Err(Failure::permanent("request_too_large", classify::excerpt(answer)));
    }
    obey_should_retry(answer, now)
}

fn pool(headers: &mut Headers<'_>, dimension: &'static str, name: &str) -> Option<Standing> {
    let names = ["limit", "remaining", "reset"].map(|part| format!("x-ratelimit-{part}-{name}"));
    let names = [&*names[0], &*names[1], &*names[2]];
    headers.standing(dimension, names, Headers::span)
}

/// `usage.total_tokens` of an answer: what the call took from `tokens`.
pub(super) fn total_tokens(answer: &Answer, absurd: &mut u32) -> Option<(&'static str, u64)> {
    #[derive(Deserialize)]
    struct Usage {
        total_tokens: Option<u64>,
    }
    let tokens = usage::<Usage>(answer, absurd)?.total_tokens?;
    *absurd += u32::from(tokens > MAX_COUNT);
    (tokens <= MAX_COUNT).then_some(("tokens", tokens))
}

/// Whether money is lacking rather than time. `error.type` is `insufficient_quota` then and `error.code` says of what
/// kind. Source: platform.openai.com, error codes. `x-should-retry: false` says the same of an error without a name.
fn is_quota(error: &Value, should_retry: Option<&str>) -> bool {
    let is = |field: &str, words: &[&str]| error[field].as_str().is_some_and(|word| words.contains(&word));
    let codes = [
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    ];
    let by_time = is("code", &["rate_limit_exceeded"]) || is("type", &["requests", "tokens"]);
    is("code", &codes) || is("type", &codes) || (should_retry == Some("false") && !by_time)
}

/// A call of more tokens than a whole minute has is refused like any other, and always will be.
fn is_too_large(error: &Value) -> bool {
    let message = error["message"].as_str().unwrap_or_default();
    message.starts_with("Request too large")
}

/// The limit that refused: the one that the error names by its type, else the one that is used up. Nobody counts
/// tokens a day: that one is the whole credential's.
fn refused_by(error: &Value, standings: &[Standing]) -> Option<&'static str> {
    let message = error["message"].as_str().unwrap_or_default();
    let day = message.contains("per day");
    match error["type"].as_str() {
        Some("requests") if day => Some("requests-day"),
        Some("requests") => Some("requests"),
        Some("tokens") if day => None,
        Some("tokens") => Some("tokens"),
        _ => exhausted(standings),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, at, seconds};
    use super::super::{Provider, Standing};
    use super::*;
    use std::time::Duration;

    const HEADERS: [(&str, &str); 6] = [
        ("x-ratelimit-limit-requests", "5000"),
        ("x-ratelimit-limit-tokens", "160000"),
        ("x-ratelimit-remaining-requests", "4999"),
        ("x-ratelimit-remaining-tokens", "159976"),
        ("x-ratelimit-reset-requests", "12ms"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ];

    fn error(kind: &str, code: &str, message: &str) -> String {
        serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
            .to_string()
    }

    fn refusal(headers: &[(&str, &str)], body: &str) -> Option<Refusal> {
        let all = [&HEADERS[..], headers].concat();
        read(&answer(429, &all, body), at(0)).refusal
    }

    #[test]
    fn standings_and_usage() {
        let body = r#"{"id":"x","usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#;
        let reading = read(&answer(200, &HEADERS, body), at(0));
        let standing = |dimension, limit, remaining, millis| Standing {
            dimension,
            limit: Some(limit),
            remaining,
            reset: Duration::from_millis(millis),
        };
        assert_eq!(
            reading.standings,
            [
                standing("requests", 5000, 4999, 12),
                standing("tokens", 160_000, 159_976, 360_000)
            ]
        );
        assert_eq!(reading.usage, [("tokens", 21)]);
        assert_eq!((reading.refusal, reading.absurd), (None, 0));
    }

    #[test]
    fn the_projects_limit_binds_when_it_leaves_less() {
        let project = [
            ("x-ratelimit-limit-project-tokens", "1000"),
            ("x-ratelimit-remaining-project-tokens", "7"),
            ("x-ratelimit-reset-project-tokens", "1s"),
        ];
        let reading = read(&answer(200, &[&HEADERS[..], &project].concat(), ""), at(0));
        assert_eq!(reading.standings[1].remaining, 7);
    }

    #[test]
    fn compatible_apis_without_figures_are_not_believed() {
        let azure = [
            ("x-ratelimit-limit-tokens", "-1"),
            ("x-ratelimit-remaining-tokens", "-1"),
            ("x-ratelimit-reset-tokens", "0"),
        ];
        let reading = read(&answer(200, &azure, ""), at(0));
        assert_eq!((reading.standings, reading.absurd), (vec![], 2));
    }

    #[test]
    fn refusals_name_their_limit_and_wait() {
        let per_minute = "Rate limit reached for gpt-x on tokens per min (TPM): Limit 30000, Used 29000.";
        let tokens = error("tokens", "rate_limit_exceeded", per_minute);
        let requests = error(
            "requests",
            "rate_limit_exceeded",
            "on requests per min (RPM): Limit 3",
        );
        let tokens_day = error(
            "tokens",
            "rate_limit_exceeded",
            "on tokens per day (TPD): Limit 900",
        );
        let day = error(
            "requests",
            "rate_limit_exceeded",
            "on requests per day (RPD): Limit 200",
        );
        for (headers, body, dimension, millis) in [
            (&[][..], &*tokens, Some("tokens"), 360_000),
            (&[("retry-after", "9")], &tokens, Some("tokens"), 9_000),
            (
                &[("retry-after-ms", "1898"), ("retry-after", "2")],
                &tokens,
                Some("tokens"),
                1_898,
            ),
            (&[("retry-after", "2")], &requests, Some("requests"), 2_000),
            (&[("retry-after", "432")], &day, Some("requests-day"), 432_000),
            (&[("retry-after", "432")], &tokens_day, None, 432_000),
            (&[("x-should-retry", "false")], &tokens, Some("tokens"), 360_000),
            (&[], "slow down", None, 30_000),
            (&[("retry-after", "NaN")], "", None, 30_000),
        ] {
            let expected = Refusal::new(dimension, Duration::from_millis(millis));
            assert_eq!(refusal(headers, body), Some(expected), "{headers:?} {body}");
        }
        // A reset of 12 ms is no reason for a tight loop.
        assert_eq!(refusal(&[], &requests).unwrap().wait, super::super::MIN_WAIT);
    }

    #[test]
    fn lacking_money_is_for_ever() {
        let spent = error(
            "insufficient_quota",
            "project_spend_limit_exceeded",
            "You exceeded your current quota",
        );
        let null = r#"{"error":{"message":"x","type":"insufficient_quota","param":null,"code":null}}"#;
        for (headers, body) in [
            (&[][..], &*error("insufficient_quota", "insufficient_quota", "")),
            (&[], &spent),
            (&[], null),
            (&[("x-should-retry", "false")], ""),
        ] {
            let answer = answer(429, headers, body);
            let reading = read(&answer, at(0));
            assert!(reading.refusal.unwrap().forever, "{body}");
            let failure = Provider::Openai.failure(&answer, &reading, at(0)).unwrap_err();
            assert_eq!(
                (failure.class(), &*failure.reason().code),
                ("permanent", "quota_exhausted")
            );
        }
    }

    #[test]
    fn what_never_fits_is_not_tried_again() {
        let message = "Request too large for gpt-x on tokens per min (TPM): Limit 30000, Requested 35464.";
        let answer = answer(429, &HEADERS, &error("tokens", "rate_limit_exceeded", message));
        let reading = read(&answer, at(0));
        assert_eq!(reading.refusal, None);
        let failure = Provider::Openai.failure(&answer, &reading, at(0)).unwrap_err();
        assert_eq!(
            (failure.class(), &*failure.reason().code),
            ("permanent", "request_too_large")
        );
    }

    #[test]
    fn should_retry_decides_over_the_status() {
        let class = |status, told| {
            let answer = answer(status, &[("x-should-retry", told), ("retry-after", "7")], "");
            let reading = read(&answer, at(0));
            Provider::Openai.failure(&answer, &reading, at(0)).unwrap_err()
        };
        assert_eq!(class(500, "false").class(), "permanent");
        assert_eq!(class(500, "perhaps").class(), "transient");
        let conflict = class(409, "true");
        assert!(
            matches!(conflict, Failure::Transient { retry_after, .. } if retry_after == Some(seconds(7)))
        );
    }

    #[test]
    fn usage_that_makes_no_sense_is_counted() {
        for (body, absurd) in [
            (r#"{"usage":{"total_tokens":-4}}"#, 1),
            (r#"{"usage":{"total_tokens":1.5}}"#, 1),
            (r#"{"usage":{"total_tokens":9999999999999999}}"#, 1),
            (r#"{"usage":7}"#, 1),
            (r#"{"usage":null}"#, 0),
            (r#"{"usage":{}}"#, 0),
            (r#"{"usage":"#, 0),
            ("data: {}", 0),
        ] {
            let reading = read(&answer(200, &[], body), at(0));
            assert_eq!((reading.usage.len(), reading.absurd), (0, absurd), "{body}");
        }
    }
}
