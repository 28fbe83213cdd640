//! Bodies of large events in the object store, against a real server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_nats::HeaderMap;
use async_nats::jetstream;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use bytes::Bytes;
use serde_json::json;
use shared::claim::{self, Name, PutError, ReadError};
use shared::config::fleet::Streams;
use shared::event::EventId;
use shared::servers::{Nats, NatsOptions};
use shared::subject::{BODIES_META, BODIES_STREAM, CLAIMS_STREAM, Service};
use shared::{stored, topology};

const MIB: usize = 1 << 20;

struct World {
    nats: Nats,
    js: jetstream::Context,
    max_payload: usize,
    _dir: tempfile::TempDir,
}

async fn world(claims_max_bytes: i64) -> World {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(dir.path())).await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let max_payload = client.max_payload();
    let js = jetstream::new(client);
    let streams = Streams {
        claims_max_bytes,
        ..Streams::default()
    };
    topology::ensure(&js, &[], &streams).await.unwrap();
    World {
        nats,
        js,
        max_payload,
        _dir: dir,
    }
}

fn name(id: &str) -> Name {
    Name::fresh(&Service::new("http").unwrap(), &EventId::new(id).unwrap())
}

/// Bytes that do not repeat, so that no piece stands for another.
fn noise(bytes: usize) -> Bytes {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    });
    let bytes: Vec<u8> = words.flat_map(u32::to_be_bytes).take(bytes).collect();
    bytes.into()
}

async fn messages(js: &jetstream::Context) -> u64 {
    let stream = js.get_stream(BODIES_STREAM).await.unwrap();
    stream.get_info().await.unwrap().state.messages
}

async fn whole(js: &jetstream::Context, name: &Name) -> Result<Option<Bytes>, ReadError> {
    match claim::find(js, name).await? {
        Some(object) => claim::read(js, &object).await.map(Some),
        None => Ok(None),
    }
}

#[tokio::test]
async fn what_is_put_is_read_and_removed_without_a_trace() {
    let world = world(256 << 20).await;
    for bytes in [0, 1, 256 * 1024, 256 * 1024 + 1, 5 * MIB, 32 * MIB] {
        let (name, body) = (name("a"), noise(bytes));
        assert_eq!(whole(&world.js, &name).await, Ok(None));
        claim::put(&world.js, &name, &body, world.max_payload)
            .await
            .unwrap();
        let read = whole(&world.js, &name).await.unwrap().unwrap();
        assert!(read == body, "{bytes} bytes");
        claim::remove(&world.js, &name).await.unwrap();
        assert_eq!(whole(&world.js, &name).await, Ok(None));
        claim::remove(&world.js, &name).await.unwrap();
        assert_eq!(messages(&world.js).await, 0, "no tombstone, no pieces");
    }
}

#[tokio::test]
async fn a_full_bucket_says_so_and_keeps_no_half() {
    let world = world(64 << 20).await;
    let first = name("a");
    claim::put(&world.js, &first, &noise(32 * MIB), world.max_payload)
        .await
        .unwrap();
    let before = messages(&world.js).await;
    let refused = claim::put(&world.js, &name("b"), &noise(32 * MIB), world.max_payload).await;
    assert_eq!(refused, Err(PutError::Full));
    assert_eq!(messages(&world.js).await, before, "its pieces are gone");
    // A reference can be moved all the same.
    claim::moving(&world.js, &first).await.unwrap();
    assert!(
        stored::last(&world.js, CLAIMS_STREAM, &first.moved())
            .await
            .unwrap()
            .is_some()
    );
    claim::remove(&world.js, &first).await.unwrap();
    claim::put(&world.js, &name("b"), &noise(32 * MIB), world.max_payload)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bucket_of_another_size_is_told_and_left_as_it_is() {
    let world = world(64 << 20).await;
    let drift = topology::ensure(&world.js, &[], &Streams::default())
        .await
        .unwrap();
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert_eq!(
        (drift[0].object.as_str(), drift[0].setting),
        (BODIES_STREAM, "max_bytes")
    );
}

#[tokio::test]
async fn a_body_with_a_piece_missing_or_changed_is_broken() {
    let world = world(256 << 20).await;
    let name = name("a");
    claim::put(&world.js, &name, &noise(MIB), world.max_payload)
        .await
        .unwrap();
    let stream = world.js.get_stream(BODIES_STREAM).await.unwrap();
    stream.delete_message(2).await.unwrap();
    let Err(ReadError::Broken(what)) = whole(&world.js, &name).await else {
        panic!("read without a piece")
    };
    assert!(what.to_string().contains("786432 of its 1048576"), "{what}");

    let object = claim::find(&world.js, &name).await.unwrap().unwrap();
    let subject = format!("$O.weir_bodies.C.{}", object.nuid());
    world
        .js
        .publish(subject, noise(256 * 1024))
        .await
        .unwrap()
        .await
        .unwrap();
    let Err(ReadError::Broken(what)) = whole(&world.js, &name).await else {
        panic!("read with a piece of another order")
    };
    assert!(what.to_string().contains("digest"), "{what}");
}

#[tokio::test]
async fn what_the_bucket_says_is_not_believed_unseen() {
    let world = world(256 << 20).await;
    let (good, bad) = (name("good"), name("bad"));
    claim::put(&world.js, &good, &noise(MIB), world.max_payload)
        .await
        .unwrap();
    let digest = format!("SHA-256={}", BASE64_URL_SAFE.encode([0; 32]));
    let like = |nuid: &str, size: u64| json!({"name": bad.as_str(), "bucket": "weir_bodies", "nuid": nuid, "size": size, "chunks": 4, "digest": digest});
    let mut link = like("abc", 4);
    link["options"] = json!({"link": {"bucket": "weir_bodies", "name": good.as_str()}});
    for meta in [
        // A subject that would match every piece of every body.
        like(">", 4),
        like("*", 4),
        like("", 4),
        like("a.b", 4),
        like("abc", 1 << 40),
        link,
        json!({"name": bad.as_str()}),
        json!("nothing"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        let subject = format!("{BODIES_META}.{}", BASE64_URL_SAFE.encode(bad.as_str()));
        let payload = meta.to_string().into();
        let ack = world
            .js
            .publish_with_headers(subject, headers, payload)
            .await
            .unwrap();
        ack.await.unwrap();
        assert!(
            matches!(whole(&world.js, &bad).await, Err(ReadError::Broken(_))),
            "{meta}"
        );
        claim::remove(&world.js, &bad).await.unwrap();
        assert_eq!(whole(&world.js, &bad).await, Ok(None));
        assert!(whole(&world.js, &good).await.unwrap().is_some(), "{meta}");
    }
    assert!(claim::remove_pieces(&world.js, ">").await.is_err());
    assert!(whole(&world.js, &good).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_is_away_is_not_a_body_that_is_gone() {
    let mut world = world(256 << 20).await;
    let name = name("a");
    claim::put(&world.js, &name, &noise(MIB), world.max_payload)
        .await
        .unwrap();
    let mut js = world.js.clone();
    js.set_timeout(std::time::Duration::from_millis(300));
    world.nats.kill().await.unwrap();
    assert!(matches!(claim::find(&js, &name).await, Err(ReadError::Away(_))));
    assert!(claim::remove(&js, &name).await.is_err());
    let put = claim::put(&js, &name, &noise(MIB), world.max_payload).await;
    assert!(matches!(put, Err(PutError::Away(_))), "{put:?}");
}
