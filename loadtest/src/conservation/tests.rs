#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use std::{sync::Arc, time::SystemTime};

use async_nats::HeaderMap;
use indicatif::ProgressBar;
use shared::{
    config::fleet::Streams,
    dead_letter::{self, Burial},
    event::{Data, Event, EventId},
    failure::Reason,
    schedule::{self, Scheduled},
    servers::Servers,
    subject::{Lane, headers},
    topology, wire,
};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::generator::{
    Closed, saturate,
    target::{Publish, Template, WireFormat},
};
use proptest::prelude::*;

fn ids(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn seen(places: &[(&str, Place)]) -> Vec<(String, Place)> {
    places
        .iter()
        .map(|(id, place)| ((*id).to_owned(), *place))
        .collect()
}

#[test]
fn each_event_in_one_place_is_conserved() {
    let places = [
        ("a", Place::Done),
        ("b", Place::Dead),
        ("b", Place::DeadLetter),
        ("c", Place::Waiting),
    ];
    let account = account(&ids(&["a", "b", "c"]), seen(&places));
    assert!(account.holds());
    assert_eq!(
        (account.done, account.dead, account.waiting, account.others),
        (1, 1, 1, 0)
    );
}

#[test]
fn a_letter_without_a_row_is_dead_too() {
    let account = account(&ids(&["a"]), seen(&[("a", Place::DeadLetter)]));
    assert!(account.holds() && account.dead == 1);
}

#[test]
fn lost_and_doubled_events_are_named() {
    let places = [
        ("twice", Place::Done),
        ("twice", Place::Done),
        ("both", Place::Done),
        ("both", Place::Waiting),
        ("letters", Place::DeadLetter),
        ("letters", Place::DeadLetter),
        ("stranger", Place::Done),
    ];
    let account = account(&ids(&["twice", "both", "letters", "gone"]), seen(&places));
    assert!(!account.holds());
    assert_eq!(
        (account.lost, account.lost_ids.as_slice()),
        (1, &["gone".to_owned()][..])
    );
    assert_eq!(account.doubled, 3);
    assert_eq!(
        account.doubled_ids[0],
        "both: done 1, dead 0 (letters 0), waiting 1"
    );
    assert_eq!(account.others, 1);
}

#[test]
fn examples_are_bounded_and_counts_are_not() {
    let many: BTreeSet<String> = (0..500).map(|n| format!("{n:03}")).collect();
    let account = account(&many, []);
    assert_eq!((account.lost, account.lost_ids.len()), (500, EXAMPLES));
    assert_eq!(account.lost_ids[0], "000");
}

proptest! {
    #[test]
    fn every_accepted_event_is_in_exactly_one_column(
        accepted in prop::collection::btree_set("[a-e]{1,2}", 0..20),
        places in prop::collection::vec(("[a-e]{1,2}", 0usize..4), 0..60),
    ) {
        let kinds = [Place::Done, Place::Dead, Place::DeadLetter, Place::Waiting];
        let account = account(&accepted, places.into_iter().map(|(id, at)| (id, kinds[at])));
        let sum = account.done + account.dead + account.waiting + account.lost + account.doubled;
        prop_assert_eq!(sum, accepted.len() as u64);
    }
}

fn event(id: &str) -> Event {
    let mut event = Event::new(EventId::new(id).unwrap(), "load.test");
    event.data = Data::Blob {
        bytes: vec![b'x'; 20_000].into(),
        content_type: "text/plain".into(),
    };
    event
}

/// Every place an event can be, read from real servers.
#[tokio::test]
async fn events_are_found_wherever_they_are() {
    let mut servers = Servers::start_scratch().await.unwrap();
    let client = async_nats::connect(servers.nats.url()).await.unwrap();
    let js = jetstream::new(client);
    let http = Service::new("http").unwrap();
    let absent = Service::new("absent").unwrap();
    topology::ensure(&js, std::slice::from_ref(&http), &Streams::default())
        .await
        .unwrap();
    let pool = PgPool::connect(&servers.postgres.url("postgres")).await.unwrap();
    for migration in [
        include_str!("../../../shared/migrations/0001_results.sql"),
        include_str!("../../../shared/migrations/0002_inbox.sql"),
    ] {
        sqlx::raw_sql(migration).execute(&pool).await.unwrap();
    }

    let subject = http.subject(Lane::Normal, None);
    let (small, zipped) = wire::compress(wire::encode(&event("compressed")));
    assert!(zipped);
    let mut map = HeaderMap::new();
    map.insert("content-encoding", wire::ZSTD);
    js.publish_with_headers(subject.clone(), map, small)
        .await
        .unwrap()
        .await
        .unwrap();
    let template = Template::new(serde_json::json!({}), WireFormat::Msgpack, 3).unwrap();
    let publish = Publish::new(js.clone(), &http, template, Duration::from_secs(10));
    let closed = Closed {
        connections: 4,
        max_requests: 30,
        lasts: Duration::from_mins(1),
    };
    let bar = ProgressBar::hidden();
    let load = saturate(closed, Arc::new(publish), &bar, &CancellationToken::new()).await;
    assert_eq!(
        (load.sent, load.accepted_ids.len()),
        (30, 10),
        "each id is sent three times"
    );
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, "undecodable");
    js.publish_with_headers(subject.clone(), map, "?".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let later = EventId::new("later").unwrap();
    let scheduled = Scheduled {
        service: &http,
        lane: Lane::Normal,
        tenant: None,
        id: &later,
        turn: "1",
        at: SystemTime::now() + Duration::from_hours(1),
        headers: HeaderMap::new(),
        payload: wire::encode(&event("later")),
    };
    schedule::publish_at(&js, scheduled).await.unwrap();
    let buried = EventId::new("buried").unwrap();
    let burial = Burial {
        service: &http,
        sequence: 99,
        subject: &subject,
        id: &buried,
        headers: None,
        payload: wire::encode(&event("buried")),
        reason: &Reason::new("http_404", "not there"),
        attempts: 1,
        history: &[],
        accepted: 0,
    };
    dead_letter::bury(&js, burial).await.unwrap();
    for (id, state) in [("done", "done"), ("buried", "dead")] {
        sqlx::query(
            "INSERT INTO outcomes VALUES ($1, 'http', $2, 1, 'ok', '', NULL, 0, '', '', now(), now() + interval '1.5 s')",
        )
        .bind(id)
        .bind(state)
        .execute(&pool)
        .await
        .unwrap();
    }

    let mut accepted = ids(&["compressed", "undecodable", "later", "buried", "done"]);
    accepted.extend(load.accepted_ids);
    let services = [http, absent];
    let mut left = 0;
    let found = audit(&accepted, &js, &pool, &services, Duration::ZERO, |waiting| {
        left = waiting;
    })
    .await
    .unwrap();
    assert_eq!(left, 13);
    let expected = Conservation {
        accepted: 15,
        done: 1,
        dead: 1,
        waiting: 13,
        ..Conservation::default()
    };
    assert_eq!(found, expected);
    let more = ids(&["done", "gone"]);
    let seen = sightings(&more, &js, &pool, &services).await.unwrap();
    assert_eq!(account(&more, seen).lost_ids, ["gone"]);
    let took = accept_to_done(&accepted, &pool, &services).await.unwrap();
    assert_eq!(took.len(), 1);
    let (p50, max, count) = (took["http"].p50, took["http"].max, took["http"].count);
    assert_eq!(count, 1, "the dead one took no time to be done");
    assert!(p50.abs_diff(1_500_000) < 2_000 && max == p50, "{p50} {max}");
    pool.close().await;
    servers.stop().await.unwrap();
}
