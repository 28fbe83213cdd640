//! The same event again is the same event.

use super::running::Running;

#[tokio::test]
async fn three_equal_deliveries_are_one_message() {
    let running = Running::start(&[]).await;
    let body = include_str!("../fixtures/github/issues.opened.json");
    let mut bodies = Vec::new();
    for attempt in 0..3 {
        let answer = running.github("72d3162e", "issues", body).await;
        assert_eq!(answer.status, if attempt > 0 { 200 } else { 202 });
        assert_eq!(answer.header("weir-duplicate"), (attempt > 0).then_some("true"));
        bodies.push(answer.json());
    }
    assert_eq!(bodies[0]["id"], "github:72d3162e");
    assert_eq!(
        (&bodies[0]["service"], &bodies[0]["subject"]),
        (&"github".into(), &"events.github".into())
    );
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(running.waiting("github").await, 1);
    let accepted = "weir_ingest_accepted_total{service=\"github\",kind=\"webhook\"}";
    assert_eq!(running.metric(accepted).await as u64, 1);
    assert_eq!(
        running
            .metric("weir_ingest_duplicates_total{service=\"github\"}")
            .await as u64,
        2
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_same_idempotency_key_gets_the_same_answer() {
    let running = Running::start(&[]).await;
    let key = [("idempotency-key", "order-17")];
    let first = running
        .event("http", &key, r#"{"v":1,"type":"order.paid","data":{"n":1}}"#)
        .await;
    let second = running
        .event("http", &key, r#"{"v":1,"type":"order.paid","data":{"n":1}}"#)
        .await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (202, 202));
    assert_eq!(first.body, second.body);
    assert_eq!(first.json()["id"], "key:ops:order-17");
    assert_eq!(second.header("weir-duplicate"), Some("true"));
    let other = running.event("http", &[], r#"{"v":1,"type":"order.paid"}"#).await;
    assert_ne!(other.json()["id"], first.json()["id"]);
    assert_eq!(running.waiting("http").await, 2);
    assert_eq!(
        running
            .metric("weir_ingest_accepted_total{service=\"http\",kind=\"api\"}")
            .await as u64,
        2
    );
    running.stop().await.unwrap();
}
