//! What workers keep of what events have read, through real workers: a provider that counts sees who asks.

use std::collections::BTreeMap;
use std::time::Duration;

use loadtest::provider::{Call, Faults, ProviderConfig};
use serde_json::{Value, json};
use shared::event::{Data, Event, EventId, Tenant};

use super::world::{World, until};

/// What is read.
const ISSUE: &str = "/repos/octo/cat/issues/7";
/// A worker that hits its failpoint ends within this.
const DIES_WITHIN: Duration = Duration::from_secs(30);

async fn world(settings: &[(&str, &str)]) -> World {
    let own = [
        ("WEIR_SERVICES", "github,slack,http,drive"),
        ("WEIR_SERVICE_DRIVE_TOKEN", "ya29.test"),
        ("WEIR_SERVICE_GITHUB_RETRIES", "1s, 1s, 1s, 1s"),
    ];
    let mut world = World::new(ProviderConfig::default(), &[&own[..], settings].concat()).await;
    let url = world.provider.url();
    world.fleet.settings.insert("WEIR_SERVICE_DRIVE_URL".into(), url);
    world
}

fn event(kind: &str, data: &Value) -> Event {
    Event {
        data: Data::json(data.to_string()),
        ..Event::new(EventId::generate(), kind)
    }
}

/// So many events that read the same, as it was a minute ago at most.
fn reads(count: usize) -> Vec<Event> {
    let read = || event("call", &json!({"path": ISSUE, "max_age": 60}));
    std::iter::repeat_with(read).take(count).collect()
}

fn made(world: &World) -> Vec<Call> {
    world.provider.calls(None, usize::MAX)
}

/// Has events done, and counts the calls that they took.
async fn calls_for(world: &World, service: &str, events: Vec<Event>) -> usize {
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    let before = made(world).len();
    world.publish(service, events).await;
    for id in ids {
        assert_eq!(world.result(id.as_str()).await.state, "done");
    }
    made(world).len() - before
}

/// The codes of what is done, and how many there are of each.
async fn codes(world: &World) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT code, count(*) FROM results GROUP BY code")
        .fetch_all(&world.database)
        .await
        .unwrap();
    rows.into_iter().collect()
}

/// Reads until nobody uses what was kept, which the fleet hears of within milliseconds; then once more.
async fn asks_anew(world: &World, service: &str, read: impl Fn() -> Event) {
    until("a call for what was kept", async || {
        let calls = calls_for(world, service, vec![read()]).await;
        (calls == 1).then_some(())
    })
    .await;
    assert_eq!(
        calls_for(world, service, vec![read()]).await,
        0,
        "what was fetched since then is good"
    );
}

