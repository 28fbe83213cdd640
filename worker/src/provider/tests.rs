//! What holds for every provider, whatever it answers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use shared::limiter::Rule;

use super::headers::{MAX_AHEAD, MAX_COUNT};
use super::*;

/// An answer; a header may come more than once.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let raw: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_bytes().to_vec())).collect();
    raw_answer(status, &raw, Bytes::from(body.to_owned()))
}

fn raw_answer(status: u16, headers: &[(&str, Vec<u8>)], body: Bytes) -> Answer {
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            map.append(HeaderName::try_from(*name).unwrap(), value);
        }
    }
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: map,
        body,
        cut: false,
    }
}

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn names_go_round() {
    for (name, provider) in Provider::ALL {
        assert_eq!(Provider::named(name), Some(provider));
        assert_eq!(provider.as_str(), name);
        assert!(Provider::names().contains(name));
    }
    assert_eq!(Provider::named("GitHub"), None);
}

#[test]
fn presets_have_sources_and_no_dimension_twice() {
    for (name, provider) in Provider::ALL {
        let preset = provider.preset();
        for limit in preset {
            assert!(limit.source.starts_with("https://"), "{name} {}", limit.dimension);
            assert_eq!(
                preset.iter().filter(|p| p.dimension == limit.dimension).count(),
                1
            );
            assert!(limit.rule.parse::<Rule>().is_ok(), "{name} {}", limit.rule);
        }
        assert_eq!(
            preset.iter().any(|p| p.dimension == "requests"),
            provider != Provider::Other
        );
    }
}

#[test]
fn refusals_are_throttled_and_keep_their_wait() {
    let now = at(1_800_000_000);
    for (_, provider) in Provider::ALL {
        let limited = answer(429, &[("retry-after", "17")], "");
        let reading = provider.read(&limited, now);
        let failure = provider.failure(&limited, &reading, now).unwrap_err();
        assert!(
            matches!(&failure, Failure::Throttled { wait, .. } if *wait == seconds(17)),
            "{provider:?}"
        );
        assert_eq!(failure.reason().code, "http_429");
        for status in [401, 404, 500, 503, 529] {
            let other = answer(status, &[], "");
            let reading = provider.read(&other, now);
            assert_eq!(reading, Reading::default(), "{provider:?} {status}");
            assert_eq!(
                provider.failure(&other, &reading, now),
                classify::by_status(&other, now)
            );
        }
        let fine = answer(200, &[], "{}");
        assert_eq!(provider.failure(&fine, &provider.read(&fine, now), now), Ok(()));
    }
}

#[test]
fn waits_are_bounded_whatever_is_asked_for() {
    for (asked, wait) in [("0", MIN_WAIT), ("86401", MAX_WAIT), ("2000000", MAX_WAIT)] {
        for (_, provider) in Provider::ALL {
            let reading = provider.read(&answer(429, &[("retry-after", asked)], ""), at(0));
            assert_eq!(reading.refusal.unwrap().wait, wait, "{provider:?}");
        }
    }
}

const NAMES: [&str; 36] = [
    "date",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-complexity",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-resource",
    "x-ratelimit-requests-limit",
    "x-ratelimit-requests-remaining",
    "x-ratelimit-requests-reset",
    "x-ratelimit-complexity-limit",
    "x-ratelimit-complexity-remaining",
    "x-ratelimit-complexity-reset",
    "x-ratelimit-endpoint-requests-remaining",
    "x-ratelimit-endpoint-requests-reset",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-remaining-project-tokens",
    "x-ratelimit-reset-project-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        any::<u64>().prop_map(|n| n.to_string().into_bytes()),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        any::<f64>().prop_map(|n| n.to_string().into_bytes()),
        (0_u64..3_000_000).prop_map(|n| n.to_string().into_bytes()),
        (1_799_000_000_u64..1_803_000_000).prop_map(|n| n.to_string().into_bytes()),
        (1_799_000_000_000_u64..1_803_000_000_000).prop_map(|n| n.to_string().into_bytes()),
        "[0-9]{1,25}(h|m|s|ms|us|ns)([0-9.]{1,5}(h|m|s|ms))?".prop_map(String::into_bytes),
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})"
            .prop_map(String::into_bytes),
        "(Mon|Fri), [0-3][0-9] Jan [0-9]{4} [0-2][0-9]:[0-5][0-9]:00 GMT".prop_map(String::into_bytes),
        "\"?[a-z]{0,3}\"?(;(r|t|q|w|qu)=-?[0-9]{0,20}){0,4},?.{0,10}".prop_map(String::into_bytes),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "(\\[|\\{\"errors\":){0,200}".prop_map(String::into_bytes),
        "\\{\"usage\":\\{\"(total_tokens|input_tokens|output_tokens)\":-?[0-9]{1,25}\\}\\}"
            .prop_map(String::into_bytes),
        "\\{\"error\":(\"x\"|null|\\{\"type\":\"(tokens|insufficient_quota)\"\\})\\}"
            .prop_map(String::into_bytes),
        "\\{\"errors\":\\[\\{\"type\":\"RATE_LIMIT\",\"extensions\":\\{\"code\":\"RATELIMITED\"\\}\\}\\]\\}"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn no_answer_breaks_the_bounds(
        status in prop_oneof![Just(200), Just(400), Just(403), Just(429), Just(503), Just(529), 100_u16..1000],
        headers in proptest::collection::vec((proptest::sample::select(&NAMES[..]), value()), 0..24),
        body in body(),
        now in prop_oneof![Just(0), 1_799_000_000_u64..1_803_000_000, Just(253_402_300_800)],
    ) {
        let answer = raw_answer(status, &headers, body.into());
        for (_, provider) in Provider::ALL {
            let reading = provider.read(&answer, at(now));
            for standing in &reading.standings {
                prop_assert!(standing.reset <= MAX_AHEAD, "{standing:?}");
                prop_assert!(standing.limit.is_none_or(|limit| limit > 0 && standing.remaining <= limit));
                let same = reading.standings.iter().filter(|s| s.dimension == standing.dimension);
                prop_assert_eq!(same.count(), 1);
            }
            if let Some(refusal) = reading.refusal {
                prop_assert!((MIN_WAIT..=MAX_WAIT).contains(&refusal.wait));
            }
            prop_assert!(reading.usage.iter().all(|(_, cost)| *cost <= MAX_COUNT));
            let failure = provider.failure(&answer, &reading, at(now));
            prop_assert!(reading.refusal.is_none() || failure.is_err());
        }
    }
}
