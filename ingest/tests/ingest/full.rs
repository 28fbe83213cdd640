//! Streams that are full.

use async_nats::jetstream::stream::Config;

use super::running::Running;

#[tokio::test]
async fn a_full_stream_is_503_and_a_full_backlog_429_at_once() {
    let more = [("WEIR_STREAM_MAX_MESSAGES", "3"), ("WEIR_INGEST_PATIENCE", "5m")];
    let running = Running::start(&more).await;
    for id in ["1", "2", "3"] {
        assert_eq!(running.github(id, "ping", "{}").await.status, 202);
    }
    // Nothing is tried again here: with a patience of minutes that would show.
    let answer = running.github("4", "ping", "{}").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (503, Some("stream_full"))
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        running.github("3", "ping", "{}").await.header("weir-duplicate"),
        Some("true")
    );
    let batch = [
        ("authorization", "Bearer ops-token"),
        ("content-type", "application/json"),
    ];
    let body = r#"[{"v":1,"type":"t"},{"v":1,"type":"t"}]"#;
    let answer = running.post("/v1/events/github/batch", &batch, body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (503, Some("stream_full"))
    );
    assert_eq!(running.refused("stream_full").await as u64, 4);

    let stream = running.js.get_stream("WEIR_http").await.unwrap();
    let config = stream.cached_info().config.clone();
    let config = Config {
        max_messages_per_subject: 1,
        discard_new_per_subject: true,
        max_messages: 100,
        ..config
    };
    running.js.update_stream(config).await.unwrap();
    assert_eq!(
        running
            .event("http", &[], r#"{"v":1,"type":"t","id":"a"}"#)
            .await
            .status,
        202
    );
    let answer = running.event("http", &[], r#"{"v":1,"type":"t","id":"b"}"#).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (429, Some("backlog_full"))
    );
    assert!(answer.header("retry-after").is_some());
    let other = running
        .event(
            "http",
            &[("weir-tenant", "acme")],
            r#"{"v":1,"type":"t","id":"b"}"#,
        )
        .await;
    assert_eq!(
        other.status, 202,
        "another tenant has a backlog of its own, and the refused id is not used up"
    );
    assert_eq!(running.refused("backlog_full").await as u64, 1);
    running.stop().await.unwrap();
}
