//! SIGTERM: no new messages, what is in flight finishes or is handed back, exit 0 inside the deadline.

use std::time::{Duration, Instant};

use loadtest::provider::ProviderConfig;
use serde_json::json;

use super::world::{World, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_finishes_what_it_has_begun() {
    let mut limits = ProviderConfig::default();
    limits.faults.latency_p50_ms = 800.0;
    let mut world = World::new(limits, &[("WEIR_SERVICE_HTTP_CONCURRENCY", "10")]).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    for n in 0..40 {
        world
            .event(&ingest, "http", &json!({"v": 1, "type": "n", "data": n}))
            .await;
    }
    let mut worker = world.fleet.start("worker").await.unwrap();
    until("ten calls under way", async || {
        (world.provider.stats().total.calls >= 10).then_some(())
    })
    .await;
    let start = Instant::now();
    assert_eq!(worker.stop(Duration::from_secs(25)).await.unwrap(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(25), "inside the deadline");
    let calls = world.provider.stats().total.calls;
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM results WHERE state = 'done'")
        .fetch_one(&world.database)
        .await
        .unwrap();
    assert_eq!(done as u64, calls, "every call that was begun is recorded");
    assert_eq!(
        world.left("WEIR_http").await,
        40 - calls,
        "and acked; the rest waits"
    );
    // Handed back, not left to the ack wait: another worker gets them at once.
    let _next = world.fleet.start("worker").await.unwrap();
    world.done(40).await;
    assert_eq!(world.provider.stats().doubled.count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_finish_in_time_is_handed_back() {
    let mut limits = ProviderConfig::default();
    limits.faults.latency_p50_ms = 20_000.0;
    // An ack wait that would outlast the test: only a hand-back brings the event to the next worker in time.
    let settings = [("WEIR_SHUTDOWN_DEADLINE", "3s"), ("WEIR_STREAM_ACK_WAIT", "10m")];
    let mut world = World::new(limits, &settings).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let mut worker = world.fleet.start("worker").await.unwrap();
    let id = world
        .event(&ingest, "http", &json!({"v": 1, "type": "slow"}))
        .await;
    until("the call under way", async || {
        (world.provider.stats().total.calls >= 1).then_some(())
    })
    .await;
    let start = Instant::now();
    assert_eq!(worker.stop(Duration::from_secs(10)).await.unwrap(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "the deadline is 3 s: {:?}",
        start.elapsed()
    );
    world
        .provider
        .set_faults(loadtest::provider::Faults::default())
        .unwrap();
    let _next = world.fleet.start("worker").await.unwrap();
    assert_eq!(world.result(&id).await.state, "done");
}
