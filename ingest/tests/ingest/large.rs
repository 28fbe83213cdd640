//! Events that are too large for a message.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shared::claim;
use shared::event::{Data, Event, EventId};
use shared::subject::{BODIES_STREAM, Service, header, headers as names};

use super::running::{Answer, Running, mac};

/// The server takes 1 MiB, and noise does not compress.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    });
    words.flat_map(u32::to_be_bytes).take(bytes).collect()
}

async fn acme(running: &Running, body: &[u8]) -> Answer {
    let headers = [("x-acme-signature", &*mac(&[body]))];
    running.post("/webhooks/acme", &headers, body.to_vec()).await
}

/// Messages of the bucket: one for each object and one for each of its pieces.
async fn kept(running: &Running) -> u64 {
    let stream = running.js.get_stream(BODIES_STREAM).await.unwrap();
    stream.get_info().await.unwrap().state.messages
}

/// The event that a message refers to.
async fn referred(running: &Running, stream: &str, sequence: u64, id: &str) -> Event {
    let stream = running.js.get_stream(stream).await.unwrap();
    let message = stream.get_raw_message(sequence).await.unwrap();
    assert!(message.payload.is_empty());
    assert_eq!(header(Some(&message.headers), names::CONTENT_ENCODING), None);
    let (http, id) = (Service::new("http").unwrap(), EventId::new(id).unwrap());
    let name = claim::of(Some(&message.headers), &http, &id).unwrap().unwrap();
    let object = claim::find(&running.js, &name).await.unwrap().unwrap();
    let body = claim::read(&running.js, &object).await.unwrap();
    let event = shared::wire::decode(&body, || panic!("every event carries its id")).unwrap();
    assert_eq!(event.id, id);
    event
}

#[tokio::test]
async fn the_largest_webhook_is_kept_beside_its_message_and_once() {
    let running = Running::start(&[]).await;
    let body = noise(25 << 20, 1);
    let answer = acme(&running, &body).await;
    assert_eq!(answer.status, 202);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let event = referred(&running, "WEIR_http", 1, &id).await;
    let Data::Blob { bytes, .. } = event.data else {
        panic!("bytes went in")
    };
    assert!(bytes == body);
    let objects = kept(&running).await;

    let again = acme(&running, &body).await;
    assert_eq!(
        (again.status.as_u16(), again.header("weir-duplicate")),
        (200, Some("true"))
    );
    assert_eq!(running.waiting("http").await, 1);
    assert_eq!(
        kept(&running).await,
        objects,
        "the second copy is gone, the first is not"
    );
    referred(&running, "WEIR_http", 1, &id).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_for_later_may_be_large_too() {
    let running = Running::start(&[]).await;
    let at = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    let at = at
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis()
        .to_string();
    let data = BASE64_STANDARD.encode(noise(2 << 20, 1));
    let event = format!("{{\"v\":1,\"type\":\"t\",\"id\":\"later\",\"data_base64\":\"{data}\"}}");
    assert_eq!(
        running
            .event("http", &[("weir-deliver-at", &at)], event)
            .await
            .status,
        202
    );
    assert_eq!(running.waiting("http").await, 0);
    referred(&running, "WEIR_RETRY", 1, "later").await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_stream_refuses_leaves_nothing_behind() {
    let running = Running::start(&[("WEIR_STREAM_MAX_MESSAGES", "1")]).await;
    let small = running.event("http", &[], r#"{"v":1,"type":"t"}"#).await;
    assert_eq!(small.status, 202);
    let answer = acme(&running, &noise(2 << 20, 1)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (503, Some("stream_full"))
    );
    assert_eq!(kept(&running).await, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_bucket_is_503_at_once_and_harms_no_small_event() {
    let more = [("WEIR_CLAIMS_MAX_BYTES", "64MB"), ("WEIR_INGEST_PATIENCE", "5m")];
    let running = Running::start(&more).await;
    for seed in [1, 2] {
        assert_eq!(acme(&running, &noise(25 << 20, seed)).await.status, 202);
    }
    let objects = kept(&running).await;
    let answer = acme(&running, &noise(25 << 20, 3)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (503, Some("stream_full"))
    );
    assert!(answer.header("retry-after").is_some());
    assert!(answer.json()["detail"].as_str().unwrap().contains("large events"));
    assert_eq!(kept(&running).await, objects, "no half of it is left");
    assert_eq!(running.github("1", "ping", "{}").await.status, 202);
    running.stop().await.unwrap();
}

/// An event that fills the server's largest message could neither be retried nor buried, which add headers.
#[tokio::test]
async fn a_message_leaves_room_for_the_headers_of_a_retry() {
    let running = Running::start(&[]).await;
    let post = async |bytes: usize| {
        let data = BASE64_STANDARD.encode(noise(bytes, 7));
        let event = format!("{{\"v\":1,\"type\":\"t\",\"data_base64\":\"{data}\"}}");
        assert_eq!(running.event("http", &[], event).await.status, 202);
    };
    post((1 << 20) - 20_000).await;
    assert_eq!(kept(&running).await, 0, "fits its message");
    post((1 << 20) - 10_000).await;
    assert!(kept(&running).await > 0, "does not");
    assert_eq!(running.waiting("http").await, 2);
    running.stop().await.unwrap();
}
