//! What rules emit: once for each event, whoever dies between its call and its ack.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use loadtest::provider::ledger::Api;
use loadtest::provider::{Call, ProviderConfig};
use loadtest::traces::TraceReceiver;
use serde_json::json;
use shared::dead_letter::DeadLetter;
use shared::event::{Data, Event, EventId};
use shared::subject::{header, headers};
use shared::wire;

use super::world::{World, until};

/// A worker that hits its failpoint ends within this.
const DIES_WITHIN: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Two events on each call.
const TELL: &str = r#"
[[rule]]
name = "tell"
on = { service = "github", types = ["call"] }
each = "[1, 2]"
[rule.emit]
service = "http"
type = "told"
key = "{{ event.id }}"
data = { number = "{{ item }}", code = "{{ code }}" }
"#;

async fn world(rules: &str, settings: &[(&str, &str)]) -> World {
    let own = [
        ("WEIR_RULES", rules),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
        // One at a time, so that a worker dies with one in hand.
        ("WEIR_SERVICE_GITHUB_CONCURRENCY", "1"),
        ("WEIR_SERVICE_HTTP_LIMIT", "none"),
    ];
    World::new(ProviderConfig::default(), &[&own[..], settings].concat()).await
}

fn event(id: &str) -> Event {
    Event {
        data: Data::json(json!({"path": "/user"}).to_string()),
        ..Event::new(EventId::new(id).unwrap(), "call")
    }
}

fn parents(count: usize) -> Vec<Event> {
    (0..count).map(|n| event(&format!("parent-{n}"))).collect()
}

/// A worker for this service alone, so that no other call is under way when it dies.
async fn killed_at(world: &mut World, failpoint: &str) {
    let settings = [("WEIR_FAILPOINT", failpoint), ("WEIR_WORKER_SERVICES", "github")];
    let mut worker = world.fleet.launch("worker", &settings).unwrap();
    let ended = worker.ended(DIES_WITHIN).await.unwrap();
    assert_eq!(ended, None, "{failpoint}: it ends by a signal");
}

fn calls(world: &World, api: Api) -> Vec<Call> {
    let mut calls = world.provider.calls(None, usize::MAX);
    calls.retain(|call| call.api == api);
    calls
}

/// How often each event was delivered.
fn delivered(world: &World) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for call in calls(world, Api::Http) {
        *times.entry(call.event_id.unwrap_or_default()).or_default() += 1;
    }
    times
}

async fn owed(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM follow_ups")
        .fetch_one(&world.database)
        .await
        .unwrap()
}

