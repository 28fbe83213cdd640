//! A limit on calls at the same time.

use loadtest::provider::{Faults, ProviderConfig, Window};

use super::super::world::World;
use super::reads;

const FIVE_AT_ONCE: [(&str, &str); 2] = [
    ("WEIR_SERVICE_GITHUB_LIMIT", "none"),
    (
        "WEIR_SERVICE_GITHUB_LIMITS",
        "points: none; content: none; content-hour: none; graphql: none; at-once: 5 at once",
    ),
];

/// A provider that takes 50 ms for a call and allows five at a time.
fn slow() -> ProviderConfig {
    let mut limits = ProviderConfig {
        faults: Faults {
            latency_p50_ms: 50.0,
            ..Faults::default()
        },
        ..ProviderConfig::default()
    };
    limits.github.core = Window::per_second(100_000);
    limits.github.concurrent = 5;
    limits
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_together_keep_to_so_many_at_once() {
    let mut world = World::new(slow(), &FIVE_AT_ONCE).await;
    world.publish("github", reads(500)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.served(500).await;
    let stats = world.provider.stats();
    let took = stats.last_call_ms.unwrap() - stats.first_call_ms.unwrap();
    println!("500 calls in {:.1} s, {:?}", took / 1e3, stats.concurrency);
    assert_eq!(stats.concurrency.breaches, 0);
    assert!(
        (4..=5).contains(&stats.concurrency.peak),
        "{:?}",
        stats.concurrency
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_does_not_forget_who_is_calling() {
    let mut settings = FIVE_AT_ONCE.to_vec();
    settings.push(("WEIR_LIMITS_START", "empty"));
    let mut world = World::new(slow(), &settings).await;
    world.publish("github", reads(1_500)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.served_more(50).await;
    world.fleet.servers.redis.kill().await.unwrap();
    world.fleet.servers.redis.restart().await.unwrap();
    world.served_more(50).await;
}
