//! Events that are too large for a message: their bodies come through the whole house, and none of them is left over.

use std::path::Path;
use std::time::Duration;

use async_nats::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use loadtest::fleet::Member;
use loadtest::provider::ProviderConfig;
use loadtest::provider::faults::Faults;
use reqwest::StatusCode;
use serde_json::json;
use shared::claim::{self, Name};
use shared::dead_letter::DeadLetter;
use shared::event::{Data, Event, EventId};
use shared::subject::{Service, headers};
use shared::{stored, wire};
use tokio::process::Command;

use super::world::{World, issue_opened, until};

const BUCKET: &str = "OBJ_weir_bodies";
const FIVE_MB: usize = 5_000_000;

async fn world(settings: &[(&str, &str)]) -> World {
    let own = [
        ("WEIR_SERVICE_GITHUB_BREAKER", "off"),
        ("WEIR_SERVICE_GITHUB_RETRIES", "200ms, 200ms"),
        ("WEIR_SERVICE_HTTP_BREAKER", "off"),
        ("WEIR_SERVICE_HTTP_RETRIES", "200ms"),
    ];
    World::new(ProviderConfig::default(), &[&own[..], settings].concat()).await
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    });
    words.flat_map(u32::to_be_bytes).take(bytes).collect()
}

/// A real webhook, made large by a field of noise.
fn webhook(bytes: usize) -> Vec<u8> {
    let mut body: serde_json::Value = serde_json::from_slice(issue_opened()).unwrap();
    body["noise"] = BASE64_STANDARD.encode(noise(bytes / 4 * 3)).into();
    body.to_string().into_bytes()
}

fn large(id: &str) -> Event {
    let data = Data::Blob {
        content_type: "application/octet-stream".into(),
        bytes: noise(2_000_000).into(),
    };
    Event {
        data,
        ..Event::new(EventId::new(id).unwrap(), "t")
    }
}

/// Puts an event's body where it belongs.
async fn put(world: &World, event: &Event) -> Name {
    let name = Name::fresh(&Service::new("http").unwrap(), &event.id);
    claim::put(&world.js, &name, &wire::encode(event), 1 << 20)
        .await
        .unwrap();
    name
}

async fn refer(world: &World, subject: &str, id: &str, reference: &str, payload: &'static [u8]) {
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, id);
    map.insert(headers::CLAIM, reference);
    let ack = world
        .js
        .publish_with_headers(subject.to_owned(), map, Bytes::from_static(payload))
        .await;
    ack.unwrap().await.unwrap();
}

async fn letters(world: &World, count: usize) -> Vec<DeadLetter> {
    until(&format!("{count} dead letters"), async || {
        let stream = world.js.get_stream("WEIR_DEAD").await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut letters = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            if let Ok(message) = stream.direct_get(sequence).await {
                letters.extend(DeadLetter::read(&message));
            }
        }
        (letters.len() >= count).then_some(letters)
    })
    .await
}

