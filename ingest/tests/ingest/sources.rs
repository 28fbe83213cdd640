//! Every kind of webhook source over HTTP: kept once, answered as its sender wants it, refused when nobody vouches for it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::refusals::refused;
use super::running::{Running, mac};

const SETTINGS: [(&str, &str); 14] = [
    ("WEIR_SOURCES", "github,slack,acme,gitlab,linear,stripe,svix"),
    ("WEIR_SOURCE_GITLAB_KIND", "gitlab"),
    ("WEIR_SOURCE_GITLAB_SECRETS", "old,secret"),
    ("WEIR_SOURCE_GITLAB_SERVICE", "http"),
    ("WEIR_SOURCE_LINEAR_KIND", "linear"),
    ("WEIR_SOURCE_LINEAR_SECRETS", "old,secret"),
    ("WEIR_SOURCE_LINEAR_SERVICE", "http"),
    ("WEIR_SOURCE_STRIPE_KIND", "stripe"),
    ("WEIR_SOURCE_STRIPE_SECRETS", "old,secret"),
    ("WEIR_SOURCE_STRIPE_SERVICE", "http"),
    ("WEIR_SOURCE_SVIX_KIND", "standard"),
    // The second is the base64 of "secret".
    ("WEIR_SOURCE_SVIX_SECRETS", "whsec_b2xk,whsec_c2VjcmV0"),
    ("WEIR_SOURCE_SVIX_SERVICE", "http"),
    ("WEIR_SOURCE_SVIX_TENANT", "body:/data/customer"),
];

