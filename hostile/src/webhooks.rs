//! Deliveries that are signed as they should be, read into events.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::accept::place::{Field, Overrides, Places};
use ingest::accept::{Accepted, webhook};
use ingest::config::Source;
use ingest::error::{Code, MAX_DETAIL, Refusal};
use ingest::verify::hmac::{Encoding, Generic, Template};
use ingest::verify::{Keys, Scheme, gitlab, standard, verify};
use ring::hmac;
use shared::event::{Data, Event};
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

/// The base64 of the secret's bytes, as Standard Webhooks writes it.
pub fn whsec(secret: &str) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(secret))
}

/// A kind's name and scheme, its clock, and the headers that sign.
type Kind<'a> = (&'a str, Scheme, Duration, &'a [(&'static str, &'a str)]);

/// A source of each kind that signs with [`SECRET`], and what its deliveries are signed by.
fn signed(request: &Request) -> Vec<(Source, HeaderMap, Duration)> {
    let (body, time) = (&request.body, NOW.to_string());
    let now = Duration::from_secs(NOW);
    let keys = || Keys::new(&[SECRET]);
    let generic = Generic {
        keys: keys(),
        header: HeaderName::from_static("x-signature"),
        encoding: Encoding::Hex,
        prefix: String::new(),
        signed: Template::default(),
        timestamp: None,
        id: Some(HeaderName::from_static("x-id")),
        kind: Some(HeaderName::from_static("x-topic")),
    };
    let bare = hex(&mac(SECRET, &[body]));
    let slack = hex(&mac(SECRET, &[b"v0:", time.as_bytes(), b":", body]));
    let stripe = hex(&mac(SECRET, &[time.as_bytes(), b".", body]));
    let standard = BASE64_STANDARD.encode(mac(SECRET, &[b"msg_1.", time.as_bytes(), b".", body]));
    let secrets = standard::Secrets::read(&[whsec(SECRET)]).expect("a secret");
    let token = gitlab::Secrets::read(&[SECRET]).expect("a token");
    // Linear's time is whatever the body says.
    let sent = serde_json::from_slice(body).ok();
    let sent = sent.and_then(|sent: serde_json::Value| sent["webhookTimestamp"].as_u64());
    let sent = Duration::from_millis(sent.unwrap_or_default());
    let kinds: [Kind<'_>; 7] = [
        (
            "github",
            Scheme::Github(keys()),
            now,
            &[("x-hub-signature-256", &format!("sha256={bare}"))],
        ),
        (
            "gitlab",
            Scheme::Gitlab(token),
            now,
            &[("x-gitlab-token", SECRET)],
        ),
        (
            "linear",
            Scheme::Linear(keys()),
            sent,
            &[("linear-signature", &bare)],
        ),
        (
            "slack",
            Scheme::Slack(keys()),
            now,
            &[
                ("x-slack-request-timestamp", &time),
                ("x-slack-signature", &format!("v0={slack}")),
            ],
        ),
        (
            "stripe",
            Scheme::Stripe(keys()),
            now,
            &[("stripe-signature", &format!("t={time},v1={stripe}"))],
        ),
        (
            "standard",
            Scheme::Standard(secrets),
            now,
            &[
                ("webhook-id", "msg_1"),
                ("webhook-timestamp", &time),
                ("webhook-signature", &format!("v1,{standard}")),
            ],
        ),
        (
            "shop",
            Scheme::Hmac(Box::new(generic)),
            now,
            &[("x-signature", &bare)],
        ),
    ];
    let all = kinds.into_iter().map(|(name, scheme, now, signature)| {
        let mut headers = request.headers.clone();
        for (name, default) in [("x-github-event", "issues"), ("x-github-delivery", "72d3162e")] {
            if !headers.contains_key(name) {
                headers.insert(name, HeaderValue::from_static(default));
            }
        }
        for (name, value) in signature {
            insert(&mut headers, name, value);
        }
        (source(name, scheme), headers, now)
    });
    all.collect()
}

/// A signed delivery becomes an event that keeps its bounds and its body byte for byte, or is refused in a few words;
/// the same with every field taken from the places that `x-check-places` names.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let overrides = request.told("places").and_then(overrides);
    for (mut source, headers, now) in signed(&request) {
        let event = kept(&source, &headers, &request.body, now);
        if let (Some(event), "github") = (&event, &*source.name) {
            let delivery = headers.get("x-github-delivery").and_then(|id| id.to_str().ok());
            assert_eq!(
                Some(event.id.as_str()),
                delivery.map(|id| format!("github:{id}")).as_deref()
            );
        }
        if let Some(overrides) = &overrides {
            source.overrides = overrides.clone();
            kept(&source, &headers, &request.body, now);
        }
    }
}

/// All fields from these places, where they can be.
fn overrides(places: &str) -> Option<Overrides> {
    let read = Field::ALL.map(|field| Places::read(places, field).unwrap_or_default());
    (read != <[Places; 5]>::default()).then(|| Overrides::new(read))
}

fn source(name: &str, scheme: Scheme) -> Source {
    Source {
        name: name.into(),
        service: Service::new("http").expect("a name"),
        scheme,
        limit: None,
        overrides: Overrides::default(),
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("visible ASCII"));
}

/// The event of a delivery, checked; `None` where there is none.
fn kept(source: &Source, headers: &HeaderMap, body: &Bytes, now: Duration) -> Option<Event> {
    let delivery = match verify(&source.scheme, headers, body.clone(), now) {
        // What is signed and brings no time that can be read is refused for that alone.
        Err(refusal) if source.name == "linear" => {
            assert!(matches!(
                refusal.code,
                Code::TimestampInvalid | Code::TimestampStale
            ));
            refused(&refusal);
            return None;
        }
        delivery => delivery.expect("it is signed"),
    };
    match webhook(source, &delivery) {
        Err(refusal) => {
            refused(&refusal);
            None
        }
        Ok(Accepted::Answer(answer)) => {
            let answer: serde_json::Value = serde_json::from_slice(&answer).expect("an answer is JSON");
            let empty = answer.as_object().is_some_and(serde_json::Map::is_empty);
            assert!(source.name == "slack" && (empty || answer["challenge"].is_string()));
            None
        }
        Ok(Accepted::Event(event)) => {
            events::check(&event);
            assert!(event.id.as_str().starts_with(&format!("{}:", source.name)));
            assert_eq!(event.source.as_deref(), Some(&*source.name));
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
