//! Workers, one bucket, a provider that counts; and all that may go wrong between them.

mod at_once;
mod burst;
mod keys;
mod lower;
mod redis;
mod refused;
mod tokens;
mod worker_killed;

use std::time::Duration;

use loadtest::provider::{ProviderConfig, Shape, Window};
use serde_json::json;
use shared::event::Event;

use super::world::{World, calls};

/// Fifty calls a second, for the fleet.
const FIFTY: [(&str, &str); 2] = [
    ("WEIR_SERVICE_GITHUB_LIMIT", "50 per second, burst 5"),
    ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
];

/// A provider that allows fifty calls in any second, wherever it begins.
fn fifty_in_any_second() -> ProviderConfig {
    let mut limits = ProviderConfig::default();
    limits.github.core = Window::per_second(50);
    limits.github.shape = Shape::Sliding;
    limits
}

/// Work for `github`. What was asked before would cost nothing: every call asks for something else.
fn reads(count: usize) -> impl Iterator<Item = Event> {
    (0..count).flat_map(|n| calls(1, &json!({"path": format!("/users/u{n}")})))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_under_one_bucket_never_break_the_limit() {
    let mut world = World::new(fifty_in_any_second(), &FIFTY).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    // More than ten seconds' worth of work, so that both workers are always at the limit.
    for n in 0..450 {
        world
            .event(
                &ingest,
                "github",
                &json!({"v": 1, "type": "call", "data": {"path": format!("/users/u{n}")}}),
            )
            .await;
    }
    let _first = world.fleet.start("worker").await.unwrap();
    let _second = world.fleet.start("worker").await.unwrap();
    world.done(450).await;
    let stats = world.provider.stats();
    assert_eq!(stats.total.refused, 0, "{stats:#?}");
    assert_eq!(stats.total.accepted, 450);
    let (first, last) = (stats.first_call_ms.unwrap(), stats.last_call_ms.unwrap());
    println!(
        "450 calls in {:.1} s, worst second {:?}",
        (last - first) / 1e3,
        stats.limits
    );
    let workers: Vec<(String, i64)> = sqlx::query_as("SELECT worker, count(*) FROM results GROUP BY worker")
        .fetch_all(&world.database)
        .await
        .unwrap();
    assert_eq!(workers.len(), 2, "both took part: {workers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_quota_uses_up_no_attempt() {
    let mut limits = ProviderConfig::default();
    // The provider allows less than we were told: it refuses, and the events wait instead of failing.
    limits.github.core = "5 per 2s".parse().unwrap();
    let settings = [
        ("WEIR_SERVICE_GITHUB_LIMIT", "100 per second"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
        ("WEIR_SERVICE_GITHUB_RETRIES", "none"),
    ];
    let mut world = World::new(limits, &settings).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let mut worker = world.fleet.start("worker").await.unwrap();
    for n in 0..12 {
        world
            .event(
                &ingest,
                "github",
                &json!({"v": 1, "type": "call", "data": {"path": format!("/users/u{n}")}}),
            )
            .await;
    }
    world.done(12).await;
    let attempts: Vec<i32> = sqlx::query_scalar("SELECT DISTINCT attempts FROM results")
        .fetch_all(&world.database)
        .await
        .unwrap();
    assert_eq!(attempts, [1], "refused for a limit, but never counted as failed");
    assert!(
        world.provider.stats().total.refused > 0,
        "the test tests something"
    );
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
}
