//! The scheduler against a real NATS server.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use scheduler::api::{Freshness, ServiceView};
use scheduler::leader::{Candidate, Leadership, RENEW_EVERY};
use scheduler::{Config, backstop};
use shared::config::fleet::Streams;
use shared::config::{Fleet, Reader};
use shared::dead_letter::DeadLetter;
use shared::event::{Data, Event, EventId};
use shared::servers::{Nats, NatsOptions};
use shared::subject::{DEAD_STREAM, LEADER_BUCKET, Lane, RETRY_DUE, Service, headers};
use shared::{connect, schedule, topology, wire};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

struct Stage {
    nats: Nats,
    js: jetstream::Context,
    fleet: Fleet,
    _scratch: tempfile::TempDir,
}

async fn stage(settings: &[(&str, &str)]) -> Stage {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
    let mut environment = BTreeMap::from([
        ("WEIR_NATS_URL".to_owned(), nats.url()),
        ("WEIR_SERVICES".to_owned(), "github,http".to_owned()),
        ("WEIR_SHUTDOWN_DEADLINE".to_owned(), "9s".to_owned()),
    ]);
    environment.extend(
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let mut reader = Reader::new(&environment);
    let fleet = Fleet::read(&mut reader);
    let (fleet, _) = reader.finish(&[], fleet).unwrap();
    let (_, js) = connect::nats(&fleet, "test").await.unwrap();
    Stage {
        nats,
        js,
        fleet,
        _scratch: scratch,
    }
}

struct Replica {
    url: String,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), scheduler::RunError>>,
}

impl Replica {
    async fn start(fleet: &Fleet) -> Self {
        Self::start_every(fleet, Duration::from_millis(250)).await
    }

