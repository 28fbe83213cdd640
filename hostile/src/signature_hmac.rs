//! Signatures of configured sources.
//!
//! The configuration stands in `x-check-signed` (the template), `x-check-encoding` and `x-check-prefix`; the headers are
//! `x-signature`, `x-time` and `x-id`.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::error::Code;
use ingest::verify::hmac::{Encoding, Generic, Template};
use ingest::verify::{Keys, Scheme, verify};

use crate::bits;
use crate::request::Request;
use crate::webhooks::{NOW, OTHER, SECRET, hex, mac, signed_time};

const SIGNATURE: &str = "x-signature";
const TIMESTAMP: &str = "x-time";
const ID: &str = "x-id";
const TOLERANCE: u64 = 60;

/// A template is refused in words, or reads and writes itself and signs what another reading of it says. With it, a
/// delivery is believed if and only if another implementation of HMAC says so, and never with a bit turned.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let written = request.told("signed").unwrap_or("{body}").to_owned();
    let prefix = request.told("prefix").unwrap_or_default().to_owned();
    let base64 = request.told("encoding") == Some("base64");
    let now = request.number("now").unwrap_or(NOW);
    let (mut headers, body) = (request.headers, request.body);

    let template: Template = match written.parse() {
        Ok(template) => template,
        Err(why) => {
            let once = written.matches("{body}").count() == 1;
            // Something stays in the place of each: what stood around it must not become a name.
            let rest = ["{body}", "{timestamp}", "{id}"]
                .iter()
                .fold(written.clone(), |rest, name| rest.replace(name, "|"));
            assert!(!once || rest.contains('{'), "{written:?}: {why}");
            return;
        }
    };
    assert_eq!(template.to_string(), written);
    assert_eq!(template.has_timestamp(), written.contains("{timestamp}"));
    assert_eq!(template.has_id(), written.contains("{id}"));
    let timed = template.has_timestamp();
    let scheme = |secrets: &[&str]| {
        Scheme::Hmac(Box::new(Generic {
            keys: Keys::new(secrets),
            header: HeaderName::from_static(SIGNATURE),
            encoding: if base64 { Encoding::Base64 } else { Encoding::Hex },
            prefix: prefix.clone(),
            signed: template.clone(),
            timestamp: timed.then(|| (HeaderName::from_static(TIMESTAMP), Duration::from_secs(TOLERANCE))),
            id: Some(HeaderName::from_static(ID)),
            kind: None,
        }))
    };
    let answer = |secrets: &[&str], headers: &HeaderMap, body: bytes::Bytes, now: u64| {
        verify(&scheme(secrets), headers, body, Duration::from_secs(now))
            .map(drop)
            .map_err(|refusal| refusal.code)
    };
    let right = |headers: &HeaderMap, body: &[u8]| {
        let of = |name: &str| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        mac(SECRET, &[&filled(&written, of(ID), of(TIMESTAMP), body)])
    };
    let write = |mac: &[u8]| {
        let mac = if base64 {
            BASE64_STANDARD.encode(mac)
        } else {
            hex(mac)
        };
        format!("{prefix}{mac}")
    };

    let of = |name: &str| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    let near = !timed || signed_time(of(TIMESTAMP)).is_some_and(|time| time.abs_diff(now) <= TOLERANCE);
    let expected = write(&right(&headers, &body));
    let given = of(SIGNATURE);
    let fits = match given.split_at_checked(prefix.len()) {
        Some((before, given)) if before == prefix.as_bytes() => {
            let expected = &expected.as_bytes()[prefix.len()..];
            given == expected || !base64 && given.eq_ignore_ascii_case(expected)
        }
        _ => false,
    };
    assert_eq!(
        answer(&[SECRET], &headers, body.clone(), now).is_ok(),
        near && fits
    );

    headers.insert(TIMESTAMP, now.max(1).into());
    let now = now.max(1);
    let mut sign = |mac: &[u8]| {
        let value = HeaderValue::from_str(&write(mac)).ok()?;
        headers.insert(SIGNATURE, value);
        Some(headers.clone())
    };
    let mac = right(&sign(&[0; 32]).unwrap_or_default(), &body);
    // A prefix that fits no header is one that no signature has.
    let Some(signed) = sign(&mac) else {
        return;
    };
    assert_eq!(answer(&[OTHER, SECRET], &signed, body.clone(), now), Ok(()));
    assert_eq!(
        answer(&[OTHER], &signed, body.clone(), now),
        Err(Code::SignatureWrong)
    );
    let which = bits::number(bytes);
    if let Some(body) = bits::turned(&body, which) {
        assert_eq!(
            answer(&[SECRET], &signed, body.into(), now),
            Err(Code::SignatureWrong)
        );
    }
    if let Some(signed) = bits::turned(&mac, which).and_then(|mac| sign(&mac)) {
        assert_eq!(
            answer(&[SECRET], &signed, body.clone(), now),
            Err(Code::SignatureWrong)
        );
    }
    if timed {
        let stale = answer(&[SECRET], &signed, body, now.saturating_add(TOLERANCE + 1));
        assert!(stale == Err(Code::TimestampStale) || now > u64::MAX - TOLERANCE - 1);
    }
}

/// The text that is signed, by another reading of the template.
fn filled(template: &str, id: &[u8], time: &[u8], body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = template;
    'reading: while !rest.is_empty() {
        for (name, value) in [("{body}", body), ("{timestamp}", time), ("{id}", id)] {
            if let Some(after) = rest.strip_prefix(name) {
                text.extend_from_slice(value);
                rest = after;
                continue 'reading;
            }
        }
        let (byte, after) = rest.split_at(rest.chars().next().map_or(1, char::len_utf8));
        text.extend_from_slice(byte.as_bytes());
        rest = after;
    }
    text
}