/// Each event that follows is delivered once, and nothing is left anywhere.
async fn followed(world: &World, parents: usize) {
    world.done(3 * parents as i64).await;
    for stream in ["WEIR_github", "WEIR_http", "WEIR_RETRY"] {
        world.emptied(stream).await;
    }
    let times = delivered(world);
    assert_eq!(times.len(), 2 * parents, "{times:#?}");
    assert!(times.values().all(|times| *times == 1), "{times:#?}");
    assert!(times.keys().all(|id| id.starts_with("tell:")), "{times:#?}");
    assert_eq!(owed(world).await, 0);
    assert_eq!(world.left("WEIR_DEAD").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_between_the_commit_and_the_ack_each_event_follows_once() {
    let mut world = world(TELL, &[]).await;
    world.publish("github", parents(12)).await;
    for failpoint in [
        "rules.owed",
        "rules.owed:2",
        "rules.published",
        "rules.published:4",
        "worker.recorded",
        "worker.acked",
    ] {
        killed_at(&mut world, failpoint).await;
    }
    let _worker = world.fleet.start("worker").await.unwrap();
    followed(&world, 12).await;
    assert_eq!(calls(&world, Api::Github).len(), 12, "no call was made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_worker_died_before_the_commit_is_made_again_and_followed_once() {
    let mut world = world(TELL, &[]).await;
    world.publish("github", parents(2)).await;
    killed_at(&mut world, "worker.called").await;
    let _worker = world.fleet.start("worker").await.unwrap();
    followed(&world, 2).await;
    assert_eq!(calls(&world, Api::Github).len(), 3);
}

/// The event that owes is purged, and what it owes is published all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_purged_event_owes_is_found_by_its_age() {
    let mut world = world(TELL, &[]).await;
    world.publish("github", parents(1)).await;
    killed_at(&mut world, "rules.published").await;
    assert_eq!(owed(&world).await, 2);
    let stream = world.js.get_stream("WEIR_github").await.unwrap();
    stream.purge().await.unwrap();
    let _worker = world.fleet.start("worker").await.unwrap();
    until("nothing is owed", async || {
        (owed(&world).await == 0).then_some(())
    })
    .await;
    followed(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_holds_up_the_events_that_others_would_follow_from() {
    let mut world = world(TELL, &[("WEIR_STREAM_MAX_MESSAGES", "3")]).await;
    world.publish("github", parents(4)).await;
    let github = [("WEIR_WORKER_SERVICES", "github")];
    let _github = world.fleet.start_many("worker", 1, &github).await.unwrap();
    until("a full stream and all calls", async || {
        let full = world.left("WEIR_http").await == 3 && calls(&world, Api::Github).len() == 4;
        (full && owed(&world).await > 0).then_some(())
    })
    .await;
    let http = [("WEIR_WORKER_SERVICES", "http")];
    let _http = world.fleet.start_many("worker", 1, &http).await.unwrap();
    followed(&world, 4).await;
    assert_eq!(calls(&world, Api::Github).len(), 4, "no call was made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_they_are_published_before_the_ack() {
    let mut world = world(TELL, &[("WEIR_POSTGRES_URL", "none")]).await;
    world.publish("github", parents(3)).await;
    killed_at(&mut world, "rules.published").await;
    let _worker = world.fleet.start("worker").await.unwrap();
    until("six deliveries", async || {
        (delivered(&world).len() == 6).then_some(())
    })
    .await;
    for stream in ["WEIR_github", "WEIR_http"] {
        world.emptied(stream).await;
    }
    assert!(delivered(&world).values().all(|times| *times == 1));
    assert_eq!(
        calls(&world, Api::Github).len(),
        4,
        "the call of the one that died is made again"
    );
}

/// A rule that fails buries the decision and not the event; its replay asks the rule again and makes no call.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_fails_makes_a_letter_whose_replay_calls_nobody() {
    let broken = TELL.replace("{{ code }}", "{{ result.absent.deeper }}");
    let mut world = world(&broken, &[]).await;
    world.publish("github", parents(1)).await;
    killed_at(&mut world, "rules.owed").await;
    let mut worker = world.fleet.start("worker").await.unwrap();
    let row = world.result("parent-0").await;
    assert_eq!((row.state.as_str(), row.code.as_str()), ("done", "http_200"));
    world.emptied("WEIR_github").await;
    assert_eq!(world.left("WEIR_DEAD").await, 1);
    let letters = world.js.get_stream("WEIR_DEAD").await.unwrap();
    let letter = DeadLetter::read(&letters.get_raw_message(1).await.unwrap()).unwrap();
    assert_eq!((letter.code.as_str(), letter.id.as_str()), ("rule", "parent-0"));
    assert_eq!(
        letter.reason,
        "rule tell on event parent-0: emit.data.code of item 0: undefined value: `result.absent` is undefined"
    );
    assert_eq!(letter.payload, wire::encode(&parents(1)[0]), "bytes intact");
    // Replayed too early it fails again, without a call.
    letter.replay(&world.js).await.unwrap();
    until("another letter", async || {
        (world.left("WEIR_DEAD").await == 2).then_some(())
    })
    .await;
    world.emptied("WEIR_github").await;
    worker.stop(DIES_WITHIN).await.unwrap();
    let mended = [("WEIR_RULES", TELL)];
    let _worker = world.fleet.start_many("worker", 1, &mended).await.unwrap();
    let letter = DeadLetter::read(&letters.get_raw_message(2).await.unwrap()).unwrap();
    letter.replay(&world.js).await.unwrap();
    world.done(3).await;
    world.emptied("WEIR_github").await;
    assert_eq!(delivered(&world).len(), 2);
    let told: Vec<String> = sqlx::query_scalar("SELECT code FROM results WHERE service = 'github'")
        .fetch_all(&world.database)
        .await
        .unwrap();
    assert_eq!(told, ["http_200"], "the end that was recorded");
    assert_eq!(calls(&world, Api::Github).len(), 1, "one call in all");
    assert_eq!(owed(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_after_so_many_hops_and_tells_its_rules() {
    let rules = r#"
[[rule]]
name = "ping"
on = { service = "http", types = ["ping"] }
when = "data.go"
emit = { service = "http", type = "pong", data = "{{ data }}" }
[[rule]]
name = "pong"
on = { service = "http", types = ["pong"] }
when = "data.go"
emit = { service = "http", type = "ping", data = "{{ data }}" }
"#;
    let mut world = world(rules, &[("WEIR_RULES_HOPS", "5")]).await;
    let first = Event {
        data: Data::json(json!({"go": true}).to_string()),
        ..Event::new(EventId::generate(), "ping")
    };
    world.publish("http", [first]).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    until("a letter", async || {
        (world.left("WEIR_DEAD").await == 1).then_some(())
    })
    .await;
    let letters = world.js.get_stream("WEIR_DEAD").await.unwrap();
    let letter = DeadLetter::read(&letters.get_raw_message(1).await.unwrap()).unwrap();
    assert_eq!(letter.code, "rule_loop");
    let says = "6 rules after each other, and at most 5 may be: ping,pong,ping,pong,ping,pong";
    assert!(
        letter.reason.starts_with("rule pong on event ") && letter.reason.ends_with(says),
        "{}",
        letter.reason
    );
    world.emptied("WEIR_http").await;
    assert_eq!(delivered(&world).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_follows_tells_from_what_and_stays_in_its_trace() {
    let traces = TraceReceiver::start_local().await.unwrap();
    let endpoint = traces.http_url();
    let mut world = world(TELL, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    world.publish("github", []).await;
    let mut map = HeaderMap::new();
    map.insert(headers::TRACEPARENT, format!("00-{TRACE}-b7ad6b7169203331-01"));
    let sent = world
        .js
        .publish_with_headers("events.github", map, wire::encode(&event("parent")));
    sent.await.unwrap().await.unwrap();
    let github = [("WEIR_WORKER_SERVICES", "github")];
    let mut worker = world.fleet.start_many("worker", 1, &github).await.unwrap();
    until("two events", async || {
        (world.left("WEIR_http").await == 2).then_some(())
    })
    .await;
    world.emptied("WEIR_github").await;
    let stream = world.js.get_stream("WEIR_http").await.unwrap();
    let message: StreamMessage = stream.get_raw_message(1).await.unwrap();
    let of = |name| header(Some(&message.headers), name).unwrap_or_default();
    assert_eq!(of(headers::PARENT), "github/parent");
    assert_eq!(of(headers::CHAIN), "tell");
    assert!(
        of(headers::MESSAGE_ID).starts_with("tell:"),
        "{}",
        of(headers::MESSAGE_ID)
    );
    assert!(
        of(headers::TRACEPARENT).contains(TRACE),
        "{}",
        of(headers::TRACEPARENT)
    );
    for worker in &mut worker {
        assert_eq!(worker.stop(DIES_WITHIN).await.unwrap(), Some(0));
    }
    // Process, call, commit, and a send for each.
    let spans = traces.wait_for(TRACE, 5, Duration::from_secs(20)).await.unwrap();
    let process = spans
        .iter()
        .find(|span| span.name == "process events.github")
        .unwrap();
    let sends: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "send events.http")
        .collect();
    assert_eq!(sends.len(), 2, "{spans:#?}");
    assert!(
        sends
            .iter()
            .all(|send| send.parent_id.as_ref() == Some(&process.span_id))
    );
    assert!(
        sends
            .iter()
            .any(|send| of(headers::TRACEPARENT).contains(&send.span_id))
    );
}

/// The figure of a metric without labels.
async fn figure(url: &str, name: &str) -> Option<u64> {
    let text = reqwest::get(format!("{url}/metrics"))
        .await
        .ok()?
        .text()
        .await
        .ok()?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A file that a link leads to and that is swapped for another, as Kubernetes does it.
#[tokio::test(flavor = "multi_thread")]
async fn changed_rules_are_in_force_and_broken_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("rules.toml");
    let put = |version: &str, text: &str| {
        let (file, new) = (folder.path().join(version), folder.path().join("new"));
        std::fs::write(&file, text).unwrap();
        std::os::unix::fs::symlink(&file, &new).unwrap();
        std::fs::rename(&new, &link).unwrap();
    };
    put("1", &TELL.replace("tell", "first"));
    let settings = [
        ("WEIR_RULES_FILE", link.to_str().unwrap()),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
    ];
    let mut world = World::new(ProviderConfig::default(), &settings).await;
    let worker = world.fleet.start("worker").await.unwrap();
    let url = worker.url.clone();
    // The rule that follows from a call is told by the ids of what it emits.
    let followed = async |parent: &str, rule: &str| {
        let before = calls(&world, Api::Http).len();
        world.publish("github", [event(parent)]).await;
        until("two deliveries", async || {
            (calls(&world, Api::Http).len() == before + 2).then_some(())
        })
        .await;
        let made = calls(&world, Api::Http).split_off(before);
        let ids: Vec<String> = made.into_iter().filter_map(|call| call.event_id).collect();
        assert!(ids.iter().all(|id| id.starts_with(rule)), "{parent}: {ids:?}");
    };
    followed("before", "first:").await;
    put("2", &TELL.replace("tell", "second"));
    until("changed rules", async || {
        (figure(&url, "weir_worker_rules_changed_total").await? == 1).then_some(())
    })
    .await;
    followed("after", "second:").await;
    put("3", "[[rule]]\nname = 'broken'");
    until("refused rules", async || {
        (figure(&url, "weir_worker_rules_stale").await? == 1).then_some(())
    })
    .await;
    followed("later", "second:").await;
    put("4", &TELL.replace("tell", "second"));
    until("mended rules", async || {
        (figure(&url, "weir_worker_rules_stale").await? == 0).then_some(())
    })
    .await;
    assert_eq!(figure(&url, "weir_worker_rules_changed_total").await, Some(1));
}