/// A delivery: where to, with which headers, what.
struct Sent {
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Sent {
    async fn to(&self, running: &Running, headers: &[(&'static str, String)]) -> super::running::Answer {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        running.post(self.path, &headers, self.body.clone()).await
    }

    /// The headers with another value for one of them, or without it.
    fn with(&self, name: &str, value: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = self.headers.clone();
        match value {
            Some(value) => headers.iter_mut().find(|(known, _)| *known == name).unwrap().1 = value.into(),
            None => headers.retain(|(known, _)| *known != name),
        }
        headers
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sent(path: &'static str, body: String, headers: &[(&'static str, &str)]) -> Sent {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let json = [("content-type", "application/json".to_owned())];
    Sent {
        path,
        headers: json.into_iter().chain(headers).collect(),
        body,
    }
}

fn gitlab() -> Sent {
    let body = r#"{"object_kind":"push","project":{"path_with_namespace":"mike/diaspora"}}"#;
    let headers = [("x-gitlab-token", "secret"), ("idempotency-key", "f5e1")];
    sent("/webhooks/gitlab", body.to_owned(), &headers)
}

fn linear(at: u64) -> Sent {
    let body =
        format!(r#"{{"type":"Issue","action":"create","organizationId":"org","webhookTimestamp":{at}000}}"#);
    let signature = mac(&[body.as_bytes()]);
    let headers = [("linear-signature", &*signature), ("linear-delivery", "234d")];
    sent("/webhooks/linear", body, &headers)
}

fn stripe(at: u64) -> Sent {
    let body = r#"{"id":"evt_1","type":"charge.succeeded","data":{"object":{"id":"ch_1"}}}"#;
    let at = at.to_string();
    let signature = format!("t={at},v1={}", mac(&[at.as_bytes(), b".", body.as_bytes()]));
    sent(
        "/webhooks/stripe",
        body.to_owned(),
        &[("stripe-signature", &signature)],
    )
}

fn svix(at: u64) -> Sent {
    let body = r#"{"type":"contact.created","data":{"customer":"acme.co"}}"#;
    let at = at.to_string();
    let digest = hex::decode(mac(&[b"msg_1.", at.as_bytes(), b".", body.as_bytes()])).unwrap();
    let signature = format!("v1,AAAA v1,{}", BASE64_STANDARD.encode(digest));
    let headers = [
        ("svix-id", "msg_1"),
        ("svix-timestamp", &*at),
        ("svix-signature", &*signature),
    ];
    sent("/webhooks/svix", body.to_owned(), &headers)
}

#[tokio::test]
async fn each_kind_is_kept_once() {
    let running = Running::start(&SETTINGS).await;
    let now = seconds();
    let mapped = format!(
        "events.http.normal.acme_co-{}",
        &super::running::sha256("acme.co")[..16]
    );
    for (delivery, first, id, kind, subject) in [
        (gitlab(), 202, "gitlab:f5e1", "push", "events.http.normal.mike"),
        (
            linear(now),
            200,
            "linear:234d",
            "Issue.create",
            "events.http.normal.org",
        ),
        (
            stripe(now),
            202,
            "stripe:evt_1",
            "charge.succeeded",
            "events.http",
        ),
        (svix(now), 202, "svix:msg_1", "contact.created", &*mapped),
    ] {
        for (attempt, status) in [(0, first), (1, 200), (2, 200)] {
            let answer = delivery.to(&running, &delivery.headers).await;
            assert_eq!(answer.status, status, "{id}: {}", answer.json());
            assert_eq!(
                answer.header("weir-duplicate"),
                (attempt > 0).then_some("true"),
                "{id}"
            );
            assert_eq!(
                (&answer.json()["id"], &answer.json()["subject"]),
                (&id.into(), &subject.into())
            );
        }
        let (_, _, event) = running.messages("http").await.pop().unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str()), (id, kind));
    }
    assert_eq!(running.waiting("http").await, 4);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn slack_tries_again_and_is_kept_once() {
    let running = Running::start(&[]).await;
    let body = include_str!("../fixtures/slack/event_callback.app_mention.1.json");
    assert_eq!(running.slack(0, "application/json", body).await.status, 202);
    // Each try is signed anew.
    let again = running.slack(60, "application/json", body).await;
    assert_eq!(
        (again.status.as_u16(), again.header("weir-duplicate")),
        (200, Some("true"))
    );
    assert_eq!(running.waiting("slack").await, 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whom_nobody_vouches_for_is_refused() {
    let running = Running::start(&SETTINGS).await;
    let now = seconds();
    let many = |between: &str, one: &str| [one; 33].join(between);
    let (zeros, stale) = ("0".repeat(64), "1531420618");
    let stripes = |signatures: String| format!("t={now},{signatures}");
    let cases: Vec<(Sent, &str, Option<String>, &str, &str)> = vec![
        (
            gitlab(),
            "x-gitlab-token",
            None,
            "signature_missing",
            "x-gitlab-token is missing",
        ),
        (
            gitlab(),
            "x-gitlab-token",
            Some("other".into()),
            "signature_wrong",
            "no active secret",
        ),
        (
            linear(now),
            "linear-signature",
            None,
            "signature_missing",
            "linear-signature",
        ),
        (
            linear(now),
            "linear-signature",
            Some(zeros.clone()),
            "signature_wrong",
            "any active secret",
        ),
        (
            linear(now),
            "linear-signature",
            Some("what".into()),
            "signature_wrong",
            "any active secret",
        ),
        (
            linear(now - 120),
            "",
            None,
            "timestamp_stale",
            "webhookTimestamp of the body is 1",
        ),
        (
            linear(now + 120),
            "",
            None,
            "timestamp_stale",
            "s ahead, at most 60 s",
        ),
        (
            stripe(now),
            "stripe-signature",
            None,
            "signature_missing",
            "stripe-signature",
        ),
        (
            stripe(now),
            "stripe-signature",
            Some(stripes(format!("v1={zeros}"))),
            "signature_wrong",
            "any active",
        ),
        (
            stripe(now),
            "stripe-signature",
            Some(stripes(format!("v0={zeros}"))),
            "signature_wrong",
            "any active",
        ),
        (
            stripe(now),
            "stripe-signature",
            Some("v1=00".into()),
            "timestamp_invalid",
            "t in header stripe-signature is",
        ),
        (
            stripe(now),
            "stripe-signature",
            Some("t=soon,v1=00".into()),
            "timestamp_invalid",
            "must be seconds",
        ),
        (
            stripe(now),
            "stripe-signature",
            Some(stripes(many(",", "v1=00"))),
            "signature_wrong",
            "more than 32",
        ),
        (
            stripe(now - 400),
            "",
            None,
            "timestamp_stale",
            "s old, at most 300 s",
        ),
        (
            svix(now),
            "svix-signature",
            None,
            "signature_missing",
            "webhook-signature is missing",
        ),
        (
            svix(now),
            "svix-signature",
            Some("v1,AAAA".into()),
            "signature_wrong",
            "svix-signature is not",
        ),
        (
            svix(now),
            "svix-signature",
            Some(many(" ", "v1,AAAA")),
            "signature_wrong",
            "more than 32",
        ),
        (
            svix(now),
            "svix-id",
            Some("msg_2".into()),
            "signature_wrong",
            "any active secret",
        ),
        (
            svix(now),
            "svix-timestamp",
            None,
            "timestamp_invalid",
            "svix-timestamp is missing",
        ),
        (
            svix(now),
            "svix-timestamp",
            Some("now".into()),
            "timestamp_invalid",
            "must be seconds",
        ),
        (
            svix(now),
            "svix-timestamp",
            Some(stale.into()),
            "timestamp_stale",
            "s old, at most 300 s",
        ),
        (
            svix(now + 400),
            "",
            None,
            "timestamp_stale",
            "s ahead, at most 300 s",
        ),
    ];
    for (delivery, name, value, code, detail) in cases {
        let headers = delivery.with(name, value.as_deref());
        let before = running.refused(code).await;
        let answer = delivery.to(&running, &headers).await;
        refused(&running, before, &answer, 401, code, detail).await;
    }
    assert_eq!(running.waiting("http").await, 0, "nothing refused is kept");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_vouched_for_and_cannot_be_read_is_refused() {
    let running = Running::start(&SETTINGS).await;
    let token = ("x-gitlab-token", "secret");
    let (now, broken) = (seconds().to_string(), "{\n  oops}");
    let stripe = format!("t={now},v1={}", mac(&[now.as_bytes(), b".", broken.as_bytes()]));
    for (delivery, detail) in [
        (
            sent("/webhooks/gitlab", broken.into(), &[token]),
            "line 2 column 3",
        ),
        (
            sent("/webhooks/gitlab", String::new(), &[token]),
            "line 1 column 0",
        ),
        (
            sent(
                "/webhooks/stripe",
                broken.into(),
                &[("stripe-signature", &stripe)],
            ),
            "line 2 column 3",
        ),
    ] {
        let before = running.refused("malformed").await;
        let answer = delivery.to(&running, &delivery.headers).await;
        refused(&running, before, &answer, 400, "malformed", detail).await;
    }
    running.stop().await.unwrap();
}
