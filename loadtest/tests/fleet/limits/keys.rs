//! Many keys under one service: each waits for itself.

use loadtest::provider::{ProviderConfig, Window};
use redis::aio::ConnectionManager;
use serde_json::json;
use shared::connect;
use shared::event::{Data, Event, EventId};

use super::super::world::{World, until};

/// A provider that limits channels only.
fn one_a_second_and_channel() -> ProviderConfig {
    let mut limits = ProviderConfig::default();
    limits.slack.method = Window::per_second(100_000);
    limits
}

const CHANNELS_ONLY: [(&str, &str); 2] = [
    ("WEIR_SERVICE_SLACK_LIMIT", "none"),
    (
        "WEIR_SERVICE_SLACK_LIMITS",
        "channel: 1 per second; method:chat.postMessage: 100_000 per second, burst 10_000",
    ),
];

fn post(id: &str, channel: &str) -> Event {
    let data = json!({"method": "chat.postMessage", "args": {"channel": channel, "text": "x"}});
    Event {
        data: Data::json(data.to_string()),
        ..Event::new(EventId::new(id).unwrap(), "call")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_keys_at_once_are_no_trouble() {
    let settings = [&CHANNELS_ONLY[..], &[("WEIR_SERVICE_SLACK_CONCURRENCY", "200")]].concat();
    let mut world = World::new(one_a_second_and_channel(), &settings).await;
    let events = (0..10_000).map(|n| post(&format!("event-{n}"), &format!("C{n:09}")));
    world.publish("slack", events).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.done(10_000).await;
    let stats = world.provider.stats();
    let took = stats.last_call_ms.unwrap() - stats.first_call_ms.unwrap();
    println!("10,000 keys in {:.1} s", took / 1e3);
    world.no_breach();
    let redis: ConnectionManager = connect::redis(&world.fleet.servers.redis.url()).unwrap();
    until("idle keys gone", async || {
        let keys: u64 = redis::cmd("DBSIZE")
            .query_async(&mut redis.clone())
            .await
            .unwrap();
        (keys < 10).then_some(())
    })
    .await;
}

/// Sends fifty events to as many channels, spread over five seconds, and gives the median time in milliseconds until
/// the provider had the call.
async fn median_of_free_keys(world: &World, name: &str) -> f64 {
    const EVERY: f64 = 100.0;
    let begun = world.now_ms();
    let mut sent = Vec::new();
    for n in 0..50 {
        world.reached(begun + f64::from(n) * EVERY).await;
        let id = format!("{name}-{n}");
        sent.push((world.now_ms(), id.clone()));
        world.publish("slack", [post(&id, &format!("C{name}{n}"))]).await;
    }
    let mut took = Vec::new();
    for (at, id) in sent {
        let call = until(&id, async || world.provider.calls(Some(&id), 1).pop()).await;
        took.push(call.at_ms - at);
    }
    took.sort_by(f64::total_cmp);
    println!("{name}: median {:.0} ms, longest {:.0} ms", took[25], took[49]);
    took[25]
}

async fn beside_an_exhausted_key(settings: &[(&str, &str)]) {
    /// Whose calls take as many seconds.
    const BACKLOG: u32 = 2_000;
    let mut world = World::new(one_a_second_and_channel(), settings).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    median_of_free_keys(&world, "alone").await;
    let events = (0..BACKLOG).map(|n| post(&format!("full-{n}"), "CFULL"));
    world.publish("slack", events).await;
    let beside = median_of_free_keys(&world, "beside").await;
    // The last of these came behind the backlog, which therefore is where it has to wait.
    let (from, to) = (world.now_ms(), world.now_ms() + 8_000.0);
    world.reached(to).await;
    let mut served = world.calls(from, to);
    served.retain(|call| call.event_id.as_ref().is_some_and(|id| id.starts_with("full-")));
    println!("the full key: {} calls in 8 s", served.len());
    world.no_breach();
    // On a machine with other work it takes seconds to put the backlog aside.
    let waited_for = f64::from(BACKLOG) * 1e3;
    assert!(beside < waited_for / 100.0, "{beside} ms");
    assert!(served.len() >= 5, "{} calls in 8 s", served.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_exhausted_keeps_no_other_waiting() {
    beside_an_exhausted_key(&CHANNELS_ONLY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_use_up_what_all_keys_share() {
    let settings = [
        ("WEIR_SERVICE_SLACK_LIMIT", "100 per second, burst 20"),
        CHANNELS_ONLY[1],
    ];
    beside_an_exhausted_key(&settings).await;
}

/// Nothing is asked for all calls of such a service: that Redis is back has to be found out all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_limits_of_single_keys_only_goes_on_when_redis_is_back() {
    let mut world = World::new(one_a_second_and_channel(), &CHANNELS_ONLY).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    world.publish("slack", [post("before", "C1")]).await;
    world.done(1).await;
    world.fleet.servers.redis.kill().await.unwrap();
    world.publish("slack", [post("while-away", "C2")]).await;
    let gone = world.now_ms();
    world.reached(gone + 1_500.0).await;
    assert_eq!(world.provider.stats().total.accepted, 1, "no call without Redis");
    world.fleet.servers.redis.restart().await.unwrap();
    world.done(2).await;
    world.no_breach();
}
