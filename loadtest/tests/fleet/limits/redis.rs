//! Redis goes away and comes back, and no limit is broken over it.

use ::redis::AsyncCommands;
use ::redis::aio::ConnectionManager;
use loadtest::fault::process::signal;
use loadtest::fault::proxy::Proxy;
use shared::connect;
use shared::servers::{Redis, RedisOptions};

use super::super::world::{World, until};
use super::{FIFTY, fifty_in_any_second, reads};

/// Calls that were let go just before Redis went away have begun after so many milliseconds.
const IN_HAND: f64 = 400.0;

fn client(redis: &Redis) -> ConnectionManager {
    connect::redis(&redis.url()).unwrap()
}

async fn killed_thrice(limit: &str) {
    let settings = [
        ("WEIR_SERVICE_GITHUB_LIMIT", limit),
        FIFTY[1],
        ("WEIR_LIMITS_START", "empty"),
    ];
    let mut world = World::new(fifty_in_any_second(), &settings).await;
    world.publish("github", reads(1_500)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    for _ in 0..3 {
        world.served_more(100).await;
        world.fleet.servers.redis.kill().await.unwrap();
        world.fleet.servers.redis.restart().await.unwrap();
    }
    world.served_more(100).await;
    println!("{limit}: {}", world.course());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_lets_no_burst_through() {
    killed_thrice("50 per second, burst 5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_where_no_burst_is_allowed() {
    killed_thrice("50 per second, burst 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_begins_while_redis_stands_still() {
    let mut world = World::new(fifty_in_any_second(), &FIFTY).await;
    world.publish("github", reads(1_200)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.served(100).await;
    let redis = world.fleet.servers.redis.pid();
    signal("STOP", redis).await.unwrap();
    let stopped = world.now_ms();
    world.reached(stopped + 5_000.0).await;
    let resumed = world.now_ms();
    signal("CONT", redis).await.unwrap();
    let during = world.calls(stopped + IN_HAND, resumed);
    assert!(during.is_empty(), "{during:#?}");
    world.served_more(150).await;
    let back = world
        .calls(resumed, f64::INFINITY)
        .first()
        .map(|call| call.at_ms - resumed);
    println!("first call {back:?} ms after the pause");
}

/// Waits until both workers know that they are two: each has asked after the other had shown itself.
async fn both_known(world: &World) {
    let redis = client(&world.fleet.servers.redis);
    let shown = async || {
        let mut redis = redis.clone();
        let lists: Vec<String> = redis.keys("weir:{github:*:workers").await.unwrap();
        let shown: Vec<(String, u64)> = redis.zrange_withscores(lists.first()?, 0, -1).await.unwrap();
        (shown.len() == 2).then_some(shown)
    };
    let first = until("both workers", shown).await;
    let latest = first.iter().map(|(_, at)| *at).max();
    until("both workers again", async || {
        let again = shown().await?;
        again.iter().all(|(_, at)| Some(*at) > latest).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_share_calls_go_on_at_half_the_limit_while_redis_is_away() {
    let settings = [&FIFTY[..], &[("WEIR_SERVICE_GITHUB_REDIS_AWAY", "share")]].concat();
    let mut world = World::new(fifty_in_any_second(), &settings).await;
    world.publish("github", reads(1_500)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    both_known(&world).await;
    world.fleet.servers.redis.kill().await.unwrap();
    let gone = world.now_ms();
    world.reached(gone + 6_000.0).await;
    let back = world.now_ms();
    let during = world.calls(gone + IN_HAND, back).len() as f64;
    let seconds = (back - gone - IN_HAND) / 1e3;
    world.fleet.servers.redis.restart().await.unwrap();
    world.served_more(200).await;
    println!(
        "{during} calls in {seconds:.1} s without Redis: {}",
        world.course()
    );
    // One call more for each worker: where the time begins and ends.
    assert!(during <= 25.0 * seconds + 2.0, "{during} calls in {seconds} s");
    assert!(
        during >= 25.0 * seconds * 0.5,
        "only {during} calls in {seconds} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_over_to_a_replica_breaks_no_limit() {
    let mut world = World::new(fifty_in_any_second(), &FIFTY).await;
    let dir = tempfile::tempdir().unwrap();
    let replica = Redis::start(RedisOptions::new(dir.path())).await.unwrap();
    let master = world.fleet.servers.redis.port();
    let mut second = client(&replica);
    let _: () = ::redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(master)
        .query_async(&mut second)
        .await
        .unwrap();
    until("the replica follows", async || {
        let info: String = ::redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut second.clone())
            .await
            .unwrap();
        info.contains("master_link_status:up").then_some(())
    })
    .await;
    let proxy = Proxy::start(master).await.unwrap();
    let url = format!("redis://{}", proxy.address);
    world.fleet.settings.insert("WEIR_REDIS_URL".into(), url);
    world.publish("github", reads(1_000)).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.served(200).await;
    world.fleet.servers.redis.kill().await.unwrap();
    let _: () = ::redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .query_async(&mut second)
        .await
        .unwrap();
    proxy.turn_to(replica.port());
    world.served_more(200).await;
    println!("{}", world.course());
}
