#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde::Deserialize;

mod kinds;

use super::hmac::{Encoding, Generic};
use super::*;

#[derive(Deserialize)]
struct Vector {
    id: String,
    scheme: String,
    secret: String,
    body: String,
    headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    now: u64,
    valid: bool,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../tests/fixtures/vectors.json")).unwrap()
}

fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let pair = |(n, v): (&str, &str)| {
        (
            HeaderName::from_bytes(n.as_bytes()).unwrap(),
            HeaderValue::from_str(v).unwrap(),
        )
    };
    pairs.into_iter().map(pair).collect()
}

/// The scheme that a vector was made for.
fn scheme(vector: &Vector, secrets: &[&str]) -> Scheme {
    match vector.scheme.as_str() {
        "github" => Scheme::Github(Keys::new(secrets)),
        "slack" => Scheme::Slack(Keys::new(secrets)),
        "standard" => Scheme::Standard(standard::Secrets::read(secrets).unwrap()),
        other => panic!("unknown scheme {other}"),
    }
}

/// Standard Webhooks as a configured source.
fn configured(vector: &Vector) -> Scheme {
    use base64::Engine;
    let key = vector.secret.trim_start_matches("whsec_");
    let key = base64::prelude::BASE64_STANDARD.decode(key).unwrap();
    Scheme::Hmac(Box::new(Generic {
        keys: Keys::new(&[key]),
        header: HeaderName::from_static("webhook-signature"),
        encoding: Encoding::Base64,
        prefix: "v1,".into(),
        signed: "{id}.{timestamp}.{body}".parse().unwrap(),
        timestamp: Some((
            HeaderName::from_static("webhook-timestamp"),
            Duration::from_mins(5),
        )),
        id: Some(HeaderName::from_static("webhook-id")),
        kind: None,
    }))
}

/// A well-formed secret that signed none of the vectors.
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn check(vector: &Vector, secrets: &[&str], headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), Code> {
    let body = Bytes::copy_from_slice(body);
    verify(&scheme(vector, secrets), headers, body, Duration::from_secs(now))
        .map(drop)
        .map_err(|refusal| refusal.code)
}

