//! The provider allows less than the fleet was told, and says so in its headers.

use std::time::Duration;

use loadtest::provider::{Answer, ProviderConfig, Shape, Window};

use super::super::world::World;
use super::reads;

const WINDOW: Duration = Duration::from_secs(12);
const REAL: u64 = 200;
const HOUR_MS: i64 = 3_600_000;

/// Two windows under full load.
async fn two_windows(clock_skew_ms: i64) {
    let mut limits = ProviderConfig {
        clock_skew_ms,
        ..ProviderConfig::default()
    };
    limits.github.core = Window::new(REAL as u32, WINDOW);
    limits.github.shape = Shape::Fixed;
    let settings = [
        ("WEIR_SERVICE_GITHUB_LIMIT", "2000 per 12s"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
    ];
    let mut world = World::new(limits, &settings).await;
    world.publish("github", reads(1_200)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.served(REAL * 8 / 10).await;
    let edge = world.provider.stats().first_call_ms.unwrap() + WINDOW.as_secs_f64() * 1e3;
    world.reached(edge).await;
    let so_far = world.provider.stats().total.accepted;
    world.served(so_far + REAL * 8 / 10).await;
    // Whoever does not know of the limit would call a hundred times more.
    world.reached(world.now_ms() + 1_000.0).await;
    println!("{}", world.course());
    let one = world.calls(0.0, edge);
    let two = world.calls(edge, f64::INFINITY);
    for window in [&one, &two] {
        let refused = window.iter().filter(|call| call.answer == Answer::Refused);
        assert!(refused.count() <= 1, "{}", world.course());
    }
    // The reset and the time of day are told in whole seconds.
    let late = two[0].at_ms - edge;
    assert!(late < 2_500.0, "the second window was left idle for {late:.0} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_limit_is_found_by_its_headers() {
    two_windows(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_clock_is_ahead_is_understood() {
    two_windows(HOUR_MS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_clock_is_behind_is_understood() {
    two_windows(-HOUR_MS).await;
}
