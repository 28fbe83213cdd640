//! What goes wrong: retries, dead letters, killed workers, messages that are none.

use std::collections::BTreeSet;
use std::time::Duration;

use loadtest::provider::{Faults, ProviderConfig};
use serde_json::json;
use shared::dead_letter::DeadLetter;
use shared::event::Event;
use shared::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{World, calls, until};

/// The dead letters, oldest first.
async fn dead(world: &World) -> Vec<DeadLetter> {
    let stream = world.js.get_stream("WEIR_DEAD").await.unwrap();
    let state = stream.get_info().await.unwrap().state;
    let mut letters = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        if let Ok(message) = stream.direct_get(sequence).await {
            letters.extend(DeadLetter::read(&message));
        }
    }
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_on_schedule_and_end_as_dead_letters_with_their_history() {
    let settings = [("WEIR_SERVICE_HTTP_RETRIES", "200ms, 300ms")];
    let mut world = World::new(ProviderConfig::default(), &settings).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let mut worker = world.fleet.start("worker").await.unwrap();

    world
        .provider
        .set_faults(Faults {
            errors: 1.0,
            ..Faults::default()
        })
        .unwrap();
    let event = json!({"v": 1, "type": "order.paid", "data": {"n": 1}, "id": "order-1", "later": "kept"});
    let id = world.event(&ingest, "http", &event).await;
    let row = world.result(&id).await;
    assert_eq!(
        (row.state.as_str(), row.attempts, row.code.as_str()),
        ("dead", 3, "http_500")
    );
    let audit: Vec<(i32, String)> =
        sqlx::query_as("SELECT attempt, outcome FROM audit WHERE event_id = $1 ORDER BY attempt")
            .bind(&id)
            .fetch_all(&world.database)
            .await
            .unwrap();
    assert_eq!(
        audit,
        [
            (1, "transient".into()),
            (2, "transient".into()),
            (3, "transient".into())
        ]
    );
    let letters = until("the dead letter", async || {
        Some(dead(&world).await).filter(|l| !l.is_empty())
    })
    .await;
    let letter = &letters[0];
    assert_eq!(
        (letter.id.as_str(), letter.code.as_str(), letter.attempts),
        ("order-1", "http_500", 3)
    );
    assert_eq!(letter.history.len(), 3, "{:?}", letter.history);
    let event = shared::wire::decode(&letter.payload, shared::event::EventId::generate).unwrap();
    assert_eq!(
        (event.id.as_str(), event.extra.len()),
        ("order-1", 1),
        "unknown fields have survived"
    );
    assert_eq!(world.provider.calls(Some("order-1"), 10).len(), 3);

    // Once the endpoint is well, a replay of the letter is all it takes, and the event is done.
    world.provider.set_faults(Faults::default()).unwrap();
    letter.replay(&world.js).await.unwrap();
    let row = until("done", async || {
        Some(world.result(&id).await).filter(|row| row.state == "done")
    })
    .await;
    assert_eq!(row.attempts, 1, "a replay begins anew");
    world.emptied("WEIR_http").await;
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_goes_to_the_dead_letters_bytes_intact_and_stalls_nothing() {
    let mut world = World::new(ProviderConfig::default(), &[]).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let mut worker = world.fleet.start("worker").await.unwrap();
    let deep = [
        vec![0x82, 0xa1, b'v', 1, 0xa4, b'd', b'a', b't', b'a'],
        vec![0x91; 5000],
    ]
    .concat();
    let bad: [Vec<u8>; 6] = [
        b"\xc1\x00".to_vec(),
        b"not an event".to_vec(),
        b"{\"v\":1".to_vec(),
        vec![0x81, 0xa1, b'v', 9],
        vec![],
        deep,
    ];
    for bytes in &bad {
        world
            .js
            .publish("events.http", bytes.clone().into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let id = world
        .event(&ingest, "http", &json!({"v": 1, "type": "good"}))
        .await;
    assert_eq!(world.result(&id).await.state, "done");
    let letters = until("six dead letters", async || {
        Some(dead(&world).await).filter(|l| l.len() == bad.len())
    })
    .await;
    let buried: BTreeSet<Vec<u8>> = letters.iter().map(|letter| letter.payload.to_vec()).collect();
    assert_eq!(buried, bad.iter().cloned().collect());
    assert!(
        letters.iter().all(|letter| letter.code == "undecodable"),
        "{letters:?}"
    );
    assert!(
        letters
            .iter()
            .any(|letter| letter.reason.contains("field \"v\" is 9")),
        "{letters:?}"
    );
    assert!(
        letters.iter().all(|letter| letter.id.starts_with("WEIR_http:")),
        "found again by its place"
    );
    world.emptied("WEIR_http").await;
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_with_messages_in_hand_loses_nothing() {
    let mut limits = ProviderConfig::default();
    limits.faults.latency_p50_ms = 150.0;
    let mut world = World::new(limits, &[("WEIR_SERVICE_HTTP_CONCURRENCY", "16")]).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let mut ids = BTreeSet::new();
    for n in 0..200 {
        let event = json!({"v": 1, "type": "n", "id": format!("kill-{n}"), "data": n});
        ids.insert(world.event(&ingest, "http", &event).await);
    }
    let mut doomed = world.fleet.start("worker").await.unwrap();
    until("messages in hand", async || {
        (world.provider.stats().total.calls >= 20).then_some(())
    })
    .await;
    doomed.kill().await.unwrap();
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM results")
        .fetch_one(&world.database)
        .await
        .unwrap();
    assert!(done < 200, "it was killed in the midst of it");
    let mut heir = world.fleet.start("worker").await.unwrap();
    world.emptied("WEIR_http").await;
    let kept: Vec<String> = sqlx::query_scalar("SELECT event_id FROM results WHERE state = 'done'")
        .fetch_all(&world.database)
        .await
        .unwrap();
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), ids);
    let doubled = world.provider.stats().doubled.count;
    assert!(
        doubled <= 16,
        "only what was in flight may have been called twice: {doubled}"
    );
    assert_eq!(heir.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
}

/// A header that the NATS client library panics on ends its connection for good. The worker must not live on without
/// one: it ends, is started again by whoever runs it, and the message is buried when it has been delivered too often.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_the_nats_client_ends_the_process_and_is_buried() {
    let settings = [("WEIR_STREAM_MAX_DELIVER", "2"), ("WEIR_STREAM_ACK_WAIT", "1s")];
    let mut world = World::new(ProviderConfig::default(), &settings).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let _scheduler = world.fleet.start("scheduler").await.unwrap();
    publish_raw(&world, "NATS/1.0\r\nX: a\rb: c\r\n\r\n").await;
    for _ in 0..2 {
        let mut victim = world.fleet.launch("worker", &[]).unwrap();
        assert_eq!(
            victim.ended(Duration::from_secs(30)).await.unwrap(),
            Some(1),
            "no life without NATS"
        );
    }
    let _heir = world.fleet.start("worker").await.unwrap();
    let id = world
        .event(&ingest, "http", &json!({"v": 1, "type": "good"}))
        .await;
    assert_eq!(
        world.result(&id).await.state,
        "done",
        "nobody else is kept waiting"
    );
    let letters = until("its letter", async || {
        Some(dead(&world).await).filter(|l| !l.is_empty())
    })
    .await;
    assert_eq!(letters[0].code, "exhausted");
    world.emptied("WEIR_http").await;
}

/// Headers over which the NATS client drops its connection, each time that they come: two workers, the ack wait and the
/// number of deliveries that ship. What is behind such messages does not wait until they are buried, ten minutes later.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_cut_the_connection_do_not_hold_up_those_behind_them() {
    let mut world = World::new(ProviderConfig::default(), &[]).await;
    world.publish("http", []).await;
    for _ in 0..10 {
        publish_raw(&world, "NATS/1.0\r\nNoColonHere\r\n\r\n").await;
    }
    let good: Vec<Event> = calls(200, &json!({})).collect();
    world.publish("http", good).await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.done(200).await;
    assert_eq!(world.left("WEIR_DEAD").await, 0, "nothing is buried yet");
    until("only those left", async || {
        (world.left("WEIR_http").await == 10).then_some(())
    })
    .await;
}

/// Publishes an event for `http` with headers that no client library would.
async fn publish_raw(world: &World, head: &str) {
    let address = world.fleet.servers.nats.url().replace("nats://", "");
    let mut raw = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = "{\"v\":1,\"type\":\"t\"}";
    let publish = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB events.http {} {}\r\n{head}{body}\r\nPING\r\n",
        head.len(),
        head.len() + body.len()
    );
    raw.write_all(publish.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"PONG\r\n") {
        assert!(raw.read_buf(&mut said).await.unwrap() > 0, "the server hangs up");
    }
}

