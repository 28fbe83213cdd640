#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use ::hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use sha2::Sha256;
use shared::subject::Service;

use super::place::Overrides;
use super::*;
use crate::verify::hmac::{Encoding, Generic, Template};
use crate::verify::{self, Keys, gitlab, standard};

mod disguised;
mod kinds;
mod overrides;
mod slack;

const NOW: u64 = 1_700_000_000;
/// The base64 of "secret" after its prefix: one key for all kinds.
const WHSEC: &str = "whsec_c2VjcmV0";
const FORM: &str = "application/x-www-form-urlencoded";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(n, v): &(&str, &str)| {
        (
            HeaderName::from_bytes(n.as_bytes()).unwrap(),
            HeaderValue::from_str(v).unwrap(),
        )
    };
    pairs.iter().map(pair).collect()
}

fn source(name: &str, scheme: Scheme) -> Source {
    let service = Service::new("http").unwrap();
    Source {
        name: name.into(),
        service,
        scheme,
        limit: None,
        overrides: Overrides::default(),
    }
}

/// A source of a kind that is named like it.
fn of_kind(kind: &str) -> Source {
    let keys = Keys::new(&["secret"]);
    let scheme = match kind {
        "github" => Scheme::Github(keys),
        "gitlab" => Scheme::Gitlab(gitlab::Secrets::read(&["secret"]).unwrap()),
        "linear" => Scheme::Linear(keys),
        "slack" => Scheme::Slack(keys),
        "stripe" => Scheme::Stripe(keys),
        "standard" => Scheme::Standard(standard::Secrets::read(&[WHSEC]).unwrap()),
        other => panic!("no kind {other}"),
    };
    source(kind, scheme)
}

fn mac(parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    for part in parts {
        mac.update(part);
    }
    hex::encode(mac.finalize().into_bytes())
}

/// Signs a delivery as its source would, verifies it and reads it.
fn deliver(source: &Source, mut headers: HeaderMap, body: &[u8]) -> Result<Accepted, Refusal> {
    let mut put = |name: &'static str, value: String| headers.insert(name, value.parse().unwrap());
    let time = NOW.to_string();
    let mut now = std::time::Duration::from_secs(NOW);
    match &source.scheme {
        Scheme::Github(_) => put("x-hub-signature-256", format!("sha256={}", mac(&[body]))),
        Scheme::Gitlab(_) => put("x-gitlab-token", "secret".into()),
        Scheme::Linear(_) => {
            let sent: Option<serde_json::Value> = serde_json::from_slice(body).ok();
            let sent = sent.and_then(|body| body["webhookTimestamp"].as_u64());
            now = std::time::Duration::from_millis(sent.unwrap_or_default());
            put("linear-signature", mac(&[body]))
        }
        Scheme::Slack(_) => {
            put("x-slack-request-timestamp", time.clone());
            put(
                "x-slack-signature",
                format!("v0={}", mac(&[b"v0:", time.as_bytes(), b":", body])),
            )
        }
        Scheme::Stripe(_) => put(
            "stripe-signature",
            format!("t={time},v1={}", mac(&[time.as_bytes(), b".", body])),
        ),
        Scheme::Standard(_) => {
            use base64::Engine;
            let mac = hex::decode(mac(&[b"msg_1.", time.as_bytes(), b".", body])).unwrap();
            put("webhook-id", "msg_1".into());
            put("webhook-timestamp", time);
            put(
                "webhook-signature",
                format!("v1,{}", base64::prelude::BASE64_STANDARD.encode(mac)),
            )
        }
        Scheme::Hmac(_) => put("x-signature", mac(&[body])),
    };
    let body = Bytes::copy_from_slice(body);
    let verified = verify::verify(&source.scheme, &headers, body, now)?;
    webhook(source, &verified)
}

fn event(accepted: Result<Accepted, Refusal>) -> Event {
    match accepted.unwrap() {
        Accepted::Event(event) => event,
        Accepted::Answer(_) => panic!("no event"),
    }
}

fn github() -> Source {
    of_kind("github")
}

fn slack() -> Source {
    of_kind("slack")
}

fn generic(id: Option<&'static str>, kind: Option<&'static str>) -> Source {
    let scheme = Generic {
        keys: Keys::new(&["secret"]),
        header: HeaderName::from_static("x-signature"),
        encoding: Encoding::Hex,
        prefix: String::new(),
        signed: Template::default(),
        timestamp: None,
        id: id.map(HeaderName::from_static),
        kind: kind.map(HeaderName::from_static),
    };
    source("acme", Scheme::Hmac(Box::new(scheme)))
}

#[test]
fn github_names_what_happened_and_where() {
    let body = br#"{"action":"opened","issue":{"action":5},"repository":{"id":1,"full_name":"octo/repo"}}"#;
    let sent = [
        ("x-github-event", "issues"),
        ("x-github-delivery", "72d3162e"),
        ("content-type", "application/json"),
    ];
    let got = event(deliver(&github(), headers(&sent), body));
    assert_eq!(
        (got.id.as_str(), got.kind.as_str()),
        ("github:72d3162e", "issues.opened")
    );
    assert_eq!(got.key.unwrap().as_str(), "octo/repo");
    assert_eq!(got.source.as_deref(), Some("github"));
    assert_eq!(got.data, Data::json(Bytes::from_static(body)));

    let form = "payload=%7B%22action%22%3A%22opened%22%2C%22repository%22%3A%7B%22full_name%22%3A%22octo%2Frepo%22%7D%7D";
    let sent = [sent[0], sent[1], ("content-type", FORM)];
    let got = event(deliver(&github(), headers(&sent), form.as_bytes()));
    assert_eq!(
        (got.kind.as_str(), got.key.unwrap().as_str()),
        ("issues.opened", "octo/repo")
    );
    assert_eq!(
        got.data,
        Data::Blob {
            content_type: FORM.into(),
            bytes: form.into()
        }
    );
}

