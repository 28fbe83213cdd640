//! Stripe's signatures: a time and any number of signatures in one header.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ingest::error::Code;
use ingest::verify::{Keys, MAX_SIGNATURES, STRIPE_TOLERANCE, Scheme, verify};

use crate::bits;
use crate::request::Request;
use crate::webhooks::{NOW, OTHER, SECRET, hex, mac, signed_time};

const SIGNATURE: &str = "stripe-signature";

/// A delivery is believed if and only if its header names one near time and, among not too many, a signature that
/// another implementation of HMAC gives; with any bit turned it never is.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let now = request.number("now").unwrap_or(NOW);
    let (mut headers, body) = (request.headers, request.body);
    let said = |secrets: &[&str], headers: &HeaderMap, body: &[u8], now: u64| {
        let scheme = Scheme::Stripe(Keys::new(secrets));
        let body = bytes::Bytes::copy_from_slice(body);
        verify(&scheme, headers, body, Duration::from_secs(now))
            .map(drop)
            .map_err(|refusal| refusal.code)
    };
    let right = |time: &[u8]| mac(SECRET, &[time, b".", &body]);
    let given = headers
        .get(SIGNATURE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let parts = |name: &'static str| {
        given
            .split(|b| *b == b',')
            .filter_map(|part| part.strip_prefix(name.as_bytes()))
    };
    let (times, signatures): (Vec<_>, Vec<_>) = (parts("t=").collect(), parts("v1=").collect());
    let expected = match times[..] {
        [time] => {
            let near = signed_time(time).is_some_and(|time| time.abs_diff(now) <= STRIPE_TOLERANCE.as_secs());
            let right = hex(&right(time));
            let fits = |one: &&[u8]| one.eq_ignore_ascii_case(right.as_bytes());
            near && signatures.len() <= MAX_SIGNATURES && signatures.iter().any(fits)
        }
        _ => false,
    };
    assert_eq!(said(&[SECRET], &headers, &body, now).is_ok(), expected);

    let now = now.max(1);
    let (time, which) = (now.to_string(), bits::number(bytes));
    let mut sign = |time: &str, mac: &[u8], before: usize| {
        let others = format!("v1={},", hex(&[0; 32])).repeat(before);
        let value = HeaderValue::from_str(&format!("t={time},{others}v1={},v0=0", hex(mac)));
        headers.insert(SIGNATURE, value.expect("visible ASCII"));
        headers.clone()
    };
    let mac = right(time.as_bytes());
    let wrong = Err(Code::SignatureWrong);
    let signed = sign(&time, &mac, which % MAX_SIGNATURES);
    assert_eq!(said(&[OTHER, SECRET], &signed, &body, now), Ok(()));
    assert_eq!(said(&[OTHER], &signed, &body, now), wrong);
    assert_eq!(
        said(&[SECRET], &sign(&time, &mac, MAX_SIGNATURES), &body, now),
        wrong
    );
    if let Some(late) = now.checked_add(STRIPE_TOLERANCE.as_secs() + 1) {
        assert_eq!(said(&[SECRET], &signed, &body, late), Err(Code::TimestampStale));
        let moved = sign(&(now + 1).to_string(), &mac, 0);
        assert_eq!(said(&[SECRET], &moved, &body, now), wrong);
    }
    if let Some(body) = bits::turned(&body, which) {
        assert_eq!(said(&[SECRET], &signed, &body, now), wrong);
    }
    if let Some(mac) = bits::turned(&mac, which) {
        assert_eq!(said(&[SECRET], &sign(&time, &mac, 0), &body, now), wrong);
    }
}
