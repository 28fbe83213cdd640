//! Slack's signatures, which cover a time.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ingest::error::Code;
use ingest::verify::{Keys, SLACK_TOLERANCE, Scheme, verify};

use crate::bits;
use crate::request::Request;
use crate::webhooks::{NOW, OTHER, SECRET, hex, mac, signed_time};

const SIGNATURE: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";

/// A delivery is believed if and only if another implementation of HMAC says so and the signed time is near; what the
/// secret signed now always is, and with any bit turned it never is.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let now = request.number("now").unwrap_or(NOW);
    let (mut headers, body) = (request.headers, request.body);
    let scheme = |secrets: &[&str]| Scheme::Slack(Keys::new(secrets));
    let right = |time: &[u8]| mac(SECRET, &[b"v0:", time, b":", &body]);

    let said = verify(
        &scheme(&[SECRET]),
        &headers,
        body.clone(),
        Duration::from_secs(now),
    )
    .map(drop);
    let of = |name: &str| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    let (time, given) = (of(TIMESTAMP), of(SIGNATURE));
    let near = signed_time(time).is_some_and(|time| time.abs_diff(now) <= SLACK_TOLERANCE.as_secs());
    let fits = given
        .strip_prefix(b"v0=")
        .is_some_and(|given| given.eq_ignore_ascii_case(hex(&right(time)).as_bytes()));
    assert_eq!(said.is_ok(), near && fits, "{said:?}");

    let mut sign = |time: u64, mac: &[u8]| -> HeaderMap {
        let value = HeaderValue::from_str(&format!("v0={}", hex(mac)));
        headers.insert(SIGNATURE, value.expect("hex digits fit a header"));
        headers.insert(TIMESTAMP, time.into());
        headers.clone()
    };
    let which = bits::number(bytes);
    // Some seconds in the past, present or future.
    let time = (now.saturating_sub(1) | 1)
        .saturating_add(which as u64 % 600)
        .saturating_sub(300)
        .max(1);
    let near = time.abs_diff(now) <= SLACK_TOLERANCE.as_secs();
    let text = time.to_string();
    let right = right(text.as_bytes());
    let signed = sign(time, &right);
    let answer = |secrets: &[&str], headers: &HeaderMap, body: bytes::Bytes, now: u64| {
        verify(&scheme(secrets), headers, body, Duration::from_secs(now))
            .map(drop)
            .map_err(|refusal| refusal.code)
    };
    let code = if near { Ok(()) } else { Err(Code::TimestampStale) };
    for secrets in [&[SECRET][..], &[OTHER, SECRET]] {
        assert_eq!(answer(secrets, &signed, body.clone(), now), code);
    }
    assert_eq!(
        answer(&[OTHER], &signed, body.clone(), time),
        Err(Code::SignatureWrong)
    );
    let late = time.saturating_add(SLACK_TOLERANCE.as_secs() + 1);
    if late - time > SLACK_TOLERANCE.as_secs() {
        assert_eq!(
            answer(&[SECRET], &signed, body.clone(), late),
            Err(Code::TimestampStale)
        );
    }
    if let Some(body) = bits::turned(&body, which) {
        assert_eq!(
            answer(&[SECRET], &signed, body.into(), time),
            Err(Code::SignatureWrong)
        );
    }
    if let Some(mac) = bits::turned(&right, which) {
        assert_eq!(
            answer(&[SECRET], &sign(time, &mac), body.clone(), time),
            Err(Code::SignatureWrong)
        );
    }
    // The time is signed too.
    let moved = sign(time + 1, &right);
    assert_eq!(answer(&[SECRET], &moved, body, time), Err(Code::SignatureWrong));
}
