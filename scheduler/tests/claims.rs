//! Which bodies of large events are removed, and which never, against a real NATS server.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream;
use bytes::Bytes;
use scheduler::claims::{Collector, Places};
use scheduler::leader::{Candidate, Leadership};
use scheduler::metrics::Metrics;
use shared::claim::{self, Name};
use shared::config::fleet::Streams;
use shared::event::EventId;
use shared::schedule::{self, Scheduled};
use shared::servers::{Nats, NatsOptions};
use shared::subject::{BODIES_STREAM, DEAD_STREAM, Lane, Service, headers};
use shared::{stored, topology};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

struct Stage {
    js: jetstream::Context,
    nats: Nats,
    service: Service,
    leadership: Leadership,
    stop: CancellationToken,
    _scratch: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn stage() -> Stage {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
    let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let (streams, service) = (Streams::default(), Service::new("http").unwrap());
    topology::ensure(&js, std::slice::from_ref(&service), &streams)
        .await
        .unwrap();
    let (leadership, stop) = (Leadership::new(), CancellationToken::new());
    let candidate = Candidate::new(js.clone(), streams, leadership.clone());
    drop(tokio::spawn(candidate.stand(stop.clone())));
    tokio::time::timeout(Duration::from_secs(10), leadership.elected())
        .await
        .unwrap();
    Stage {
        js,
        nats,
        service,
        leadership,
        stop,
        _scratch: scratch,
    }
}

impl Stage {
    fn collector(&self, grace: Duration) -> Collector {
        Collector {
            js: self.js.clone(),
            leadership: self.leadership.clone(),
            metrics: Metrics::default(),
            grace,
        }
    }

    async fn collect(&self) -> usize {
        let collector = self.collector(Duration::ZERO);
        collector.collect(&mut Places::new()).await.unwrap()
    }

    async fn put(&self, id: &str) -> (Name, EventId) {
        let id = EventId::new(id).unwrap();
        let name = Name::fresh(&self.service, &id);
        let body = Bytes::from(vec![7; 300_000]);
        claim::put(&self.js, &name, &body, 1 << 20).await.unwrap();
        (name, id)
    }

    async fn publish(&self, subject: &str, name: &Name) -> u64 {
        let mut map = HeaderMap::new();
        // As a client in another language might write it.
        map.insert("weir-CLAIM", name.as_str());
        let ack = self
            .js
            .publish_with_headers(subject.to_owned(), map, Bytes::new())
            .await;
        ack.unwrap().await.unwrap().sequence
    }

    async fn retry(&self, (name, id): &(Name, EventId), after: Duration) {
        let mut map = HeaderMap::new();
        map.insert(headers::CLAIM, name.as_str());
        let message = Scheduled {
            service: &self.service,
            lane: Lane::Low,
            tenant: Some("acme"),
            id,
            turn: "1",
            at: SystemTime::now() + after,
            headers: map,
            payload: Bytes::new(),
        };
        schedule::publish_at(&self.js, message).await.unwrap();
    }

    async fn is_there(&self, name: &Name) -> bool {
        match claim::find(&self.js, name).await.unwrap() {
            Some(object) => claim::read(&self.js, &object).await.is_ok(),
            None => false,
        }
    }