async fn stopped(mut worker: Member) {
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_five_megabytes_sent_twice_and_retried_once_is_done_once_and_leaves_nothing() {
    let mut world = world(&[]).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let body = webhook(FIVE_MB);
    // Kept, and known to be kept.
    for status in [StatusCode::ACCEPTED, StatusCode::OK] {
        assert_eq!(world.webhook(&ingest, "large-1", &body).await.status(), status);
    }
    assert_eq!(world.left("WEIR_github").await, 1);
    let errors = Faults {
        errors: 1.0,
        ..Faults::default()
    };
    world.provider.set_faults(errors).unwrap();
    let worker = world.fleet.start("worker").await.unwrap();
    until("a call that failed", async || {
        (world.provider.stats().total.calls >= 1).then_some(())
    })
    .await;
    world.provider.set_faults(Faults::default()).unwrap();
    let row = until("done", async || {
        Some(world.result("github:large-1").await).filter(|row| row.state == "done")
    })
    .await;
    assert!(row.attempts >= 2, "{row:?}");
    world.emptied("WEIR_github").await;
    world.emptied("WEIR_RETRY").await;
    world.emptied(BUCKET).await;
    assert_eq!(world.left("WEIR_DEAD").await, 0);
    let calls = world.provider.calls(Some("github:large-1"), 10);
    assert_eq!(
        calls.len() as i32,
        row.attempts,
        "the second delivery made no call"
    );
    stopped(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_keeps_its_body_until_its_replay_is_done() {
    let mut world = world(&[]).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let worker = world.fleet.start("worker").await.unwrap();
    let errors = Faults {
        errors: 1.0,
        ..Faults::default()
    };
    world.provider.set_faults(errors).unwrap();
    let event = json!({"v": 1, "type": "t", "id": "large", "data": BASE64_STANDARD.encode(noise(2_000_000))});
    world.event(&ingest, "http", &event).await;
    let letter = letters(&world, 1).await.remove(0);
    assert_eq!((letter.code.as_str(), letter.attempts), ("http_500", 2));
    assert!(letter.payload.is_empty());
    world.emptied("WEIR_http").await;
    assert!(world.left(BUCKET).await > 1, "the body stays with its letter");

    world.provider.set_faults(Faults::default()).unwrap();
    letter.replay(&world.js).await.unwrap();
    until("done", async || {
        Some(world.result("large").await).filter(|row| row.state == "done")
    })
    .await;
    world.emptied("WEIR_http").await;
    world.emptied(BUCKET).await;

    // The letter is still there. Replayed once more its body is gone and its event done: nothing to do.
    let mut again = letter.clone();
    again.at += 1;
    let calls = world.provider.stats().total.calls;
    again.replay(&world.js).await.unwrap();
    world.emptied("WEIR_http").await;
    assert_eq!(world.result("large").await.state, "done");
    assert_eq!(world.left("WEIR_DEAD").await, 1, "not lost a second time");
    assert_eq!(world.provider.stats().total.calls, calls);
    stopped(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_gone_is_a_dead_letter_that_says_so() {
    let mut world = world(&[]).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let event = json!({"v": 1, "type": "t", "id": "large", "data": BASE64_STANDARD.encode(noise(2_000_000))});
    world.event(&ingest, "http", &event).await;
    let message = stored::at(&world.js, "WEIR_http", 1).await.unwrap().unwrap();
    let (name, _) = Name::parse(message.header(headers::CLAIM).unwrap()).unwrap();
    claim::remove(&world.js, &name).await.unwrap();
    let worker = world.fleet.start("worker").await.unwrap();
    let letter = letters(&world, 1).await.remove(0);
    assert_eq!(
        (letter.code.as_str(), letter.id.as_str()),
        ("claim_lost", "large")
    );
    assert!(letter.reason.contains(name.as_str()), "{}", letter.reason);
    assert_eq!(world.result("large").await.state, "dead");
    assert_eq!(world.provider.stats().total.calls, 0);
    stopped(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_message_was_never_published_is_collected() {
    let mut world = world(&[("WEIR_SCHEDULER_CLAIMS_GRACE", "1s")]).await;
    let mut doomed = world
        .fleet
        .start_with("ingest", &[("WEIR_FAILPOINT", "ingest.stored")])
        .await
        .unwrap();
    let body = webhook(FIVE_MB);
    world.refused_webhook(&doomed, "large-1", &body).await;
    assert_eq!(doomed.ended(Duration::from_secs(20)).await.unwrap(), None);
    assert_eq!(world.left("WEIR_github").await, 0);
    assert!(world.left(BUCKET).await > 1, "stored, and nobody knows");

    // Its sender sends it again, and another one waits in the stream for longer than the grace.
    let ingest = world.fleet.start("ingest").await.unwrap();
    assert_eq!(
        world.webhook(&ingest, "large-1", &body).await.status(),
        StatusCode::ACCEPTED
    );
    let both = world.left(BUCKET).await;
    let scheduler = world.fleet.start("scheduler").await.unwrap();
    until("the orphan gone", async || {
        (world.left(BUCKET).await == both / 2).then_some(())
    })
    .await;
    let worker = world.fleet.start("worker").await.unwrap();
    assert_eq!(world.result("github:large-1").await.state, "done");
    world.emptied(BUCKET).await;
    stopped(worker).await;
    stopped(scheduler).await;
}

/// Between the commit and the ack: the body must still be there, and the event is found done.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_the_ack_leaves_the_body_to_the_next() {
    let mut world = world(&[]).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let event = json!({"v": 1, "type": "t", "id": "large", "data": BASE64_STANDARD.encode(noise(2_000_000))});
    world.event(&ingest, "http", &event).await;
    let failpoint = [("WEIR_FAILPOINT", "worker.recorded")];
    let mut doomed = world.fleet.launch("worker", &failpoint).unwrap();
    assert_eq!(doomed.ended(Duration::from_secs(30)).await.unwrap(), None);
    assert!(world.left(BUCKET).await > 1);
    let worker = world.fleet.start("worker").await.unwrap();
    world.emptied("WEIR_http").await;
    world.emptied(BUCKET).await;
    assert_eq!(world.provider.calls(Some("large"), 10).len(), 1);
    assert_eq!(world.left("WEIR_DEAD").await, 0);
    stopped(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_at_the_body_of_another_service_or_event_by_a_header() {
    let mut world = world(&[]).await;
    let _ingest = world.fleet.start("ingest").await.unwrap();
    let (event, github) = (large("theirs"), Service::new("github").unwrap());
    let http = put(&world, &event).await;
    let other = Name::fresh(&github, &event.id);
    claim::put(&world.js, &other, &wire::encode(&event), 1 << 20)
        .await
        .unwrap();
    // Rightly named for the id in the header, but with the body of another event.
    let mixed = Name::fresh(&Service::new("http").unwrap(), &EventId::new("mixed").unwrap());
    claim::put(&world.js, &mixed, &wire::encode(&event), 1 << 20)
        .await
        .unwrap();
    let kept = world.left(BUCKET).await;

    let traps = [
        ("theirs", other.to_string()),
        ("mine", http.to_string()),
        ("theirs", "http/../github/x".into()),
        ("theirs", "weir_limits".into()),
        ("theirs", ">".into()),
        ("theirs", format!("{http}/../../{other}")),
        ("theirs", "x".repeat(4000)),
        ("theirs", String::new()),
        ("mixed", mixed.to_string()),
        ("no id\u{7f}", http.to_string()),
    ];
    for (at, (id, reference)) in traps.iter().enumerate() {
        let mut map = HeaderMap::new();
        // The server takes each of them for another message; the worker reads the event's id.
        map.insert(headers::MESSAGE_ID, format!("trap-{at}"));
        map.insert(headers::ID, *id);
        map.insert(headers::CLAIM, reference.as_str());
        let ack = world
            .js
            .publish_with_headers("events.http", map, Bytes::new())
            .await;
        ack.unwrap().await.unwrap();
    }
    refer(&world, "events.http", "theirs", http.as_str(), b"and a payload").await;
    let worker = world.fleet.start("worker").await.unwrap();
    let letters = letters(&world, traps.len() + 1).await;
    for letter in &letters {
        assert_eq!(letter.code, "claim_refused", "{}", letter.reason);
    }
    world.emptied("WEIR_http").await;
    assert_eq!(world.left(BUCKET).await, kept, "all bodies are untouched");
    assert_eq!(world.provider.stats().total.calls, 0);
    stopped(worker).await;
}

/// Events that decompress to the largest there is, many more at once than there is memory for.
#[tokio::test(flavor = "multi_thread")]
async fn bombs_take_no_more_memory_than_one_setting_says() {
    let settings = [
        ("WEIR_SERVICE_HTTP_CONCURRENCY", "64"),
        ("WEIR_WORKER_MAX_DECODED", "64MB"),
    ];
    let mut world = world(&settings).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let (bomb, compressed) = wire::compress(vec![b' '; wire::MAX_BYTES].into());
    assert!(compressed && bomb.len() < 10_000);
    for _ in 0..64 {
        let mut map = HeaderMap::new();
        map.insert(headers::CONTENT_ENCODING, wire::ZSTD);
        let ack = world
            .js
            .publish_with_headers("events.http", map, bomb.clone())
            .await;
        ack.unwrap().await.unwrap();
    }
    let worker = world.fleet.start("worker").await.unwrap();
    let letters = letters(&world, 64).await;
    assert!(letters.iter().all(|letter| letter.code == "undecodable"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("64 events of 32 MiB: the worker took {} MiB at most", kib >> 10);
    assert!(kib >> 10 < 300, "{kib} KiB, and 2 GiB without a bound");
    // Small ones are not kept waiting by what is left of them.
    world
        .event(&ingest, "http", &json!({"v": 1, "type": "t", "id": "small"}))
        .await;
    assert_eq!(world.result("small").await.state, "done");
    stopped(worker).await;
}

/// What `docs/wire.md` says to publishers in other languages, with the object store of another client.
#[tokio::test(flavor = "multi_thread")]
async fn a_python_publisher_may_send_large_events_too() {
    let mut world = world(&[]).await;
    let worker = world.fleet.start("worker").await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let packages = root.join(".tools/python");
    assert!(
        packages.join("nats").is_dir(),
        "the Python clients are missing: `make setup` installs them"
    );
    let data = json!({"noise": BASE64_STANDARD.encode(noise(FIVE_MB))}).to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), data).unwrap();
    let output = Command::new("python3")
        .arg(root.join("examples/python/publish_large.py"))
        .args(["http", "report.ready"])
        .arg(file.path())
        .env("PYTHONPATH", packages)
        .env("WEIR_NATS_URL", world.fleet.servers.nats.url())
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = said["id"].as_str().unwrap();
    assert_eq!(world.result(id).await.state, "done");
    assert_eq!(world.provider.calls(Some(id), 10).len(), 1);
    world.emptied(BUCKET).await;
    stopped(worker).await;
}
