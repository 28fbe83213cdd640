//! Work that comes after idleness.

use super::super::world::World;
use super::{fifty_in_any_second, reads};

#[tokio::test(flavor = "multi_thread")]
async fn bursts_after_idleness_go_at_once_and_break_nothing() {
    let settings = [
        ("WEIR_SERVICE_GITHUB_LIMIT", "50 per second, burst 20"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
    ];
    let mut world = World::new(fifty_in_any_second(), &settings).await;
    world.publish("github", reads(1)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.served(1).await;
    let mut quickest = 0;
    for round in 1..=4 {
        let from = world.now_ms() + 1_500.0;
        world.reached(from).await;
        world.publish("github", reads(100)).await;
        world.served(1 + 100 * round).await;
        world.no_breach();
        let calls = world.calls(from, from + 20_000.0);
        let quick = calls
            .iter()
            .filter(|call| call.at_ms < calls[0].at_ms + 250.0)
            .count();
        println!(
            "{quick} calls in the first quarter of a second: {}",
            world.course()
        );
        quickest = quickest.max(quick);
    }
    // At the limit's pace there would be 12. A busy machine can spoil a round, not all of them.
    assert!(quickest >= 20, "{quickest}: {}", world.course());
}
