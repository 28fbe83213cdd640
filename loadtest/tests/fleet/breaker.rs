//! Upstreams that fail: who calls them how often, what becomes of the events, and who finds out that they are back.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use loadtest::fleet::Member;
use loadtest::provider::{Faults, Provider, ProviderConfig};
use serde_json::json;
use shared::breaker::{Record, State};
use shared::config::fleet::Streams;
use shared::subject::BREAKERS_BUCKET;
use shared::topology;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::world::{World, calls, until};

/// Quick for a test: an upstream is out of service for a second or two, and what fails is soon tried again.
const QUICK: [(&str, &str); 5] = [
    ("WEIR_SERVICE_HTTP_BREAKER", "50% of 10 in 10s, open 1s to 2s"),
    ("WEIR_SERVICE_HTTP_CONCURRENCY", "5"),
    ("WEIR_SERVICE_HTTP_TIMEOUT", "2s"),
    ("WEIR_SERVICE_HTTP_LIMIT", "none"),
    (
        "WEIR_SERVICE_HTTP_RETRIES",
        "300ms, 300ms, 300ms, 300ms, 300ms, 300ms, 300ms, 300ms",
    ),
];

fn failing() -> Faults {
    Faults {
        latency_p50_ms: 10.0,
        errors: 1.0,
        ..Faults::default()
    }
}

fn hanging() -> Faults {
    Faults {
        hangs: 1.0,
        ..Faults::default()
    }
}

async fn world() -> World {
    World::new(ProviderConfig::default(), &QUICK).await
}

/// Two workers that are called `a` and `b`.
async fn workers(world: &mut World, settings: &[(&str, &str)]) -> [Member; 2] {
    let mut members = Vec::new();
    for name in ["a", "b"] {
        let settings = [settings, &[("WEIR_WORKER_NAME", name)]].concat();
        members.push(world.fleet.start_with("worker", &settings).await.unwrap());
    }
    members.try_into().unwrap()
}

/// The record of the upstream at this place, if there is a good one.
async fn record(world: &World, place: u32) -> Option<Record> {
    let bucket = world.js.get_key_value(BREAKERS_BUCKET).await.ok()?;
    for key in keys(world).await {
        let record = bucket.get(key).await.ok().flatten();
        let record = record.and_then(|bytes| Record::read(&bytes).ok());
        if let Some(record) = record.filter(|record| record.place == place) {
            return Some(record);
        }
    }
    None
}

