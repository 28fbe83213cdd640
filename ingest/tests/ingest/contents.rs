//! What lies in the stream after a 202.

use std::time::{Duration, SystemTime};

use shared::event::{Data, Tenant};
use shared::subject::{header, headers as names};
use tokio::time::{Instant, sleep};

use super::running::{PATIENCE, Running};

#[tokio::test]
async fn a_large_webhook_is_compressed_and_comes_out_byte_for_byte() {
    let running = Running::start(&[]).await;
    let body = include_bytes!("../fixtures/github/issues.opened.4.json");
    let larger = [b"{\"pad\":\"", "x".repeat(300_000).as_bytes(), b"\",", &body[1..]].concat();
    assert_eq!(running.github("d-1", "issues", &body[..]).await.status, 202);
    assert_eq!(running.github("d-2", "issues", larger.clone()).await.status, 202);
    let messages = running.messages("github").await;
    for ((subject, headers, event), body) in messages.iter().zip([&body[..], &larger]) {
        assert_eq!(subject, "events.github");
        assert_eq!(header(Some(headers), names::CONTENT_ENCODING), Some("zstd"));
        assert_eq!(header(Some(headers), names::MESSAGE_ID), Some(event.id.as_str()));
        assert_eq!(event.data, Data::json(body.to_vec()));
        assert_eq!(
            (event.kind.as_str(), event.source.as_deref()),
            ("issues.opened", Some("github"))
        );
        assert!(event.key.as_ref().unwrap().as_str().contains('/'));
    }
    assert_eq!(messages.len(), 2);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn every_github_fixture_arrives() {
    let running = Running::start(&[]).await;
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/github");
    let mut sent = Vec::new();
    for (at, file) in std::fs::read_dir(dir).unwrap().enumerate() {
        let path = file.unwrap().path();
        let name = path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .split('.')
            .next()
            .unwrap()
            .to_owned();
        let body = std::fs::read(&path).unwrap();
        assert_eq!(
            running.github(&at.to_string(), &name, body.clone()).await.status,
            202
        );
        sent.push(Data::json(body));
    }
    let kept: Vec<Data> = running
        .messages("github")
        .await
        .into_iter()
        .map(|(_, _, event)| event.data)
        .collect();
    assert_eq!(kept, sent);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn slack_is_answered_and_its_team_is_the_tenant() {
    let running = Running::start(&[]).await;
    let challenge = include_str!("../fixtures/slack/url_verification.1.json");
    let answer = running.slack(0, "application/json", challenge).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json()["challenge"],
        "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    );
    assert_eq!(
        running.slack(301, "application/json", challenge).await.json()["code"],
        "timestamp_stale"
    );
    assert_eq!(running.waiting("slack").await, 0);

    let mention = include_str!("../fixtures/slack/event_callback.app_mention.1.json");
    let answer = running.slack(0, "application/json", mention).await;
    assert_eq!(answer.json()["subject"], "events.slack.normal.T111");
    let shortcut = include_str!("../fixtures/slack/shortcut.1.json");
    let shortcut = form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", shortcut)
        .finish();
    let form = "application/x-www-form-urlencoded";
    let answer = running.slack(0, form, shortcut.clone()).await;
    // Slack would show a body to the user who clicked.
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    let messages = running.messages("slack").await;
    assert_eq!(messages[0].2.tenant, Some(Tenant::new("T111").unwrap()));
    assert_eq!(
        messages[1].2.data,
        Data::Blob {
            content_type: form.into(),
            bytes: shortcut.into()
        }
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_for_later_comes_when_it_is_due() {
    let running = Running::start(&[]).await;
    let at = SystemTime::now() + Duration::from_secs(2);
    let millis = shared::telemetry::propagation::millis(at).to_string();
    let wishes = [
        ("weir-deliver-at", &*millis),
        ("weir-tenant", "acme"),
        ("idempotency-key", "later"),
    ];
    let body = r#"{"v":1,"type":"reminder"}"#;
    let answer = running.event("http", &wishes, body).await;
    assert_eq!(answer.status, 202, "{}", answer.json());
    assert_eq!(answer.json()["subject"], "events.http.normal.acme");
    assert_eq!(
        running
            .event("http", &wishes, body)
            .await
            .header("weir-duplicate"),
        Some("true")
    );
    assert_eq!(running.waiting("http").await, 0, "not before its time");
    let deadline = Instant::now() + PATIENCE;
    while running.waiting("http").await == 0 {
        assert!(Instant::now() < deadline, "it never came");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(SystemTime::now() >= at);
    let (subject, headers, event) = running.messages("http").await.remove(0);
    assert_eq!(
        (subject.as_str(), event.kind.as_str()),
        ("events.http.normal.acme", "reminder")
    );
    assert_eq!(header(Some(&headers), names::ID), Some("key:ops:later"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn http2_is_spoken_and_the_open_routes_answer() {
    let running = Running::start(&[]).await;
    let http2 = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let response = http2.get(format!("{}/", running.base)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert!(response.text().await.unwrap().contains("/webhooks/{source}"));
    assert_eq!(running.get("/openapi.json").await.json()["openapi"], "3.1.0");
    assert_eq!(running.get("/health/live").await.json()["status"], "live");
    running.stop().await.unwrap();
}
