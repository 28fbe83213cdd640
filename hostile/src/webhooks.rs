//! Deliveries that are signed as they should be, read into events.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::accept::{Accepted, webhook};
use ingest::config::Source;
use ingest::error::{MAX_DETAIL, Refusal};
use ingest::verify::hmac::{Encoding, Generic, Template};
use ingest::verify::{Keys, Scheme, verify};
use ring::hmac;
use shared::event::{Data, Event, Priority};
use shared::subject::Service;

use crate::request::Request;
use crate::{bits, events};

/// The secret of every source.
pub const SECRET: &str = "It's a Secret to Everybody";
/// A secret that signs nothing.
pub const OTHER: &str = "another secret";
/// The clock, seconds since 1970, where a delivery brings none.
pub const NOW: u64 = 1_800_000_000;

/// HMAC-SHA256 by another implementation than the one that is checked.
pub fn mac(secret: &str, parts: &[&[u8]]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The seconds that a signed time says, in the one spelling that it may have.
pub fn signed_time(text: &[u8]) -> Option<u64> {
    let seconds: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (seconds > 0 && seconds.to_string().as_bytes() == text).then_some(seconds)
}

/// A signed delivery becomes an event that keeps its bounds and its body byte for byte, or is refused in a few words.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let body = &request.body;

    let mut headers = request.headers.clone();
    for (name, default) in [("x-github-event", "issues"), ("x-github-delivery", "72d3162e")] {
        if !headers.contains_key(name) {
            headers.insert(name, HeaderValue::from_static(default));
        }
    }
    insert(
        &mut headers,
        "x-hub-signature-256",
        &format!("sha256={}", hex(&mac(SECRET, &[body]))),
    );
    let github = source("github", Scheme::Github(Keys::new(&[SECRET])));
    if let Some(event) = kept(&github, &headers, body) {
        let delivery = headers.get("x-github-delivery").and_then(|id| id.to_str().ok());
        assert_eq!(
            Some(event.id.as_str()),
            delivery.map(|id| format!("github:{id}")).as_deref()
        );
    }

    let mut headers = request.headers.clone();
    let time = NOW.to_string();
    let signature = mac(SECRET, &[b"v0:", time.as_bytes(), b":", body]);
    insert(&mut headers, "x-slack-request-timestamp", &time);
    insert(
        &mut headers,
        "x-slack-signature",
        &format!("v0={}", hex(&signature)),
    );
    kept(
        &source("slack", Scheme::Slack(Keys::new(&[SECRET]))),
        &headers,
        body,
    );

    let mut headers = request.headers.clone();
    insert(&mut headers, "x-signature", &hex(&mac(SECRET, &[body])));
    let generic = Generic {
        keys: Keys::new(&[SECRET]),
        header: HeaderName::from_static("x-signature"),
        encoding: Encoding::Hex,
        prefix: String::new(),
        signed: Template::default(),
        timestamp: None,
        id: Some(HeaderName::from_static("x-id")),
        kind: Some(HeaderName::from_static("x-topic")),
    };
    kept(&source("shop", Scheme::Hmac(Box::new(generic))), &headers, body);
}

fn source(name: &str, scheme: Scheme) -> Source {
    Source {
        name: name.into(),
        service: Service::new("http").expect("a name"),
        scheme,
        limit: None,
        priority: Priority::new(9).expect("a priority"),
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("visible ASCII"));
}

/// The event of a delivery, checked; `None` where there is none.
fn kept(source: &Source, headers: &HeaderMap, body: &Bytes) -> Option<Event> {
    let delivery = verify(&source.scheme, headers, body.clone(), NOW);
    let delivery = delivery.expect("it is signed");
    match webhook(source, &delivery) {
        Err(refusal) => {
            refused(&refusal);
            None
        }
        Ok(Accepted::Answer(answer)) => {
            let answer: serde_json::Value = serde_json::from_slice(&answer).expect("an answer is JSON");
            assert!(source.name == "slack" && answer["challenge"].is_string());
            None
        }
        Ok(Accepted::Event(event)) => {
            events::check(&event);
            assert!(event.id.as_str().starts_with(&format!("{}:", source.name)));
            assert_eq!(event.source.as_deref(), Some(&*source.name));
            assert_eq!(event.priority, source.priority);
            assert!(matches!(&event.data, Data::Blob { bytes, .. } if bytes == body));
            // The same delivery is the same event.
            assert!(matches!(webhook(source, &delivery), Ok(Accepted::Event(again)) if again == event));
            Some(event)
        }
    }
}

/// Checks what a sender is told.
pub fn refused(refusal: &Refusal) {
    bits::told(&refusal.detail, MAX_DETAIL);
    assert!(refusal.code.status().is_client_error());
}
