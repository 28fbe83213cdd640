//! Linear: leaky buckets of requests and of complexity, told by headers; over them, an HTTP 400.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::headers::Headers;
use super::{Preset, Reading, Refusal, Standing, UNCOUNTED, error_body, exhausted, until_reset};
use crate::outbound::Answer;

const SOURCE: &str = "https://linear.app/developers/rate-limiting";
/// Wait after a refusal whose headers name none, as long as Linear's own tools wait.
const UNNAMED: Duration = Duration::from_secs(60);

/// Per user. Linear allows an API key 2,500 requests an hour and an OAuth app 5,000: the project's default stays well
/// below both. Complexity: 3,000,000 an hour for a key, 2,000,000 for an OAuth app (to be set there); one query costs
/// 10,000 at most, so that the burst holds any query.
pub(super) const PRESET: &[Preset] = &[
    Preset {
        dimension: "requests",
        rule: "1000 per hour, burst 50",
        source: SOURCE,
    },
    Preset {
        dimension: "complexity",
        rule: "3_000_000 per hour, burst 10_000",
        source: SOURCE,
    },
];

/// A refusal is a 400 with the code RATELIMITED, or a 429. Some queries have a smaller pool of their own beside the
/// two (`X-RateLimit-Endpoint-*`): its refusals stop nothing else.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let mut pool = |dimension: &'static str, name: &str| -> Option<Standing> {
        let names = ["limit", "remaining", "reset"].map(|part| format!("x-ratelimit-{name}-{part}"));
        let names = [&*names[0], &*names[1], &*names[2]];
        headers.standing(dimension, names, Headers::epoch_millis)
    };
    let standings: Vec<Standing> = pool("requests", "requests")
        .into_iter()
        .chain(pool("complexity", "complexity"))
        .collect();
    let endpoint = pool(UNCOUNTED, "endpoint-requests").filter(|pool| pool.remaining == 0);
    let retry_after = headers.retry_after();
    let usage = headers.count("x-complexity").map(|cost| ("complexity", cost));

    let refusal = refused(answer).then(|| {
        let counted = standings.iter().any(|standing| standing.remaining == 0);
        let (dimension, reset) = match endpoint {
            Some(endpoint) if !counted => (Some(UNCOUNTED), Some(endpoint.reset)),
            _ => {
                let dimension = exhausted(&standings);
                (dimension, until_reset(&standings, dimension))
            }
        };
        Refusal::new(dimension, retry_after.or(reset).unwrap_or(UNNAMED))
    });
    Reading {
        standings,
        refusal,
        usage: usage.into_iter().collect(),
        absurd: headers.absurd,
    }
}

fn refused(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::BAD_REQUEST => {
            let body = error_body(answer);
            let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
            errors
                .iter()
                .any(|error| error["extensions"]["code"] == "RATELIMITED")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::super::tests::{answer, at, seconds};
    use super::*;

    const LIMITED: &str = r#"{"errors":[{"message":"Rate limit exceeded","extensions":{"type":"ratelimited","code":"RATELIMITED","userError":true}}]}"#;
    const FULL: [(&str, &str); 7] = [
        ("x-complexity", "73"),
        ("x-ratelimit-requests-limit", "2500"),
        ("x-ratelimit-requests-remaining", "2499"),
        ("x-ratelimit-requests-reset", "1800000060500"),
        ("x-ratelimit-complexity-limit", "3000000"),
        ("x-ratelimit-complexity-remaining", "2999927"),
        ("x-ratelimit-complexity-reset", "1800000120000"),
    ];

    fn read(status: u16, headers: &[(&str, &str)], body: &str) -> Reading {
        super::read(&answer(status, headers, body), at(1_800_000_000))
    }

    fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let changed = |name: &str| changes.iter().any(|(n, _)| *n == name);
        let kept = FULL.into_iter().filter(|(name, _)| !changed(name));
        kept.chain(changes.iter().copied()).collect()
    }

    #[test]
    fn both_pools_and_the_cost_are_read() {
        let reading = read(200, &FULL, r#"{"data":{}}"#);
        let standing = |dimension, limit, remaining, millis| Standing {
            dimension,
            limit: Some(limit),
            remaining,
            reset: Duration::from_millis(millis),
        };
        assert_eq!(
            reading.standings,
            [
                standing("requests", 2500, 2499, 60_500),
                standing("complexity", 3_000_000, 2_999_927, 120_000)
            ]
        );
        assert_eq!(reading.usage, [("complexity", 73)]);
        assert_eq!((reading.refusal, reading.absurd), (None, 0));
    }

    #[test]
    fn refusals_name_the_pool_that_is_used_up() {
        let requests = ("x-ratelimit-requests-remaining", "0");
        let complexity = ("x-ratelimit-complexity-remaining", "0");
        let endpoint = [
            ("x-ratelimit-endpoint-requests-limit", "30"),
            ("x-ratelimit-endpoint-requests-remaining", "0"),
            ("x-ratelimit-endpoint-requests-reset", "1800000007000"),
        ];
        for (headers, dimension, wait) in [
            (with(&[complexity]), Some("complexity"), 120_000),
            (with(&[requests]), Some("requests"), 60_500),
            (with(&[requests, complexity]), None, 120_000),
            (with(&[requests, ("retry-after", "9")]), Some("requests"), 9_000),
            (with(&endpoint), Some(UNCOUNTED), 7_000),
            (with(&[]), None, 60_000),
            (vec![], None, 60_000),
        ] {
            let refusal = read(400, &headers, LIMITED).refusal;
            let wait = Duration::from_millis(wait);
            assert_eq!(refusal, Some(Refusal::new(dimension, wait)), "{headers:?}");
        }
        assert!(read(429, &[], "").refusal.is_some());
    }

    #[test]
    fn another_400_is_no_refusal() {
        let invalid = r#"{"errors":[{"message":"x","extensions":{"code":"INPUT_ERROR"}}]}"#;
        for body in [
            invalid,
            "",
            "RATELIMITED",
            "[]",
            r#"{"errors":{"code":"RATELIMITED"}}"#,
        ] {
            let answer = answer(400, &FULL, body);
            let reading = super::read(&answer, at(0));
            assert_eq!(reading.refusal, None, "{body:?}");
            let failure = Provider::Linear.failure(&answer, &reading, at(0)).unwrap_err();
            assert_eq!(failure.class(), "permanent");
        }
        let limited = answer(400, &FULL, LIMITED);
        let reading = super::read(&limited, at(0));
        let failure = Provider::Linear.failure(&limited, &reading, at(0)).unwrap_err();
        assert_eq!(
            (failure.class(), &*failure.reason().code),
            ("throttled", "ratelimited")
        );
    }

    #[test]
    fn seconds_in_place_of_milliseconds_are_long_past() {
        let reading = read(200, &with(&[("x-ratelimit-requests-reset", "1800000060")]), "");
        assert_eq!(reading.standings[0].reset, seconds(0));
        // Microseconds are thousands of years ahead.
        let reading = read(
            200,
            &with(&[("x-ratelimit-requests-reset", "999999999999999")]),
            "",
        );
        assert_eq!((reading.standings.len(), reading.absurd), (1, 1));
    }
}
