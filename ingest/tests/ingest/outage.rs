//! NATS away, and back.

use std::time::Duration;

use tokio::time::Instant;

use super::running::Running;

#[tokio::test]
async fn no_202_without_nats_and_all_is_well_when_it_is_back() {
    let mut running = Running::start(&[("WEIR_INGEST_PATIENCE", "500ms")]).await;
    assert_eq!(running.github("1", "ping", "{}").await.status, 202);
    running.nats.stop().await.unwrap();
    let before = running.refused("unavailable").await;
    let start = Instant::now();
    let answer = running.github("2", "ping", "{}").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (503, Some("unavailable"))
    );
    assert!(answer.header("retry-after").is_some());
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "it was tried for as long as the patience lasts"
    );
    assert!((running.refused("unavailable").await - before - 1.0).abs() < f64::EPSILON);
    running.until_ready(false).await;
    // By now NATS has been away for longer than the patience, and nobody is kept waiting.
    let deadline = Instant::now() + super::running::PATIENCE;
    loop {
        let start = Instant::now();
        let answer = running.github("2", "ping", "{}").await;
        assert_eq!(answer.status, 503);
        if answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("has been away")
        {
            assert!(start.elapsed() < Duration::from_millis(400));
            break;
        }
        assert!(Instant::now() < deadline, "{}", answer.json());
    }
    running.nats.restart().await.unwrap();
    running.until_ready(true).await;
    let answer = running.github("2", "ping", "{}").await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.header("weir-duplicate"),
        None,
        "what was refused was not kept behind its sender's back"
    );
    assert_eq!(running.waiting("github").await, 2);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_outlives_a_short_outage() {
    let mut running = Running::start(&[("WEIR_INGEST_PATIENCE", "30s")]).await;
    running.nats.stop().await.unwrap();
    let (http, url) = (running.http.clone(), format!("{}/v1/events/http", running.base));
    let waiting = tokio::spawn(async move {
        let request = http
            .post(url)
            .bearer_auth("ops-token")
            .header("content-type", "application/json");
        request
            .body(r#"{"v":1,"type":"t","id":"patient"}"#)
            .send()
            .await
            .unwrap()
            .status()
    });
    running.nats.restart().await.unwrap();
    assert_eq!(waiting.await.unwrap(), 202);
    assert_eq!(running.waiting("http").await, 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn streams_that_vanish_are_made_again() {
    let running = Running::start(&[]).await;
    running.js.delete_stream("WEIR_http").await.unwrap();
    assert_eq!(
        running.event("http", &[], r#"{"v":1,"type":"t"}"#).await.status,
        202
    );
    assert_eq!(running.waiting("http").await, 1);
    running.stop().await.unwrap();
}
