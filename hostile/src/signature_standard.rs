//! Signatures of Standard Webhooks and Svix, symmetric and not.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey};
use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::error::Code;
use ingest::verify::{MAX_SIGNATURES, STANDARD_TOLERANCE, Scheme, standard, verify};

use crate::bits;
use crate::request::Request;
use crate::webhooks::{NOW, OTHER, SECRET, mac, signed_time, whsec};

/// A delivery is believed if and only if, among not too many, it brings a signature that another implementation of HMAC
/// gives, or that another implementation of Ed25519 believes, and its time is near; with any bit turned it never is.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    if let Some(secrets) = request.told("secrets") {
        read(secrets);
    }
    let now = request.number("now").unwrap_or(NOW);
    let (mut headers, body) = (request.headers, request.body);
    let key = SigningKey::from_bytes(&[7; 32]);
    let (secret, other) = (whsec(SECRET), whsec(OTHER));
    let public = format!("whpk_{}", BASE64_STANDARD.encode(key.verifying_key().as_bytes()));
    let said = |secrets: &[&str], headers: &HeaderMap, body: &[u8], now: u64| {
        let scheme = Scheme::Standard(standard::Secrets::read(secrets).expect("secrets"));
        let body = bytes::Bytes::copy_from_slice(body);
        verify(&scheme, headers, body, Duration::from_secs(now))
            .map(drop)
            .map_err(|refusal| refusal.code)
    };

    let svix = !headers.contains_key("webhook-signature") && headers.contains_key("svix-signature");
    let name = |end: &str| format!("{}-{end}", if svix { "svix" } else { "webhook" });
    let text = |id: &[u8], time: &[u8], body: &[u8]| [id, b".", time, b".", body].concat();
    let of = |end: &str| {
        headers
            .get(name(end))
            .map(HeaderValue::as_bytes)
            .unwrap_or_default()
    };
    let (id, time, given) = (of("id"), of("timestamp"), of("signature"));
    let near = signed_time(time).is_some_and(|time| time.abs_diff(now) <= STANDARD_TOLERANCE.as_secs());
    let parts: Vec<&[u8]> = given.split(|b| *b == b' ').collect();
    let decoded = |prefix: &str| {
        let parts = parts
            .iter()
            .filter_map(move |part| part.strip_prefix(prefix.as_bytes()));
        parts
            .filter_map(|part| BASE64_STANDARD.decode(part).ok())
            .collect::<Vec<_>>()
    };
    let signed_text = text(id, time, &body);
    let right = mac(SECRET, &[&signed_text]);
    let believed = |one: &Vec<u8>| {
        let one = Signature::from_slice(one);
        one.is_ok_and(|one| key.verify(&signed_text, &one).is_ok())
    };
    let fits = decoded("v1,").contains(&right) || decoded("v1a,").iter().any(believed);
    assert_eq!(
        said(&[&secret, &public], &headers, &body, now).is_ok(),
        near && !id.is_empty() && parts.len() <= MAX_SIGNATURES && fits
    );

    let now = now.max(1);
    let which = bits::number(bytes);
    let text = text(b"msg_1", now.to_string().as_bytes(), &body);
    let mut write = |signatures: &str| {
        for (end, value) in [
            ("id", "msg_1"),
            ("timestamp", &*now.to_string()),
            ("signature", signatures),
        ] {
            let name = HeaderName::try_from(name(end)).expect("a name");
            headers.insert(name, HeaderValue::from_str(value).expect("visible ASCII"));
        }
        headers.clone()
    };
    let symmetric = mac(SECRET, &[&text]);
    let asymmetric = key.sign(&text).to_bytes().to_vec();
    let wrong = Err(Code::SignatureWrong);
    for (version, right, secret) in [("v1", symmetric, &secret), ("v1a", asymmetric, &public)] {
        let one = |signature: &[u8]| format!("{version},{}", BASE64_STANDARD.encode(signature));
        let others = |count: usize| format!("{},AAAA ", ["v1", "v1a", "v2"][which % 3]).repeat(count);
        let signed = write(&format!("{}{}", others(which % MAX_SIGNATURES), one(&right)));
        assert_eq!(said(&[&other, secret], &signed, &body, now), Ok(()));
        assert_eq!(said(&[&other], &signed, &body, now), wrong);
        let many = write(&format!("{}{}", others(MAX_SIGNATURES), one(&right)));
        assert_eq!(said(&[secret], &many, &body, now), wrong);
        if let Some(body) = bits::turned(&body, which) {
            assert_eq!(said(&[secret], &signed, &body, now), wrong);
        }
        if let Some(turned) = bits::turned(&right, which) {
            assert_eq!(said(&[secret], &write(&one(&turned)), &body, now), wrong);
        }
        if let Some(late) = now.checked_add(STANDARD_TOLERANCE.as_secs() + 1) {
            assert_eq!(said(&[secret], &signed, &body, late), Err(Code::TimestampStale));
        }
    }
}

/// Secrets are read, or it is told which of them cannot be without telling what it is.
fn read(secrets: &str) {
    let secrets: Vec<&str> = secrets.split(',').collect();
    match standard::Secrets::read(&secrets) {
        Ok(read) => assert!(!format!("{read:?}").contains("whsec_")),
        Err(why) => {
            bits::told(&why, 200);
            assert!(why.starts_with("secret "));
        }
    }
}
