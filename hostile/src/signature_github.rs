//! GitHub's signatures.

use std::time::Duration;

use http::HeaderValue;
use ingest::error::Code;
use ingest::verify::{Keys, Scheme, verify};

use crate::bits;
use crate::request::Request;
use crate::webhooks::{OTHER, SECRET, hex, mac};

const SIGNATURE: &str = "x-hub-signature-256";

/// A delivery is believed if and only if another implementation of HMAC says so; what the secret signed always is, and
/// with any bit turned it never is.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let (mut headers, body) = (request.headers, request.body);
    let scheme = |secrets: &[&str]| Scheme::Github(Keys::new(secrets));
    let right = mac(SECRET, &[&body]);
    let said = verify(&scheme(&[SECRET]), &headers, body.clone(), Duration::ZERO).map(drop);
    let given = headers.get(SIGNATURE).map(HeaderValue::as_bytes);
    let expected = given.is_some_and(|given| {
        given
            .strip_prefix(b"sha256=")
            .is_some_and(|given| given.eq_ignore_ascii_case(hex(&right).as_bytes()))
    });
    assert_eq!(said.is_ok(), expected, "{said:?}");
    if let Err(refusal) = said {
        let code = if given.is_none() {
            Code::SignatureMissing
        } else {
            Code::SignatureWrong
        };
        assert_eq!(refusal.code, code);
    }

    let mut sign = |mac: &[u8]| {
        let value = HeaderValue::from_str(&format!("sha256={}", hex(mac)));
        headers.insert(SIGNATURE, value.expect("hex digits fit a header"));
        headers.clone()
    };
    let signed = sign(&right);
    for secrets in [&[SECRET][..], &[OTHER, SECRET], &[SECRET, OTHER]] {
        assert!(verify(&scheme(secrets), &signed, body.clone(), Duration::ZERO).is_ok());
    }
    let which = bits::number(bytes);
    let refused = |headers: &http::HeaderMap, body: bytes::Bytes, secret: &str| {
        let refusal = verify(&scheme(&[secret]), headers, body, Duration::ZERO).map(drop);
        assert_eq!(refusal.map_err(|refusal| refusal.code), Err(Code::SignatureWrong));
    };
    refused(&signed, body.clone(), OTHER);
    if let Some(body) = bits::turned(&body, which) {
        refused(&signed, body.into(), SECRET);
    }
    if let Some(mac) = bits::turned(&right, which) {
        refused(&sign(&mac), body, SECRET);
    }
}