async fn weir(world: &World, args: &[&str]) {
    let weir = loadtest::fleet::binary("weir").unwrap();
    let said = tokio::process::Command::new(weir)
        .args(args)
        .envs(&world.fleet.settings)
        .output()
        .await
        .unwrap();
    assert!(
        said.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&said.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_events_that_read_the_same_make_one_call() {
    let mut world = world(&[]).await;
    let _first = world.fleet.start("worker").await.unwrap();
    assert_eq!(calls_for(&world, "github", reads(50)).await, 1);
    let expected = BTreeMap::from([("cached".to_owned(), 49), ("http_200".to_owned(), 1)]);
    assert_eq!(codes(&world).await, expected);
    let results: Vec<String> = sqlx::query_scalar("SELECT DISTINCT result::text FROM results")
        .fetch_all(&world.database)
        .await
        .unwrap();
    assert_eq!(results.len(), 1, "one answer for all: {results:?}");
    // Another worker has not asked, and need not.
    let _second = world.fleet.start("worker").await.unwrap();
    assert_eq!(calls_for(&world, "github", reads(50)).await, 0);
    // Another tenant is given nothing of it.
    let tenant = |mut event: Event| {
        event.tenant = Some(Tenant::new("acme").unwrap());
        event
    };
    let theirs = reads(1).into_iter().map(tenant).collect();
    assert_eq!(calls_for(&world, "github", theirs).await, 1);
    // Who wants it fresh asks by its tag.
    let fresh = event("call", &json!({"path": ISSUE}));
    let id = fresh.id.clone();
    assert_eq!(calls_for(&world, "github", vec![fresh]).await, 1);
    assert_eq!(world.result(id.as_str()).await.code, "http_304");
    world.no_breach();
}

/// What makes no call takes nothing of a limit, and leaves its ticket to the next at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_nobody_needed_serves_the_next() {
    let mut world = world(&[
        ("WEIR_LIMITS_START", "full"),
        ("WEIR_SERVICE_GITHUB_LIMIT", "2 per hour, burst 2"),
    ])
    .await;
    let _worker = world.fleet.start("worker").await.unwrap();
    assert_eq!(calls_for(&world, "github", reads(40)).await, 1);
    let other = event("call", &json!({"path": "/repos/octo/cat/issues/8"}));
    assert_eq!(
        calls_for(&world, "github", vec![other]).await,
        1,
        "the second call of the hour"
    );
    world.no_breach();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_asked_for_together_are_kept_one_by_one() {
    let mut world = world(&[]).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    let file = |n: usize| event("file.get", &json!({"id": format!("changed-{n}"), "max_age": 600}));
    let first: Vec<_> = (0..40).map(|n| file(n % 20)).collect();
    calls_for(&world, "drive", first).await;
    let asked = codes(&world).await;
    assert_eq!(asked["http_200"], 20, "{asked:?}");
    assert_eq!(calls_for(&world, "drive", (0..20).map(file).collect()).await, 0);
    // A feed of changes names them all: what was kept is not used any more.
    let feed = event("changes", &json!({"page_token": "0"}));
    calls_for(&world, "drive", vec![feed]).await;
    asks_anew(&world, "drive", || file(3)).await;
    let codes = codes(&world).await;
    assert_eq!(
        codes.get("http_304"),
        None,
        "read anew, not asked whether it holds: {codes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_drop_is_asked_for_again() {
    let mut world = world(&[("WEIR_SERVICE_GITHUB_CACHE", "1h")]).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    let read = || event("call", &json!({"path": ISSUE}));
    assert_eq!(calls_for(&world, "github", vec![read()]).await, 1);
    assert_eq!(calls_for(&world, "github", vec![read()]).await, 0);
    for what in [
        ["--tag", "repo:octo/cat"],
        ["--pattern", "github::*/issues/?"],
        ["--pattern", "github:*"],
    ] {
        weir(&world, &["cache", "drop", what[0], what[1]]).await;
        asks_anew(&world, "github", read).await;
    }
    let name: String = until("the key's name", async || {
        sqlx::query_scalar("SELECT name FROM access_keys")
            .fetch_optional(&world.database)
            .await
            .unwrap()
    })
    .await;
    weir(&world, &["cache", "drop", "--key", &name]).await;
    asks_anew(&world, "github", read).await;
    weir(&world, &["cache", "drop", "--tag", "repo:octo/dog"]).await;
    assert_eq!(calls_for(&world, "github", vec![read()]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_never_answered_with_what_is_older() {
    let mut world = world(&[("WEIR_SERVICE_GITHUB_CACHE", "1h")]).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    let read = || event("call", &json!({"path": ISSUE}));
    assert_eq!(calls_for(&world, "github", vec![read()]).await, 1);
    let url = format!("https://api.github.com{ISSUE}");
    let webhook = || event("issues.edited", &json!({"issue": {"url": url}}));
    for _ in 0..3 {
        assert_eq!(calls_for(&world, "github", vec![webhook()]).await, 1);
    }
    // What it has read is good for others.
    assert_eq!(calls_for(&world, "github", vec![read()]).await, 0);
    let codes = codes(&world).await;
    assert_eq!((codes["http_304"], codes["cached"]), (3, 1), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_is_not_the_failure_of_those_who_wait() {
    let mut world = world(&[("WEIR_SERVICE_GITHUB_BREAKER", "off")]).await;
    let failing = Faults {
        errors: 1.0,
        latency_p50_ms: 500.0,
        ..Faults::default()
    };
    world.provider.set_faults(failing).unwrap();
    world.publish("github", reads(20)).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    until("a call that failed", async || {
        (world.provider.stats().total.failed >= 1).then_some(())
    })
    .await;
    world.provider.set_faults(Faults::default()).unwrap();
    world.done(20).await;
    let total = world.provider.stats().total;
    println!("{total:?}, {:?}", codes(&world).await);
    assert_eq!(total.accepted, 1, "{total:?}");
    assert!(total.failed < 5, "not each for itself: {total:?}");
    assert_eq!(world.left("WEIR_DEAD").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_takes_nobody_with_it() {
    let mut world = world(&[]).await;
    world.publish("github", reads(20)).await;
    let mut worker = world
        .fleet
        .launch("worker", &[("WEIR_FAILPOINT", "worker.called")])
        .unwrap();
    assert_eq!(
        worker.ended(DIES_WITHIN).await.unwrap(),
        None,
        "it ends by a signal"
    );
    let _worker = world.fleet.start("worker").await.unwrap();
    world.done(20).await;
    world.emptied("WEIR_github").await;
    let codes = codes(&world).await;
    assert_eq!(made(&world).len(), 1, "what it had read was kept: {codes:?}");
    assert_eq!(codes["cached"], 20, "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_calls_are_made_and_nothing_fails() {
    let settings = [("WEIR_SERVICE_GITHUB_REDIS_AWAY", "share")];
    let mut world = world(&settings).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    assert_eq!(calls_for(&world, "github", reads(5)).await, 1);
    world.fleet.servers.redis.kill().await.unwrap();
    assert_eq!(calls_for(&world, "github", reads(5)).await, 0, "memory has it");
    let other = |n: usize| event("call", &json!({"path": format!("/users/u{n}"), "max_age": 60}));
    assert_eq!(calls_for(&world, "github", (0..5).map(other).collect()).await, 5);
    assert_eq!(world.left("WEIR_DEAD").await, 0);
}