    async fn delete(&self, stream: &str, sequence: u64) {
        let stream = self.js.get_stream(stream).await.unwrap();
        stream.delete_message(sequence).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_refers_to_is_removed_and_nothing_else() {
    let stage = stage().await;
    let (plain, _) = stage.put("plain").await;
    stage.publish("events.http", &plain).await;
    let (lane, _) = stage.put("lane").await;
    let in_lane = stage.publish("events.http.high.acme", &lane).await;
    let waiting = stage.put("waiting").await;
    stage.retry(&waiting, Duration::from_secs(3600)).await;
    let (dead, _) = stage.put("dead").await;
    let letter = stage.publish("dead.http", &dead).await;
    let (moving, _) = stage.put("moving").await;
    claim::moving(&stage.js, &moving).await.unwrap();
    let (orphan, _) = stage.put("orphan").await;
    // Another service's message does not keep it.
    stage.publish("dead.github", &orphan).await;
    // A body that was never whole, and an object that is none of ours.
    let subject = "$O.weir_bodies.C.0123456789abcdef";
    stage
        .js
        .publish(subject, "half".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let foreign = "$O.weir_bodies.M.cmVwb3J0LnBkZg==";
    stage
        .js
        .publish(foreign, "{}".into())
        .await
        .unwrap()
        .await
        .unwrap();

    let young = stage.collector(Duration::from_secs(3600));
    assert_eq!(
        young.collect(&mut Places::new()).await.unwrap(),
        0,
        "somebody may be about to publish"
    );
    let mut places = Places::new();
    let collector = stage.collector(Duration::ZERO);
    assert_eq!(collector.collect(&mut places).await.unwrap(), 2);
    assert!(!stage.is_there(&orphan).await);
    for name in [&plain, &lane, &waiting.0, &dead, &moving] {
        assert!(stage.is_there(name).await, "{name}");
    }
    assert!(
        stored::last(&stage.js, BODIES_STREAM, subject)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        stored::last(&stage.js, BODIES_STREAM, foreign)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(places.len(), 4, "{places:?}");

    // Known places are asked first, and given up when the message is gone.
    stage.delete(DEAD_STREAM, letter).await;
    stage.delete("WEIR_http", in_lane).await;
    stage.publish("events.http.low", &lane).await;
    assert_eq!(collector.collect(&mut places).await.unwrap(), 1);
    assert!(!stage.is_there(&dead).await && stage.is_there(&lane).await);
    assert_eq!(collector.collect(&mut places).await.unwrap(), 0);
}

/// The client library would panic on this header if the message came over a subscription.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_no_client_reads_do_not_end_the_search() {
    let stage = stage().await;
    let address = stage.nats.url().replace("nats://", "");
    let mut raw = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = b"NATS/1.0\r\nX: a\rb: c\r\nWeir-Claim: http/../../x\r\nWeir-Claim: \xff\xfe\r\n\r\n";
    let mut publish = Vec::new();
    publish.extend_from_slice(b"CONNECT {\"headers\":true,\"verbose\":false}\r\n");
    publish.extend_from_slice(format!("HPUB events.http {} {}\r\n", head.len(), head.len()).as_bytes());
    publish.extend_from_slice(head);
    publish.extend_from_slice(b"\r\nPING\r\n");
    raw.write_all(&publish).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"PONG\r\n") {
        raw.read_buf(&mut said).await.unwrap();
    }
    let (kept, _) = stage.put("kept").await;
    stage.publish("events.http", &kept).await;
    let (orphan, _) = stage.put("orphan").await;
    assert_eq!(stage.collect().await, 1);
    assert!(stage.is_there(&kept).await && !stage.is_there(&orphan).await);
}

/// While a look goes on, references move: letters are replayed, without a mark, and messages are buried, with one. Each is
/// copied before it is taken away. Both streams are long, so that the moves fall between the looks at one and the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_on_the_move_is_never_missed() {
    let stage = stage().await;
    for n in 0..1500 {
        let (small, letter) = (
            stage.js.publish("events.http", "x".into()),
            stage.js.publish("dead.http", "x".into()),
        );
        let acks = (small.await.unwrap(), letter.await.unwrap());
        if n % 100 == 99 {
            acks.0.await.unwrap();
            acks.1.await.unwrap();
        }
    }
    let (dead, work) = ((DEAD_STREAM, "dead.http"), ("WEIR_http", "events.http"));
    for round in 0..4 {
        let mut moves = Vec::new();
        for n in 0..12 {
            let (name, _) = stage.put(&format!("{round}-{n}")).await;
            let (from, to) = if n % 2 == 0 { (dead, work) } else { (work, dead) };
            let sequence = stage.publish(from.1, &name).await;
            moves.push((name, from, to, sequence));
        }
        let moving = async {
            for (name, from, to, sequence) in &moves {
                // Spread over the look by requests that take as long as its own.
                for _ in 0..200 {
                    stored::at(&stage.js, DEAD_STREAM, 1).await.unwrap();
                }
                if *to == dead {
                    claim::moving(&stage.js, name).await.unwrap();
                }
                stage.publish(to.1, name).await;
                stage.delete(from.0, *sequence).await;
            }
        };
        let looking = async {
            for _ in 0..2 {
                assert_eq!(stage.collect().await, 0);
            }
        };
        tokio::join!(moving, looking);
        for (name, ..) in moves {
            assert!(stage.is_there(&name).await, "{name}");
        }
    }
}
