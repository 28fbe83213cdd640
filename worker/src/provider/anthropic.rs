//! Anthropic: requests, input tokens and output tokens a minute, by organisation and class of model.

use std::time::SystemTime;

use http::StatusCode;
use serde::Deserialize;

use super::headers::{Headers, MAX_COUNT};
use super::{DEFAULT_WAIT, Preset, Reading, Refusal, Standing, error_body, exhausted, until_reset, usage};
use crate::outbound::Answer;

const SOURCE: &str = "https://platform.claude.com/docs/en/api/rate-limits";

/// The lowest tier allows 50 requests, 30,000 input tokens and 8,000 output tokens a minute for most models; every
/// answer says what really holds. Sixty a minute may be enforced as one a second, so that requests come one by one.
/// The bursts of tokens are the largest call there can be, far below the whole minute that Anthropic's bucket holds.
pub(super) const PRESET: &[Preset] = &[
    Preset {
        dimension: "requests",
        rule: "40 per minute, burst 1",
        source: SOURCE,
    },
    Preset {
        dimension: "input-tokens",
        rule: "30_000 per minute, burst 10_000",
        source: SOURCE,
    },
    Preset {
        dimension: "output-tokens",
        rule: "8_000 per minute, burst 4_000",
        source: SOURCE,
    },
];

/// A refusal is a 429. A 529 is none: the API is overloaded for everybody and the credential has done nothing, so that
/// it must not be paused for the whole fleet; by its status it is a failure that passes, after `retry-after` if there
/// is one. `anthropic-ratelimit-tokens-*` only repeats whichever of the others binds.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let mut pool = |dimension: &'static str| {
        let names =
            ["limit", "remaining", "reset"].map(|part| format!("anthropic-ratelimit-{dimension}-{part}"));
        let names = [&*names[0], &*names[1], &*names[2]];
        headers.standing(dimension, names, Headers::rfc3339)
    };
    let standings: Vec<Standing> = ["requests", "input-tokens", "output-tokens"]
        .into_iter()
        .filter_map(&mut pool)
        .collect();
    let retry_after = headers.retry_after();
    let mut absurd = headers.absurd;
    let usage = tokens(answer, &mut absurd);
    let refusal = match answer.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYMENT_REQUIRED if lacks_money(answer) => {
            Some(Refusal::forever())
        }
        StatusCode::TOO_MANY_REQUESTS => {
            let dimension = exhausted(&standings);
            let wait = retry_after.or_else(|| until_reset(&standings, dimension));
            Some(Refusal::new(dimension, wait.unwrap_or(DEFAULT_WAIT)))
        }
        _ => None,
    };
    Reading {
        standings,
        refusal,
        usage,
        absurd,
    }
}

/// The monthly cap of a tier is refused like a limit of a minute, with the same type; a lacking payment is a 402.
/// Source: Claude API errors, `enforced_spend_limit_reached` and `billing_error`.
fn lacks_money(answer: &Answer) -> bool {
    let error = &error_body(answer)["error"];
    error["details"]["error_code"] == "enforced_spend_limit_reached" || error["type"] == "billing_error"
}

