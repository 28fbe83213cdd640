//! Linear's signatures, whose time stands in the body.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ingest::error::Code;
use ingest::verify::{Keys, LINEAR_TOLERANCE, Scheme, verify};
use serde_json::Value;

use crate::bits;
use crate::request::Request;
use crate::webhooks::{NOW, OTHER, SECRET, hex, mac};

const SIGNATURE: &str = "linear-signature";

/// A delivery is believed if and only if another implementation of HMAC says so and the time in its body is near; with
/// any bit turned it never is, and nothing is said of the time of a body that is not signed.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    // Milliseconds.
    let now = request.number("now").unwrap_or(NOW * 1000);
    let (mut headers, body) = (request.headers, request.body);
    let said = |secrets: &[&str], headers: &HeaderMap, body: &[u8], now: u64| {
        let scheme = Scheme::Linear(Keys::new(secrets));
        let body = bytes::Bytes::copy_from_slice(body);
        verify(&scheme, headers, body, Duration::from_millis(now))
            .map(drop)
            .map_err(|refusal| refusal.code)
    };
    let right = mac(SECRET, &[&body]);
    // Where the name stands twice, in whatever spelling, nobody knows which one counts.
    let twice = body
        .windows(b"webhookTimestamp".len())
        .filter(|part| part == b"webhookTimestamp")
        .count()
        > 1
        || body.windows(2).any(|part| part == b"\\u");
    let document: Option<Value> = serde_json::from_slice(&body).ok();
    let time = document
        .as_ref()
        .and_then(|document| document["webhookTimestamp"].as_u64());
    let near = |now: u64| time.map(|time| time.abs_diff(now) <= LINEAR_TOLERANCE.as_millis() as u64);
    let given = headers.get(SIGNATURE).map(HeaderValue::as_bytes);
    let fits = given.is_some_and(|given| given.eq_ignore_ascii_case(hex(&right).as_bytes()));
    let believed = said(&[SECRET], &headers, &body, now);
    if !fits {
        let code = if given.is_none() {
            Code::SignatureMissing
        } else {
            Code::SignatureWrong
        };
        assert_eq!(believed, Err(code));
    }

    let mut sign = |mac: &[u8]| {
        let value = HeaderValue::from_str(&hex(mac));
        headers.insert(SIGNATURE, value.expect("hex digits fit a header"));
        headers.clone()
    };
    let signed = sign(&right);
    if !twice && document.as_ref().is_some_and(Value::is_object) {
        for now in [
            now,
            time.unwrap_or(now),
            time.unwrap_or(now).saturating_add(60_001),
        ] {
            let expected = match near(now) {
                Some(true) => Ok(()),
                Some(false) => Err(Code::TimestampStale),
                None => Err(Code::TimestampInvalid),
            };
            assert_eq!(said(&[OTHER, SECRET], &signed, &body, now), expected);
        }
    }
    assert_eq!(said(&[OTHER], &signed, &body, now), Err(Code::SignatureWrong));
    let which = bits::number(bytes);
    if let Some(body) = bits::turned(&body, which) {
        assert_eq!(said(&[SECRET], &signed, &body, now), Err(Code::SignatureWrong));
    }
    if let Some(mac) = bits::turned(&right, which) {
        assert_eq!(
            said(&[SECRET], &sign(&mac), &body, now),
            Err(Code::SignatureWrong)
        );
    }
}