/// As many bytes of headers as the server takes leave no room for what a retry and a dead letter add.
#[tokio::test(flavor = "multi_thread")]
async fn headers_up_to_the_servers_bound_keep_nothing_from_being_retried_and_buried() {
    let settings = [("WEIR_SERVICE_GITHUB_RETRIES", "10ms")];
    let mut world = World::new(ProviderConfig::default(), &settings).await;
    // Makes the streams.
    world.publish("github", []).await;
    let mut headers = async_nats::HeaderMap::new();
    for n in 0..65 {
        headers.insert(format!("X-{n}").as_str(), "x".repeat(980));
    }
    let unreachable = json!({"path": "/nowhere", "method": "TRACE"});
    for data in [json!({"path": "/repos/octo/cat"}), unreachable] {
        let event = calls(1, &data).next().unwrap();
        let kept = world
            .js
            .publish_with_headers("events.github", headers.clone(), wire::encode(&event));
        kept.await.unwrap().await.unwrap();
    }
    let faults = Faults {
        errors: 1.0,
        ..Faults::default()
    };
    world.provider.set_faults(faults).unwrap();
    let _worker = world.fleet.start("worker").await.unwrap();
    until("both buried", async || {
        (world.left("WEIR_DEAD").await == 2).then_some(())
    })
    .await;
    world.emptied("WEIR_github").await;
    let letters = world.js.get_stream("WEIR_DEAD").await.unwrap();
    let letter = letters.get_raw_message(1).await.unwrap();
    let kept = letter
        .headers
        .iter()
        .filter(|(name, _)| name.to_string().starts_with("X-"));
    assert!(
        kept.count() >= 30,
        "as many as fit are kept: {:?}",
        letter.headers
    );
    assert!(
        letter.headers.get("Weir-Headers-Dropped").is_some(),
        "{:?}",
        letter.headers
    );
}
