//! What providers answer: rate limit headers in all their dialects, `Retry-After`, bodies of errors.
//!
//! `x-check-status` is the status, `x-check-now` our clock in seconds since 1970.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use shared::failure::{Failure, MAX_DETAIL};
use worker::outbound::{Answer, classify};
use worker::provider::{MAX_WAIT, MIN_WAIT, Provider};

use crate::request::Request;
use crate::webhooks::NOW;

/// No limit is counted over more.
const MAX_AHEAD: Duration = Duration::from_secs(32 * 86_400);
/// No figure is larger.
const MAX_COUNT: u64 = 1_000_000_000_000_000;

/// Every provider reads every answer: standings, waits and costs keep their bounds, the same answer reads the same, a
/// refusal is a failure, and a success without one is none.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let status = request
        .number("status")
        .and_then(|status| StatusCode::from_u16(status as u16).ok());
    let now = UNIX_EPOCH + Duration::from_secs(request.number("now").unwrap_or(NOW).min(1 << 40));
    let answer = Answer {
        status: status.unwrap_or(StatusCode::TOO_MANY_REQUESTS),
        headers: request.headers,
        body: request.body,
        cut: false,
    };
    if let Some(wait) = classify::retry_after(&answer.headers, now) {
        assert!(wait <= MAX_WAIT);
        let value = answer
            .headers
            .get("retry-after")
            .and_then(|value| value.to_str().ok());
        let first = value.and_then(|value| value.trim().chars().next());
        assert!(
            first.is_some_and(|first| first.is_ascii_alphanumeric()),
            "{value:?}"
        );
    }
    if let Err(failure) = classify::by_status(&answer, now) {
        failed(&failure);
    }
    for name in Provider::names().split(", ") {
        let provider = Provider::named(name).expect("a provider");
        let reading = provider.read(&answer, now);
        assert_eq!(reading, provider.read(&answer, now), "{name}");
        for standing in &reading.standings {
            assert!(
                standing.reset <= MAX_AHEAD && standing.remaining <= MAX_COUNT,
                "{name} {standing:?}"
            );
            assert!(
                standing
                    .limit
                    .is_none_or(|limit| (1..=MAX_COUNT).contains(&limit) && standing.remaining <= limit),
                "{name} {standing:?}"
            );
            let same = reading
                .standings
                .iter()
                .filter(|other| other.dimension == standing.dimension);
            assert_eq!(same.count(), 1, "{name} {standing:?}");
        }
        assert!(
            reading
                .refusal
                .is_none_or(|refusal| (MIN_WAIT..=MAX_WAIT).contains(&refusal.wait)),
            "{name}"
        );
        assert!(reading.usage.iter().all(|(_, cost)| *cost <= MAX_COUNT), "{name}");
        match provider.failure(&answer, &reading, now) {
            Ok(()) => assert!(answer.status.is_success() && reading.refusal.is_none(), "{name}"),
            Err(failure) => {
                failed(&failure);
                let throttled = matches!(failure, Failure::Throttled { .. });
                let forever = reading.refusal.is_some_and(|refusal| refusal.forever);
                assert!(
                    reading.refusal.is_none() || throttled != forever,
                    "{name} {failure:?}"
                );
            }
        }
    }
}

/// A reason fits a header, and nobody waits for longer than a day.
fn failed(failure: &Failure) {
    let reason = failure.reason();
    assert!((1..=64).contains(&reason.code.len()) && reason.detail.len() <= MAX_DETAIL);
    assert!(!reason.detail.contains(char::is_control), "{:?}", reason.detail);
    match failure {
        Failure::Throttled { wait, .. } => assert!(*wait <= MAX_WAIT),
        Failure::Transient { retry_after, .. } => assert!(retry_after.is_none_or(|wait| wait <= MAX_WAIT)),
        Failure::Permanent { .. } => {}
    }
}