    async fn start_every(fleet: &Fleet, interval: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let config = Config {
            fleet: fleet.clone(),
            listen,
            interval,
            claims_grace: Duration::from_hours(1),
            scaling: scheduler::config::Scaling::default(),
            keda_listen: None,
            history: scheduler::config::History::default(),
            warm: shared::warm::Mode::default(),
            external: None,
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(scheduler::run(config, listener, shutdown.clone()));
        Self {
            url: format!("http://{listen}"),
            shutdown,
            task,
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = client().get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn views(&self) -> Option<Vec<ServiceView>> {
        let (status, body) = self.get("/api/services").await;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    async fn leads(&self) -> bool {
        self.get("/metrics").await.1.contains("weir_scheduler_leader 1\n")
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(10), self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

fn client() -> reqwest::Client {
    shared::lifecycle::install_tls();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

async fn eventually<F: Future<Output = bool>>(what: &str, within: Duration, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(25)).await;
    }
}

const SOON: Duration = Duration::from_secs(10);

async fn publish(js: &jetstream::Context, service: &Service, lane: Lane, id: &str) {
    let mut event = Event::new(EventId::new(id).unwrap(), "test.happened");
    event.data = Data::json("{\"n\":1}");
    let payload = wire::encode(&event);
    js.publish(service.subject(lane, None), payload)
        .await
        .unwrap()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn depths_are_what_is_there_and_unknown_when_nats_is_away() {
    let mut stage = stage(&[]).await;
    let replica = Replica::start(&stage.fleet).await;
    let (github, http) = (Service::new("github").unwrap(), Service::new("http").unwrap());
    eventually("an answer", SOON, || async { replica.views().await.is_some() }).await;
    // A machine that is busy may keep NATS from answering within readiness's patience, once.
    eventually("readiness", SOON, || async {
        replica.get("/health/ready").await.0 == 200
    })
    .await;

    publish(&stage.js, &github, Lane::High, "a").await;
    publish(&stage.js, &github, Lane::Normal, "b").await;
    publish(&stage.js, &github, Lane::Normal, "c").await;
    // One of them is with a worker.
    let consumer: jetstream::consumer::PullConsumer = stage
        .js
        .get_consumer_from_stream("normal", github.stream())
        .await
        .unwrap();
    let mut held = consumer.batch().max_messages(1).messages().await.unwrap();
    held.next().await.unwrap().unwrap();
    for n in 0..3 {
        let id = EventId::new(format!("later-{n}")).unwrap();
        let later = schedule::Scheduled {
            service: &http,
            lane: Lane::Low,
            tenant: None,
            id: &id,
            turn: "1",
            at: std::time::SystemTime::now() + Duration::from_mins(10),
            headers: async_nats::HeaderMap::new(),
            payload: "x".into(),
        };
        schedule::publish_at(&stage.js, later).await.unwrap();
    }
    stage
        .js
        .publish(http.dead(), "x".into())
        .await
        .unwrap()
        .await
        .unwrap();
    // A retry whose time has come, on a subject that the service's stream does not take it back from.
    let due = format!("{RETRY_DUE}.github.high.acme.stuck");
    stage.js.publish(due, "x".into()).await.unwrap().await.unwrap();

    let expected = |views: &[ServiceView]| {
        let [github, http] = views else {
            panic!("two services, not {views:?}")
        };
        let (g, h) = (github.totals.clone().unwrap(), http.totals.clone().unwrap());
        let normal = &github.lanes[1];
        assert_eq!(
            (github.service.as_str(), http.service.as_str()),
            ("github", "http")
        );
        (
            g.pending,
            g.unacked,
            g.waiting,
            normal.pending,
            normal.unacked,
            normal.waiting,
        ) == (2, 1, 3, 1, 1, 2)
            && (g.retrying, g.dead, h.retrying, h.dead, h.waiting) == (Some(1), Some(0), Some(3), Some(1), 0)
            && g.oldest_age_seconds.is_some()
            && h.oldest_age_seconds.is_none()
            && github.state == Freshness::Fresh
    };
    eventually("all figures", SOON, || async {
        expected(&replica.views().await.unwrap())
    })
    .await;
    let metrics = replica.get("/metrics").await.1;
    for line in [
        "weir_queue_depth{service=\"github\",lane=\"high\"} 1\n",
        "weir_queue_depth{service=\"github\",lane=\"normal\"} 2\n",
        "weir_queue_unacked{service=\"github\",lane=\"normal\"} 1\n",
        "weir_queue_retrying{service=\"http\"} 3.0\n",
        "weir_dead_letters{service=\"http\"} 1.0\n",
        "weir_oldest_age_seconds{service=\"http\"} 0.0\n",
        "weir_topology_drift 0\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert!(
        metrics.contains("weir_observation_age_seconds{service=\"github\"} "),
        "{metrics}"
    );

    stage.nats.kill().await.unwrap();
    eventually("unknown", SOON, || async {
        replica.get("/api/services").await.0 == 503
    })
    .await;
    let (_, problem) = replica.get("/api/services").await;
    assert!(
        problem.contains("was last observed") && problem.contains("\"state\":\"stale\""),
        "{problem}"
    );
    let metrics = replica.get("/metrics").await.1;
    assert!(
        !metrics.contains("weir_queue_depth") && !metrics.contains("weir_dead_letters"),
        "{metrics}"
    );
    assert!(metrics.contains("weir_observation_age_seconds"), "{metrics}");
    assert_eq!(replica.get("/health/ready").await.0, 503);
    assert_eq!(replica.get("/health/live").await.0, 200);

    stage.nats.restart().await.unwrap();
    eventually("known again", SOON * 2, || async {
        replica.views().await.is_some()
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_leads_and_another_follows_it() {
    let stage = stage(&[]).await;
    let seat =
        |leadership: &Leadership| Candidate::new(stage.js.clone(), Streams::default(), leadership.clone());
    let (first, second) = (Leadership::new(), Leadership::new());
    let dead = tokio::spawn(seat(&first).stand(CancellationToken::new()));
    timeout(SOON, first.elected()).await.unwrap();
    let release = CancellationToken::new();
    let follower = tokio::spawn(seat(&second).stand(release.clone()));
    // Long enough for the follower to have tried, and for the leader to have renewed more than once.
    let watched = Instant::now();
    eventually("two turns", SOON, || async {
        assert!(first.leads() && !second.leads());
        watched.elapsed() > RENEW_EVERY * 2
    })
    .await;

    dead.abort();
    let killed = Instant::now();
    timeout(topology::LEADER_TTL + RENEW_EVERY * 2, second.elected())
        .await
        .unwrap();
    assert!(
        !first.leads(),
        "the first stepped down before the second could win, {:?}",
        killed.elapsed()
    );

    let third = Leadership::new();
    let next = tokio::spawn(seat(&third).stand(CancellationToken::new()));
    release.cancel();
    follower.await.unwrap().unwrap();
    assert!(!second.leads());
    timeout(RENEW_EVERY * 2, third.elected()).await.unwrap();

    stage.js.delete_key_value(LEADER_BUCKET).await.unwrap();
    eventually("nobody leads", RENEW_EVERY * 2, || async { !third.leads() }).await;
    timeout(RENEW_EVERY * 4, third.elected()).await.unwrap();
    next.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_agree_on_one_leader_and_hand_over_when_it_stops() {
    let stage = stage(&[]).await;
    let (one, two) = (
        Replica::start(&stage.fleet).await,
        Replica::start(&stage.fleet).await,
    );
    eventually("a leader", SOON, || async {
        one.leads().await || two.leads().await
    })
    .await;
    assert!(!(one.leads().await && two.leads().await));
    let (leader, other) = if one.leads().await { (one, two) } else { (two, one) };
    leader.stop().await;
    eventually("the other leads", RENEW_EVERY * 2, || async {
        other.leads().await
    })
    .await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_delivered_too_often_are_buried_with_bytes_and_history() {
    let stage = stage(&[("WEIR_STREAM_ACK_WAIT", "1s"), ("WEIR_STREAM_MAX_DELIVER", "2")]).await;
    let replica = Replica::start(&stage.fleet).await;
    eventually("an answer", SOON, || async { replica.views().await.is_some() }).await;
    let github = Service::new("github").unwrap();
    let mut map = async_nats::HeaderMap::new();
    map.insert(headers::MESSAGE_ID, "delivery-1");
    map.insert(
        "Traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let (subject, payload) = ("events.github.high.acme", "no event at all");
    stage
        .js
        .publish_with_headers(subject, map, payload.into())
        .await
        .unwrap()
        .await
        .unwrap();
    publish(&stage.js, &github, Lane::High, "told-by-the-event").await;

    // A worker that takes everything and settles nothing.
    let consumer: jetstream::consumer::PullConsumer = stage
        .js
        .get_consumer_from_stream("high", github.stream())
        .await
        .unwrap();
    let taker = tokio::spawn(async move {
        loop {
            let mut batch = consumer
                .batch()
                .max_messages(10)
                .expires(Duration::from_secs(1))
                .messages()
                .await
                .unwrap();
            while batch.next().await.is_some() {}
        }
    });
    let dead = stage.js.get_stream(DEAD_STREAM).await.unwrap();
    eventually("two dead letters", SOON * 3, || async {
        dead.get_info().await.unwrap().state.messages == 2
    })
    .await;
    let work = stage.js.get_stream(github.stream()).await.unwrap();
    eventually("an empty stream", SOON, || async {
        work.get_info().await.unwrap().state.messages == 0
    })
    .await;
    taker.abort();

    let mut letters = Vec::new();
    for sequence in 1..=2 {
        letters.push(DeadLetter::read(&dead.get_raw_message(sequence).await.unwrap()).unwrap());
    }
    letters.sort_by(|a, b| a.id.cmp(&b.id));
    let letter = &letters[0];
    assert_eq!(
        (letter.id.as_str(), letter.code.as_str()),
        ("delivery-1", backstop::EXHAUSTED)
    );
    assert_eq!(
        (letter.subject.as_str(), &letter.payload[..]),
        (subject, payload.as_bytes())
    );
    assert!(
        letter.reason.starts_with("delivered 2 times"),
        "{}",
        letter.reason
    );
    assert_eq!((letter.history.len(), letter.attempts), (1, 1));
    assert!(letter.headers.get("Traceparent").is_some());
    assert_eq!(letters[1].id, "told-by-the-event");
    eventually("the metric", SOON, || async {
        replica
            .get("/metrics")
            .await
            .1
            .contains("weir_backstop_buried_total{service=\"github\"} 2\n")
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_stream_cannot_be_made_keeps_no_other_from_being_seen() {
    let stage = stage(&[]).await;
    // Somebody else's stream has the subjects of the first of them.
    let taken = jetstream::stream::Config {
        name: "TAKEN".into(),
        subjects: vec!["events.github".into()],
        ..Default::default()
    };
    stage.js.create_stream(taken).await.unwrap();
    // So far apart that what is missing is not mended by looks that failed, meanwhile.
    let replica = Replica::start_every(&stage.fleet, Duration::from_secs(1)).await;
    eventually("the second is seen", SOON, || async {
        let views = replica.views().await.unwrap_or_default();
        let state = |name: &str| {
            views
                .iter()
                .find(|view| view.service == name)
                .map(|view| view.state)
        };
        state("http") == Some(Freshness::Fresh) && state("github") == Some(Freshness::Unknown)
    })
    .await;
    // And the first when it can be made.
    stage.js.delete_stream("TAKEN").await.unwrap();
    eventually("the first is seen too", SOON * 3, || async {
        let views = replica.views().await.unwrap_or_default();
        !views.is_empty() && views.iter().all(|view| view.state == Freshness::Fresh)
    })
    .await;
}