#[test]
fn every_github_fixture_is_read() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/github");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let body = std::fs::read(&path).unwrap();
        let name = path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .split('.')
            .next()
            .unwrap();
        let got = event(deliver(
            &github(),
            headers(&[("x-github-event", name), ("x-github-delivery", "1")]),
            &body,
        ));
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let action = json["action"]
            .as_str()
            .map(|a| format!(".{a}"))
            .unwrap_or_default();
        assert_eq!(got.kind, format!("{name}{action}"));
        assert_eq!(
            got.key.as_ref().map(shared::event::Key::as_str),
            json["repository"]["full_name"].as_str()
        );
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn generic_sources_say_it_in_headers_or_not_at_all() {
    let body = b"\x00\xffanything";
    let got = event(deliver(&generic(None, None), HeaderMap::new(), body));
    assert_eq!(
        got.id.as_str(),
        format!("acme:{}", hex::encode(Sha256::digest(body)))
    );
    assert_eq!(
        (got.kind.as_str(), got.source.as_deref()),
        ("webhook", Some("acme"))
    );
    let octets = "application/octet-stream".to_owned();
    assert_eq!(
        got.data,
        Data::Blob {
            content_type: octets,
            bytes: Bytes::from_static(body)
        }
    );
    let named = generic(Some("x-id"), Some("x-topic"));
    let got = event(deliver(
        &named,
        headers(&[("x-id", "42"), ("x-topic", "orders/paid")]),
        body,
    ));
    assert_eq!((got.id.as_str(), got.kind.as_str()), ("acme:42", "orders/paid"));
}

#[test]
fn what_does_not_fit_is_named() {
    let sent = [("x-github-event", "issues"), ("x-github-delivery", "1")];
    let long = "x".repeat(300);
    for (headers, body, code, detail) in [
        (
            headers(&sent[..1]),
            &b"{}"[..],
            Code::HeaderInvalid,
            "x-github-delivery is missing",
        ),
        (
            headers(&sent[1..]),
            b"{}",
            Code::HeaderInvalid,
            "x-github-event is missing",
        ),
        (
            headers(&[sent[0], ("x-github-delivery", "a b")]),
            b"{}",
            Code::HeaderInvalid,
            "x-github-delivery",
        ),
        (
            headers(&[sent[0], ("x-github-delivery", &long)]),
            b"{}",
            Code::HeaderInvalid,
            "x-github-delivery",
        ),
        (
            headers(&[("x-github-event", &long), sent[1]]),
            b"{}",
            Code::Malformed,
            "x-github-event",
        ),
        (
            headers(&sent),
            b"{\n \"action\": oops}",
            Code::Malformed,
            "line 2 column",
        ),
        (headers(&sent), b"", Code::Malformed, "line 1 column 0"),
        (
            headers(&sent),
            b"{\"a\":\"\xff\"}",
            Code::Malformed,
            "not UTF-8 from byte 6",
        ),
        (
            headers(&[sent[0], sent[1], ("content-type", FORM)]),
            b"a=b",
            Code::Malformed,
            "no field payload",
        ),
        (
            headers(&[sent[0], sent[1], ("content-type", &long)]),
            b"{}",
            Code::HeaderInvalid,
            "content-type",
        ),
    ] {
        let refusal = deliver(&github(), headers, body).unwrap_err();
        assert_eq!(refusal.code, code, "{}", refusal.detail);
        assert!(refusal.detail.contains(detail), "{}", refusal.detail);
    }
    let refusal = deliver(&slack(), headers(&[("content-type", FORM)]), b"ssl=1").unwrap_err();
    assert_eq!(refusal.code, Code::Malformed);
}

proptest! {
    #[test]
    fn never_panics(
        body in prop::collection::vec(any::<u8>(), 0..300),
        text in "\\PC{0,60}",
        form in any::<bool>(),
    ) {
        let mut sent = HeaderMap::new();
        for name in ["x-github-event", "x-github-delivery", "x-id", "x-topic"] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                sent.insert(name, value);
            }
        }
        if form {
            sent.insert("content-type", HeaderValue::from_static(FORM));
        }
        for kind in ["github", "gitlab", "linear", "slack", "stripe", "standard"] {
            let _ = deliver(&of_kind(kind), sent.clone(), &body);
        }
        let _ = deliver(&generic(Some("x-id"), Some("x-topic")), sent, &body);
    }

    #[test]
    fn slack_bodies_of_any_shape_are_read_or_refused(value in "[{}\\[\\]\",:a-z0-9]{0,80}") {
        let _ = deliver(&slack(), HeaderMap::new(), value.as_bytes());
        let _ = deliver(&slack(), headers(&[("content-type", FORM)]), format!("payload={value}").as_bytes());
    }
}
