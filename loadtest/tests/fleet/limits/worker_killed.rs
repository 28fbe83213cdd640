//! A worker dies with calls booked.

use super::super::world::World;
use super::{FIFTY, fifty_in_any_second, reads};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_with_tickets_in_hand_costs_the_others_nothing() {
    let mut world = World::new(fifty_in_any_second(), &FIFTY).await;
    world.publish("github", reads(1_000)).await;
    let mut workers = world.fleet.start_many("worker", 3, &[]).await.unwrap();
    world.served(200).await;
    workers[0].kill().await.unwrap();
    // What it had booked is lost, at most a tenth of a second's.
    let from = world.now_ms() + 500.0;
    world.reached(from + 6_000.0).await;
    let calls = world.calls(from, from + 6_000.0).len();
    println!("{calls} of 300 calls after the end of one");
    world.no_breach();
    assert!(calls >= 270, "{calls} of 300");
}
