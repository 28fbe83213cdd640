//! A refusal pauses the key for everybody, those who come later too.

use loadtest::provider::{Answer, ProviderConfig, Shape};
use serde_json::json;
use shared::event::Event;

use super::super::world::{World, calls, until};
use super::reads;

/// Milliseconds that the provider's window lasts, and so how long it keeps refused callers away at least.
const PAUSE: f64 = 4_000.0;
/// Milliseconds after a refusal in which a call already under way may arrive.
const UNDER_WAY: f64 = 150.0;

async fn the_next_worker_waits(service: &str, settings: &[(&str, &str)], work: impl Iterator<Item = Event>) {
    let mut limits = ProviderConfig::default();
    limits.github.core = "5 per 4s".parse().unwrap();
    limits.github.shape = Shape::Fixed;
    limits.slack.method = limits.github.core;
    limits.slack.shape = Shape::Fixed;
    let mut world = World::new(limits, settings).await;
    world.publish(service, work).await;
    let mut first = world.fleet.start("worker").await.unwrap();
    until("a refusal", async || {
        (world.provider.stats().total.refused > 0).then_some(())
    })
    .await;
    let _second = world.fleet.start("worker").await.unwrap();
    let started = world.now_ms();
    first.kill().await.unwrap();
    world.served(6).await;
    let all = world.calls(0.0, f64::INFINITY);
    let refused = all.iter().find(|call| call.answer == Answer::Refused).unwrap();
    let over = all[0].at_ms + PAUSE;
    assert!(started < over - 1_000.0, "the second was there in time");
    let meanwhile: Vec<_> = all
        .iter()
        .filter(|call| call.at_ms > refused.at_ms + UNDER_WAY && call.at_ms < over)
        .collect();
    assert!(meanwhile.is_empty(), "{meanwhile:#?}");
    let refusals = all
        .iter()
        .filter(|call| call.answer == Answer::Refused && call.at_ms < over)
        .count();
    println!(
        "{refusals} refused; the second was ready {:.0} ms after, called {:?} ms after the pause",
        started - refused.at_ms,
        all.iter()
            .find(|call| call.at_ms >= over)
            .map(|call| call.at_ms - over),
    );
    assert!(refusals <= 20, "more than were under way: {refusals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_later_waits_out_the_pause_of_a_service() {
    let settings = [
        ("WEIR_SERVICE_GITHUB_LIMIT", "1000 per second"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
    ];
    the_next_worker_waits("github", &settings, reads(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_later_waits_out_the_pause_of_a_method() {
    let settings = [
        ("WEIR_SERVICE_SLACK_LIMIT", "none"),
        ("WEIR_SERVICE_SLACK_LIMITS", "method:auth.test: 1000 per second"),
    ];
    let work = calls(200, &json!({"method": "auth.test"}));
    the_next_worker_waits("slack", &settings, work).await;
}