async fn keys(world: &World) -> Vec<String> {
    use futures_util::TryStreamExt;
    let Ok(bucket) = world.js.get_key_value(BREAKERS_BUCKET).await else {
        return Vec::new();
    };
    match bucket.keys().await {
        Ok(keys) => keys.try_collect().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Waits until the record of the first upstream is as wanted.
async fn recorded(world: &World, what: &str, wanted: impl Fn(&Record) -> bool) -> Record {
    until(what, async || record(world, 1).await.filter(&wanted)).await
}

async fn published(world: &World, count: usize) {
    world.publish("http", calls(count, &json!({"n": 1}))).await;
}

/// Attempts that have failed.
async fn failed(world: &World) -> u64 {
    let failed: i64 = sqlx::query_scalar("SELECT count(*) FROM failures")
        .fetch_one(&world.database)
        .await
        .unwrap();
    failed as u64
}

async fn nothing_is_dead(world: &World) {
    assert_eq!(world.left("WEIR_DEAD").await, 0, "a dead letter");
    world.emptied("WEIR_http").await;
}

async fn metrics(member: &Member) -> String {
    let answer = reqwest::get(format!("{}/metrics", member.url)).await.unwrap();
    answer.text().await.unwrap()
}

/// The figure of a metric with these labels.
fn figure(text: &str, name: &str, labels: &[&str]) -> Option<u64> {
    let mut lines = text.lines();
    let line =
        lines.find(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_stop_but_for_one_probe_at_a_time_and_events_wait_unharmed() {
    const EVENTS: usize = 300;
    let mut world = world().await;
    world.provider.set_faults(failing()).unwrap();
    published(&world, EVENTS).await;
    let workers = workers(&mut world, &[]).await;

    let opened = recorded(&world, "out of service", |record| record.openings >= 2).await;
    assert_eq!(opened.upstream, world.provider.url());
    let before = (world.provider.stats().total.failed, opened.openings);
    let opened = recorded(&world, "probed four times more", |record| {
        record.openings >= before.1 + 4
    })
    .await;
    let failed_calls = world.provider.stats().total.failed;
    println!(
        "{} calls until the first probe, {} with {} openings",
        before.0, failed_calls, opened.openings
    );
    assert!(before.0 <= 60, "calls until it was out of service: {}", before.0);
    let probes = u64::from(opened.openings - before.1);
    assert!(
        failed_calls - before.0 <= probes + 1,
        "one call an opening: {failed_calls} after {before:?}, by {} openings",
        opened.openings
    );
    let text = metrics(&workers[0]).await;
    let labels = ["service=\"http\"", world.provider.url().leak()];
    let state = figure(&text, "weir_worker_breaker_state", &labels);
    assert!(matches!(state, Some(1 | 2)), "{state:?}");

    world.provider.set_faults(Faults::default()).unwrap();
    world.done(EVENTS as i64).await;
    nothing_is_dead(&world).await;
    let failed_calls = world.provider.stats().total.failed;
    assert_eq!(
        failed(&world).await,
        failed_calls,
        "waiting has used up no attempt: each that failed is a call that failed"
    );
    assert_eq!(world.provider.stats().total.accepted, EVENTS as u64);
    recorded(&world, "in service", |record| record.state == State::Closed).await;
    for worker in &workers {
        until("one line a transition", async || {
            let text = metrics(worker).await;
            let log = std::fs::read_to_string(&worker.log).unwrap();
            let says = |words: &str| log.lines().filter(|line| line.contains(words)).count() as u64;
            let to = |to: &str| {
                let to = format!("to=\"{to}\"");
                figure(
                    &text,
                    "weir_worker_breaker_transitions",
                    &[labels[0], labels[1], &to],
                )
            };
            let same = to("open") == Some(says("an upstream is out of service"))
                && to("half_open") == Some(says("probes an upstream"))
                && to("closed") == Some(says("is back in service"));
            let state = figure(&text, "weir_worker_breaker_state", &labels);
            (same && state == Some(0) && to("closed") > Some(0)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_whose_worker_is_killed_is_made_by_another() {
    let mut world = world().await;
    world.provider.set_faults(failing()).unwrap();
    published(&world, 60).await;
    let mut workers = workers(&mut world, &[]).await;
    recorded(&world, "out of service", |record| record.openings >= 1).await;
    world.provider.set_faults(hanging()).unwrap();
    let probing = |record: &Record| record.state == State::HalfOpen;
    let claim = recorded(&world, "a probe that hangs", probing).await;
    until("the call of the probe", async || {
        let calls = world.provider.calls(None, 1);
        calls.last().is_some_and(|call| call.status == 0).then_some(())
    })
    .await;
    let (dead, heir) = if claim.by == "a" { (0, "b") } else { (1, "a") };
    workers[dead].kill().await.unwrap();
    world.provider.set_faults(Faults::default()).unwrap();
    let closed = recorded(&world, "in service", |record| record.state == State::Closed).await;
    assert_eq!(closed.by, heir);
    world.done(60).await;
    nothing_is_dead(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_to_the_next_upstream_and_back_to_the_first_when_it_is_well() {
    let mut world = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = Provider::start(ProviderConfig::default(), listener).unwrap();
    let urls = format!("{}/hooks/a, {}/hooks/b", world.provider.url(), second.url());
    world.provider.set_faults(failing()).unwrap();
    published(&world, 400).await;
    let _workers = workers(&mut world, &[("WEIR_SERVICE_HTTP_URL", &urls)]).await;
    world.done(400).await;
    nothing_is_dead(&world).await;
    assert_eq!(second.stats().total.accepted, 400);
    let at_first = world.provider.stats().total.failed;
    assert!(at_first < 80, "{at_first} calls to an upstream that answers 500");
    assert_eq!(
        failed(&world).await,
        at_first,
        "no attempt makes a call here and then there"
    );
    let out = recorded(&world, "the first out of service", |record| {
        record.state != State::Closed
    })
    .await;
    assert_eq!((out.place, out.of), (1, 2));
    assert_eq!(record(&world, 2).await, None, "the second has never failed");

    world.provider.set_faults(Faults::default()).unwrap();
    let sent = AtomicI64::new(400);
    let more = async |count: usize| {
        published(&world, count).await;
        let sent = sent.fetch_add(count as i64, Ordering::Relaxed) + count as i64;
        world.done(sent).await;
    };
    until("the first is called again", async || {
        more(5).await;
        let record = record(&world, 1).await?;
        (record.state == State::Closed).then_some(())
    })
    .await;
    // Both workers know; each new event goes to the first.
    until("all to the first", async || {
        let before = second.stats().total.accepted;
        more(20).await;
        (second.stats().total.accepted == before).then_some(())
    })
    .await;
    nothing_is_dead(&world).await;
}

/// An upstream that hangs, lies or cuts its answer, in turn; and how many connections it has had.
async fn liar() -> (String, watch::Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/lies", listener.local_addr().unwrap());
    let (count, connections) = watch::channel(0_u64);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.send_modify(|count| *count += 1);
            let answer: &[u8] = match *count.borrow() % 4 {
                0 => b"\xff\xfe\0 not even HTTP \r\n\r\n",
                1 => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut",
                2 => b"",
                _ => {
                    kept.push(stream);
                    continue;
                }
            };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    (url, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_and_lies_is_left_for_the_next() {
    let mut world = world().await;
    let (liar, connections) = liar().await;
    let urls = format!("{liar},{}/hooks/test", world.provider.url());
    published(&world, 300).await;
    let settings = [
        ("WEIR_SERVICE_HTTP_URL", urls.as_str()),
        ("WEIR_SERVICE_HTTP_TIMEOUT", "500ms"),
        // The first few calls of each worker take as long as that; the breaker counts them together.
        ("WEIR_SERVICE_HTTP_BREAKER", "50% of 6 in 10s, open 5s to 10s"),
    ];
    let _workers = workers(&mut world, &settings).await;
    world.done(300).await;
    nothing_is_dead(&world).await;
    let lies = *connections.borrow();
    println!("{lies} calls to the liar");
    assert!((6..100).contains(&lies), "{lies}");
    assert_eq!(
        world.provider.stats().total.accepted,
        300,
        "each once where it worked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_may_be_garbage_or_lost() {
    let mut world = world().await;
    world.provider.set_faults(failing()).unwrap();
    published(&world, 200).await;
    let mut workers = workers(&mut world, &[]).await;
    let out = |record: &Record| record.state == State::Open;
    recorded(&world, "out of service", out).await;
    let bucket = topology::breakers_bucket(&world.js, &Streams::default())
        .await
        .unwrap();
    for key in keys(&world).await {
        bucket.put(key, "\u{0}{not a record".into()).await.unwrap();
    }
    recorded(&world, "out of service again, over the garbage", out).await;
    world.js.delete_key_value(BREAKERS_BUCKET).await.unwrap();
    recorded(&world, "out of service again, in a new bucket", out).await;
    world.provider.set_faults(Faults::default()).unwrap();
    world.done(200).await;
    nothing_is_dead(&world).await;
    for worker in &mut workers {
        assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
    }
}
