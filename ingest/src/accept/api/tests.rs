#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::tokens::Tokens;

const NOW: u64 = 1_700_000_000;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(n, v): &(&str, &str)| {
        (
            HeaderName::from_bytes(n.as_bytes()).unwrap(),
            HeaderValue::from_str(v).unwrap(),
        )
    };
    pairs.iter().map(pair).collect()
}

fn token() -> Token {
    Tokens::read(&format!("ci:{}:*", "0".repeat(64)))
        .unwrap()
        .iter()
        .next()
        .unwrap()
        .clone()
}

fn wishes(pairs: &[(&str, &str)]) -> Result<Wishes, Refusal> {
    Wishes::read(&headers(pairs), &token(), UNIX_EPOCH + Duration::from_secs(NOW))
}

#[test]
fn headers_go_before_the_body() {
    let body = Bytes::from_static(br#"{"v":1,"type":"t","priority":2,"key":"a","tenant":"a"}"#);
    let got = wishes(&[]).unwrap().event(&body).unwrap();
    assert_eq!(
        (got.priority.get(), got.key.unwrap().as_str().to_owned()),
        (2, "a".to_owned())
    );
    let sent = [
        ("weir-priority", "9"),
        ("weir-key", "b"),
        ("weir-tenant", "c"),
        ("idempotency-key", "k-1"),
    ];
    let got = wishes(&sent).unwrap().event(&body).unwrap();
    assert_eq!(
        (got.priority.get(), got.key.unwrap().as_str().to_owned()),
        (9, "b".to_owned())
    );
    assert_eq!(
        (got.tenant.unwrap().as_str(), got.id.as_str()),
        ("c", "key:ci:k-1")
    );
}

#[test]
fn ids_come_from_body_key_or_nowhere() {
    let with_id = Bytes::from_static(br#"{"v":1,"type":"t","id":"mine"}"#);
    let without = Bytes::from_static(br#"{"v":1,"type":"t"}"#);
    let keyed = wishes(&[("idempotency-key", "k")]).unwrap();
    assert_eq!(wishes(&[]).unwrap().event(&with_id).unwrap().id.as_str(), "mine");
    assert_ne!(
        wishes(&[]).unwrap().event(&without).unwrap().id,
        wishes(&[]).unwrap().event(&without).unwrap().id
    );
    assert_eq!(keyed.event(&with_id).unwrap_err().code, Code::Malformed);
    let same = Bytes::from_static(br#"{"v":1,"type":"t","id":"key:ci:k"}"#);
    assert_eq!(keyed.event(&same).unwrap().id.as_str(), "key:ci:k");
    assert_eq!(keyed.batch_event(&without, 7).unwrap().id.as_str(), "key:ci:k:7");
    assert_eq!(keyed.batch_event(&with_id, 7).unwrap().id.as_str(), "mine");
    let longest = "k".repeat(MAX_KEY);
    let longest = wishes(&[("idempotency-key", &longest)]).unwrap();
    longest.batch_event(&without, crate::batch::MOST).unwrap();
}

#[test]
fn delivery_times_are_read_in_both_forms() {
    let at = |text: &str| wishes(&[("weir-deliver-at", text)]).map(|w| w.deliver_at);
    let soon = UNIX_EPOCH + Duration::from_secs(NOW + 60);
    assert_eq!(at("1700000060000").unwrap(), Some(soon));
    assert_eq!(at("2023-11-14T22:14:20Z").unwrap(), Some(soon));
    assert_eq!(at("2023-11-14T23:14:20+01:00").unwrap(), Some(soon));
    assert_eq!(at("1999-01-01T00:00:00Z").unwrap(), None);
    assert_eq!(at("0").unwrap(), None);
    for bad in [
        "tomorrow",
        "",
        "-1",
        "+1700000060000",
        "2023-11-14",
        "2025-11-14T22:14:20Z",
        "18446744073709551615",
        "9999-12-31T23:59:59Z",
    ] {
        assert_eq!(at(bad).unwrap_err().code, Code::HeaderInvalid, "{bad:?}");
    }
}

#[test]
fn headers_that_do_not_fit_are_named() {
    let long = "k".repeat(201);
    for (name, value) in [
        ("weir-priority", "11"),
        ("weir-priority", "urgent"),
        ("weir-key", ""),
        ("weir-tenant", "a.b"),
        ("idempotency-key", ""),
        ("idempotency-key", "a b"),
        ("idempotency-key", &long),
    ] {
        let refusal = wishes(&[(name, value)]).unwrap_err();
        assert_eq!(refusal.code, Code::HeaderInvalid);
        assert!(
            refusal.detail.starts_with(&format!("header {name} must be")),
            "{}",
            refusal.detail
        );
    }
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,60}", body in prop::collection::vec(any::<u8>(), 0..300)) {
        for name in [PRIORITY, KEY, TENANT, DELIVER_AT, IDEMPOTENCY_KEY] {
            let Ok(value) = HeaderValue::from_str(&text) else { return Ok(()) };
            let sent = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
            if let Ok(wishes) = Wishes::read(&sent, &token(), UNIX_EPOCH + Duration::from_secs(NOW)) {
                let _ = wishes.event(&Bytes::from(body.clone()));
            }
        }
    }
}