/// What a call took: tokens written to the cache count as input, tokens read from it do not (they did for some models
/// that are retired). Source: rate limits, cache-aware ITPM.
fn tokens(answer: &Answer, absurd: &mut u32) -> Vec<(&'static str, u64)> {
    #[derive(Deserialize)]
    struct Usage {
        input_tokens: Option<u64>,
        cache_creation_input_tokens: Option<u64>,
        output_tokens: Option<u64>,
    }
    let Some(usage) = usage::<Usage>(answer, absurd) else {
        return Vec::new();
    };
    let input = usage
        .input_tokens
        .map(|new| new.saturating_add(usage.cache_creation_input_tokens.unwrap_or(0)));
    let all = [("input-tokens", input), ("output-tokens", usage.output_tokens)];
    let all = all.into_iter().filter_map(|(name, tokens)| Some((name, tokens?)));
    let (sane, bad): (Vec<_>, Vec<_>) = all.partition(|(_, tokens)| *tokens <= MAX_COUNT);
    *absurd += bad.len() as u32;
    sane
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::super::tests::{answer, at, seconds};
    use super::*;
    use shared::failure::Failure;

    // A recorded answer's headers.
    const HEADERS: [(&str, &str); 13] = [
        ("date", "Mon, 24 Feb 2025 22:25:32 GMT"),
        ("anthropic-ratelimit-input-tokens-limit", "80000"),
        ("anthropic-ratelimit-input-tokens-remaining", "78000"),
        ("anthropic-ratelimit-input-tokens-reset", "2025-02-24T22:25:32Z"),
        ("anthropic-ratelimit-output-tokens-limit", "16000"),
        ("anthropic-ratelimit-output-tokens-remaining", "12000"),
        ("anthropic-ratelimit-output-tokens-reset", "2025-02-24T22:25:47Z"),
        ("anthropic-ratelimit-requests-limit", "1000"),
        ("anthropic-ratelimit-requests-remaining", "999"),
        ("anthropic-ratelimit-requests-reset", "2025-02-24T22:25:30Z"),
        ("anthropic-ratelimit-tokens-limit", "96000"),
        ("anthropic-ratelimit-tokens-remaining", "90000"),
        ("anthropic-ratelimit-tokens-reset", "2025-02-24T22:25:32Z"),
    ];

    fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let changed = |name: &str| changes.iter().any(|(n, _)| *n == name);
        let kept = HEADERS.into_iter().filter(|(name, _)| !changed(name));
        kept.chain(changes.iter().copied()).collect()
    }

    #[test]
    fn standings_by_the_answers_own_clock() {
        // Ours is years ahead.
        let reading = read(&answer(200, &HEADERS, "{}"), at(1_800_000_000));
        let standing = |dimension, limit, remaining, reset| Standing {
            dimension,
            limit: Some(limit),
            remaining,
            reset: seconds(reset),
        };
        assert_eq!(
            reading.standings,
            [
                standing("requests", 1000, 999, 0),
                standing("input-tokens", 80_000, 78_000, 1),
                standing("output-tokens", 16_000, 12_000, 16),
            ]
        );
        assert_eq!((reading.refusal, reading.absurd), (None, 0));
    }

    #[test]
    fn usage_counts_what_the_limits_count() {
        let body = r#"{"usage":{"input_tokens":100,"cache_creation_input_tokens":50,"cache_read_input_tokens":9000,"output_tokens":7,"service_tier":"standard"}}"#;
        let reading = read(&answer(200, &[], body), at(0));
        assert_eq!(reading.usage, [("input-tokens", 150), ("output-tokens", 7)]);
        let body = r#"{"usage":{"input_tokens":18446744073709551615,"cache_creation_input_tokens":1,"output_tokens":7}}"#;
        let reading = read(&answer(200, &[], body), at(0));
        assert_eq!((reading.usage, reading.absurd), (vec![("output-tokens", 7)], 1));
    }

    #[test]
    fn refusals_name_the_limit_that_is_used_up() {
        let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"},"request_id":"r"}"#;
        let output = ("anthropic-ratelimit-output-tokens-remaining", "0");
        let requests = ("anthropic-ratelimit-requests-remaining", "0");
        for (headers, dimension, wait) in [
            (with(&[("retry-after", "17")]), None, 17),
            (with(&[output, ("retry-after", "17")]), Some("output-tokens"), 17),
            (with(&[output]), Some("output-tokens"), 16),
            (with(&[output, requests]), None, 16),
            (with(&[]), None, 30),
            (with(&[("retry-after", "-1")]), None, 30),
        ] {
            let refusal = read(&answer(429, &headers, body), at(0)).refusal;
            assert_eq!(
                refusal,
                Some(Refusal::new(dimension, seconds(wait))),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn an_overload_passes_and_a_lack_of_money_does_not() {
        let overload = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let spent = r#"{"type":"error","error":{"type":"rate_limit_error","message":"x","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        let unpaid = r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#;
        let judge = |status, headers: &[(&str, &str)], body| {
            let answer = answer(status, headers, body);
            let reading = read(&answer, at(0));
            let failure = Provider::Anthropic.failure(&answer, &reading, at(0)).unwrap_err();
            (reading.refusal.map(|refusal| refusal.forever), failure)
        };
        let (refusal, failure) = judge(529, &[("retry-after", "5"), ("x-should-retry", "true")], overload);
        assert_eq!(refusal, None);
        assert!(matches!(failure, Failure::Transient { retry_after, .. } if retry_after == Some(seconds(5))));
        for (status, body) in [(429, spent), (402, unpaid)] {
            let (refusal, failure) = judge(status, &[], body);
            assert_eq!((refusal, failure.class()), (Some(true), "permanent"));
        }
    }

    #[test]
    fn moments_that_are_none_are_counted() {
        for bad in [
            "soon",
            "1740435932",
            "2025-02-24",
            "2026-02-24T22:25:32Z",
            "2025-02-24T25:00:00Z",
            "-1",
        ] {
            let reading = read(
                &answer(200, &with(&[("anthropic-ratelimit-requests-reset", bad)]), ""),
                at(0),
            );
            assert_eq!((reading.standings.len(), reading.absurd), (2, 1), "{bad:?}");
        }
    }
}