fn headers_of(vector: &Vector) -> HeaderMap {
    headers(vector.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

#[test]
fn every_vector_and_any_active_secret() {
    for vector in vectors() {
        let (headers, body) = (headers_of(&vector), vector.body.as_bytes());
        let secret = vector.secret.as_str();
        for secrets in [&[secret][..], &[OTHER, secret], &[secret, OTHER]] {
            assert_eq!(
                check(&vector, secrets, &headers, body, vector.now).is_ok(),
                vector.valid,
                "{}",
                vector.id
            );
        }
        assert_eq!(
            check(&vector, &[OTHER], &headers, body, vector.now),
            Err(Code::SignatureWrong),
            "{}",
            vector.id
        );
    }
}

#[test]
fn a_scheme_can_be_configured_too() {
    let vectors = vectors();
    let vector = vectors.iter().find(|v| v.scheme == "standard").unwrap();
    let (headers, now) = (headers_of(vector), Duration::from_secs(vector.now));
    let body = Bytes::from(vector.body.clone());
    assert!(verify(&configured(vector), &headers, body, now).is_ok());
    let refused = verify(&configured(vector), &headers, Bytes::from_static(b"other"), now);
    assert_eq!(refused.map(drop).unwrap_err().code, Code::SignatureWrong);
}

#[test]
fn one_bit_anywhere_is_noticed() {
    for vector in vectors() {
        let (headers, now, secret) = (headers_of(&vector), vector.now, vector.secret.as_str());
        let mut body = vector.body.clone().into_bytes();
        for bit in 0..body.len() * 8 {
            body[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                check(&vector, &[secret], &headers, &body, now),
                Err(Code::SignatureWrong),
                "bit {bit}"
            );
            body[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(
            check(&vector, &[secret], &headers, &body[1..], now),
            Err(Code::SignatureWrong)
        );
        for (name, value) in &vector.headers {
            for at in 0..value.len() {
                let mut changed = value.clone().into_bytes();
                // Stays a digit where it is one, so that a changed time is refused for its signature.
                changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
                let Ok(changed) = HeaderValue::from_bytes(&changed) else {
                    continue;
                };
                let mut headers = headers.clone();
                headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), changed);
                assert!(
                    check(&vector, &[secret], &headers, &body, now).is_err(),
                    "{name} byte {at}"
                );
            }
        }
    }
}

#[test]
fn a_signature_that_is_missing_or_malformed() {
    for vector in vectors() {
        for name in vector.headers.keys() {
            let mut headers = headers_of(&vector);
            headers.remove(name.as_str());
            let code = check(
                &vector,
                &[&vector.secret],
                &headers,
                vector.body.as_bytes(),
                vector.now,
            )
            .unwrap_err();
            let expected = if name.contains("signature") {
                Code::SignatureMissing
            } else if name.contains("timestamp") {
                Code::TimestampInvalid
            } else {
                Code::SignatureWrong
            };
            assert_eq!(code, expected, "{} without {name}", vector.id);
        }
    }
    let vector = &vectors()[0];
    for bad in [
        "",
        "sha256=",
        "sha1=00",
        "sha256=zz",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    ] {
        let headers = headers([("x-hub-signature-256", bad)]);
        let result = check(vector, &[&vector.secret], &headers, vector.body.as_bytes(), 0);
        assert_eq!(result, Err(Code::SignatureWrong), "{bad:?}");
    }
}

#[test]
fn the_replay_window_is_five_minutes_either_way() {
    for vector in vectors().iter().filter(|v| v.now > 0) {
        let headers = headers_of(vector);
        let at = |now| check(vector, &[&vector.secret], &headers, vector.body.as_bytes(), now);
        assert_eq!(at(vector.now - 300), Ok(()));
        assert_eq!(at(vector.now + 300), Ok(()));
        assert_eq!(at(vector.now - 301), Err(Code::TimestampStale));
        assert_eq!(at(vector.now + 301), Err(Code::TimestampStale));
    }
    let vector = &vectors()[1];
    for bad in [
        "",
        "now",
        "-5",
        "+1531420618",
        "01531420618",
        "1531420618.0",
        "999999999999999999999",
        "99999999999999999999",
    ] {
        let mut headers = headers_of(vector);
        headers.insert("x-slack-request-timestamp", HeaderValue::from_str(bad).unwrap());
        let result = check(
            vector,
            &[&vector.secret],
            &headers,
            vector.body.as_bytes(),
            vector.now,
        );
        assert_eq!(result, Err(Code::TimestampInvalid), "{bad:?}");
    }
}

#[test]
fn templates_are_read_and_refused() {
    for good in ["{body}", "{timestamp}.{body}", "v1:{id}:{timestamp}:{body}!"] {
        assert_eq!(good.parse::<hmac::Template>().unwrap().to_string(), good);
    }
    for bad in ["", "{timestamp}", "{body}{body}", "{body", "{what}{body}"] {
        assert!(bad.parse::<hmac::Template>().is_err(), "{bad:?}");
    }
}

#[test]
fn secrets_are_not_shown() {
    assert!(!format!("{:?}", scheme(&vectors()[0], &["hunter2"])).contains("hunter2"));
}

proptest! {
    #[test]
    fn strangers_are_refused_whatever_they_send(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 6),
        body in prop::collection::vec(any::<u8>(), 0..300),
        now in any::<u64>(),
    ) {
        let names = [
            "x-hub-signature-256", "x-slack-signature", "x-slack-request-timestamp", "webhook-signature",
            "webhook-timestamp", "webhook-id",
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in names.into_iter().zip(values) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(name, value);
            }
        }
        for vector in vectors() {
            prop_assert!(check(&vector, &[&vector.secret], &headers, &body, now).is_err());
        }
    }

    #[test]
    fn what_is_signed_with_the_secret_is_believed(
        secret in prop::collection::vec(any::<u8>(), 1..100),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(&body);
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let headers = headers([("x-hub-signature-256", signature.as_str())]);
        prop_assert!(verify(&Scheme::Github(Keys::new(&[&secret])), &headers, body.into(), Duration::ZERO).is_ok());
    }
}
