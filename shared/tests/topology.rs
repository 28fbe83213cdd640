//! The JetStream facts that the topology stands on, against a real server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::context::PublishErrorKind;
use futures_util::StreamExt;
use shared::config::fleet::Streams;
use shared::event::EventId;
use shared::schedule::{Scheduled, publish_at};
use shared::servers::{Nats, NatsOptions};
use shared::subject::{Lane, RETRY_STREAM, Service, header, headers};
use shared::topology;

struct World {
    nats: Nats,
    js: jetstream::Context,
    service: Service,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(dir.path())).await.unwrap();
    let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    World {
        nats,
        js,
        service: Service::new("github").unwrap(),
        _dir: dir,
    }
}

async fn next(js: &jetstream::Context, service: &Service, lane: Lane) -> jetstream::Message {
    let consumer: PullConsumer = js
        .get_consumer_from_stream(lane.as_str(), service.stream())
        .await
        .unwrap();
    let mut batch = consumer
        .batch()
        .max_messages(1)
        .expires(Duration::from_secs(20))
        .messages()
        .await
        .unwrap();
    batch.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn every_subject_of_a_service_reaches_its_lane_and_no_other_subject_is_taken() {
    let World {
        mut nats,
        js,
        service,
        _dir,
    } = world().await;
    let streams = Streams::default();
    let services = [service.clone()];
    assert_eq!(topology::ensure(&js, &services, &streams).await.unwrap(), []);
    assert_eq!(
        topology::ensure(&js, &services, &streams).await.unwrap(),
        [],
        "made twice, the same"
    );
    for (subject, lane) in [
        ("events.github", Lane::Normal),
        ("events.github.normal", Lane::Normal),
        ("events.github.normal.acme", Lane::Normal),
        ("events.github.high", Lane::High),
        ("events.github.high.acme", Lane::High),
        ("events.github.low.acme", Lane::Low),
    ] {
        js.publish(subject, subject.into()).await.unwrap().await.unwrap();
        let message = next(&js, &service, lane).await;
        assert_eq!(message.subject.as_str(), subject);
        message.double_ack().await.unwrap();
    }
    for subject in [
        "events.github.urgent",
        "events.github.high.acme.more",
        "events.gitlab",
    ] {
        let refused = js.publish(subject, "x".into()).await.unwrap().await.unwrap_err();
        assert_eq!(refused.kind(), PublishErrorKind::StreamNotFound, "{subject}");
    }
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn drift_is_told_and_left_alone() {
    let World {
        mut nats,
        js,
        service,
        _dir,
    } = world().await;
    let services = [service.clone()];
    topology::ensure(
        &js,
        &services,
        &Streams {
            max_messages: 5,
            ..Default::default()
        },
    )
    .await
    .unwrap();
    let drift = topology::ensure(
        &js,
        &services,
        &Streams {
            max_messages: 6,
            ..Default::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert_eq!(
        (drift[0].object.as_str(), drift[0].setting),
        ("WEIR_github", "max_messages")
    );
    assert_eq!((drift[0].is.as_str(), drift[0].should.as_str()), ("5", "6"));
    let mut stream = js.get_stream(service.stream()).await.unwrap();
    assert_eq!(stream.info().await.unwrap().config.max_messages, 5);
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_scheduled_message_comes_home_once_with_its_headers_even_after_a_restart() {
    let World {
        mut nats,
        js,
        service,
        _dir,
    } = world().await;
    topology::ensure(&js, std::slice::from_ref(&service), &Streams::default())
        .await
        .unwrap();
    let id = EventId::new("github:*.>/1").unwrap();
    let at = SystemTime::now() + Duration::from_secs(3);
    let send = || {
        let mut map = HeaderMap::new();
        map.insert(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        let message = Scheduled {
            service: &service,
            lane: Lane::High,
            tenant: Some("acme"),
            id: &id,
            turn: "1",
            at,
            headers: map,
            payload: "bytes".into(),
        };
        publish_at(&js, message)
    };
    assert!(!send().await.unwrap());
    assert!(send().await.unwrap(), "the same turn twice is one");
    nats.restart().await.unwrap();
    let message = next(&js, &service, Lane::High).await;
    assert!(SystemTime::now() >= at, "not before its time");
    assert_eq!(message.subject.as_str(), "events.github.high.acme");
    assert_eq!(message.payload, "bytes");
    let found = |name| header(message.headers.as_ref(), name);
    assert_eq!(found(headers::ID), Some(id.as_str()));
    assert!(found(headers::TRACEPARENT).is_some());
    assert_eq!(
        found(headers::MESSAGE_ID),
        None,
        "stripped by the server, hence Weir-Id"
    );
    message.double_ack().await.unwrap();
    let mut retry = js.get_stream(RETRY_STREAM).await.unwrap();
    // The source acknowledges what it has taken a moment later.
    let emptied = async {
        while retry.info().await.unwrap().state.messages > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), emptied)
        .await
        .expect("nothing is left behind");
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_due_retry_waits_while_its_stream_is_full_and_is_not_lost() {
    let World {
        mut nats,
        js,
        service,
        _dir,
    } = world().await;
    let streams = Streams {
        max_messages: 2,
        ..Default::default()
    };
    topology::ensure(&js, std::slice::from_ref(&service), &streams)
        .await
        .unwrap();
    for _ in 0..2 {
        js.publish("events.github", "first".into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let full = js
        .publish("events.github", "one too many".into())
        .await
        .unwrap()
        .await
        .unwrap_err();
    assert!(full.to_string().contains("maximum messages exceeded"), "{full}");
    let id = EventId::new("late").unwrap();
    let message = Scheduled {
        service: &service,
        lane: Lane::Normal,
        tenant: None,
        id: &id,
        turn: "1",
        at: SystemTime::now(),
        headers: HeaderMap::new(),
        payload: "late".into(),
    };
    publish_at(&js, message).await.unwrap();
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let message = next(&js, &service, Lane::Normal).await;
        bodies.push(message.payload.clone());
        message.double_ack().await.unwrap();
    }
    assert!(bodies.contains(&"late".into()), "{bodies:?}");
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_without_storage_for_a_stream_is_told_by_its_setting() {
    let World {
        mut nats,
        js,
        service,
        _dir,
    } = world().await;
    let streams = Streams {
        max_bytes: i64::MAX / 2,
        ..Default::default()
    };
    let refused = topology::ensure(&js, std::slice::from_ref(&service), &streams)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("WEIR_STREAM_MAX_BYTES for each service"),
        "{refused}"
    );
    nats.stop().await.unwrap();
}
