//! GitLab's tokens, plain and signing.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ingest::error::Code;
use ingest::verify::{Scheme, gitlab, verify};

use crate::bits;
use crate::request::Request;
use crate::webhooks::{NOW, OTHER, SECRET, whsec};

const TOKEN: &str = "x-gitlab-token";

/// A delivery is believed if and only if its token is the secret, byte for byte; never by a part of it, another one, or
/// with a bit turned. With a signing token a signature goes before it.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let (mut headers, body) = (request.headers, request.body);
    let said = |secrets: &[&str], headers: &HeaderMap| {
        let secrets = gitlab::Secrets::read(secrets).expect("secrets");
        verify(
            &Scheme::Gitlab(secrets),
            headers,
            body.clone(),
            Duration::from_secs(NOW),
        )
        .map(drop)
        .map_err(|refusal| refusal.code)
    };
    let expected = match headers.get(TOKEN).map(HeaderValue::as_bytes) {
        None => Err(Code::SignatureMissing),
        Some(token) if token == SECRET.as_bytes() => Ok(()),
        Some(_) => Err(Code::SignatureWrong),
    };
    assert_eq!(said(&[SECRET], &headers), expected);

    headers.insert(TOKEN, HeaderValue::from_static(SECRET));
    assert_eq!(said(&[SECRET], &headers), Ok(()));
    assert_eq!(said(&[OTHER, SECRET], &headers), Ok(()));
    assert_eq!(said(&[OTHER], &headers), Err(Code::SignatureWrong));
    let both = [SECRET, &*whsec(OTHER)];
    let signed = headers.contains_key("webhook-signature");
    // Nothing in an input can be signed with a secret that it does not know.
    assert_eq!(said(&both, &headers).is_ok(), !signed);
    assert!(said(&both[1..], &headers).is_err());
    let turned = bits::turned(SECRET.as_bytes(), bits::number(bytes)).unwrap_or_default();
    for token in [&turned[..], &SECRET.as_bytes()[1..]] {
        if let Ok(token) = HeaderValue::from_bytes(token) {
            headers.insert(TOKEN, token);
            assert_eq!(said(&[SECRET], &headers), Err(Code::SignatureWrong));
        }
    }
}
