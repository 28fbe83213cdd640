//! Events that go together into one call, through a whole worker on real servers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use shared::config::Reader;
use shared::event::{Data, Event, EventId, Key, Tenant};
use shared::failure::Failure;
use shared::servers::{Nats, NatsOptions, Redis, RedisOptions};
use shared::subject::{BREAKERS_BUCKET, headers};
use shared::{lifecycle, wire};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use worker::config::{Config, ServiceConfig};
use worker::handler::{Completion, Grouping, Handler, Outcome, Parts};
use worker::outbound::MAX_ANSWER;
use worker::quota::Turn;

const LONGEST: Duration = Duration::from_secs(60);

/// The calls that were made: the ids of each one's events, in order.
type Calls = Arc<Mutex<Vec<Vec<String>>>>;

/// Notes its calls. The type of an event says how its part ends.
struct Noting(Calls);

impl Noting {
    fn note(&self, events: &[&Event]) {
        let ids = events.iter().map(|event| event.id.as_str().to_owned());
        self.0.lock().unwrap().push(ids.collect());
    }
}

fn end(event: &Event, among: usize) -> Outcome {
    match &*event.kind {
        "panics" => panic!("as it is told to"),
        // An API that refuses the whole call for one of its parts.
        "refused" if among > 1 => Err(Failure::permanent("http_400", "one of you")),
        "refused" => Err(Failure::permanent("http_400", "you")),
        "fails_in_company" if among > 1 => Err(Failure::transient("http_500", "later")),
        _ => Ok(Completion::new("done")),
    }
}

impl Handler for Noting {
    fn grouping(&self) -> Option<Grouping> {
        Some(Grouping {
            most: 10,
            within: Duration::from_millis(200),
        })
    }

    fn group(&self, event: &Event) -> Option<String> {
        event.key.as_ref().map(|key| key.as_str().to_owned())
    }

    fn handle<'a>(&'a self, event: &'a Event, _: &'a Turn) -> BoxFuture<'a, Outcome> {
        self.note(&[event]);
        async move { end(event, 1) }.boxed()
    }

    fn handle_group<'a>(
        &'a self,
        events: Vec<&'a Event>,
        _: &'a Turn,
    ) -> BoxFuture<'a, Vec<Option<Outcome>>> {
        self.note(&events);
        async move {
            let whole = events.iter().any(|event| event.kind == "refused");
            let end = |event: &&Event| match end(event, events.len()) {
                Ok(_) if whole => Err(Failure::permanent("http_400", "one of you")),
                outcome => outcome,
            };
            events.iter().map(|event| Some(end(event))).collect()
        }
        .boxed()
    }
}

struct World {
    js: jetstream::Context,
    calls: Calls,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    _nats: Nats,
    _redis: Redis,
    _scratch: tempfile::TempDir,
}

impl World {
    /// A worker whose handler notes its calls.
    async fn new(settings: &[(&str, &str)]) -> Self {
        let calls = Calls::default();
        let handler = Arc::new(Noting(Arc::clone(&calls)));
        Self::with(settings, calls, move |_, _| Ok(handler.clone())).await
    }

    async fn with(
        settings: &[(&str, &str)],
        calls: Calls,
        make: impl Fn(&ServiceConfig, Parts) -> Result<Arc<dyn Handler>, String> + Send + Sync + 'static,
    ) -> Self {
        lifecycle::install_tls();
        let scratch = tempfile::tempdir().unwrap();
        let nats = Nats::start(NatsOptions::new(scratch.path().join("nats")))
            .await
            .unwrap();
        let redis = Redis::start(RedisOptions::new(scratch.path().join("redis")))
            .await
            .unwrap();
        let own = [
            ("WEIR_NATS_URL", nats.url()),
            ("WEIR_REDIS_URL", redis.url()),
            ("WEIR_POSTGRES_URL", "none".into()),
            ("WEIR_SERVICES", "test".into()),
            ("WEIR_SERVICE_TEST_HANDLER", "http".into()),
            ("WEIR_SERVICE_TEST_URL", "http://127.0.0.1:9/".into()),
            ("WEIR_SERVICE_TEST_RETRIES", "1s, 1s".into()),
            ("WEIR_LIMITS_START", "full".into()),
        ];
        let env: BTreeMap<String, String> = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(
                settings
                    .iter()
                    .map(|(name, value)| (format!("WEIR_SERVICE_TEST_{name}"), (*value).to_owned())),
            )
            .collect();
        let mut reader = Reader::new(&env);
        let config = Config::read(&mut reader);
        let (config, _) = reader.finish(&worker::config::OWN, config).unwrap();
        let client = async_nats::connect(nats.url()).await.unwrap();
        let js = jetstream::new(client);
        // What is to go together is there before the worker is.
        shared::topology::ensure(&js, &config.fleet.services, &config.fleet.streams)
            .await
            .unwrap();
        let (shutdown, listener) = (
            CancellationToken::new(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let (stop, begin) = (shutdown.clone(), js.clone());
        let running = tokio::spawn(async move {
            // Until something waits.
            while begin
                .get_stream("WEIR_test")
                .await
                .unwrap()
                .cached_info()
                .state
                .messages
                == 0
            {
                tokio::task::yield_now().await;
            }
            worker::run(config, &make, listener, stop).await.unwrap();
        });
        Self {
            js,
            calls,
            shutdown,
            running,
            _nats: nats,
            _redis: redis,
            _scratch: scratch,
        }
    }

    /// Publishes events given as id, type, key and tenant, all of them before the first is acknowledged.
    async fn publish(
        &self,
        events: impl Iterator<Item = (String, &'static str, &'static str, &'static str)>,
    ) {
        let mut acks = Vec::new();
        for (id, kind, key, tenant) in events {
            let mut event = Event::new(EventId::new(&*id).unwrap(), kind);
            // Each asks for something else.
            event.data = Data::json(format!(r#"{{"query": "{{ one(id: \"{id}\") }}"}}"#));
            event.key = (!key.is_empty()).then(|| Key::new(key).unwrap());
            event.tenant = (!tenant.is_empty()).then(|| Tenant::new(tenant).unwrap());
            let mut map = HeaderMap::new();
            map.insert(headers::MESSAGE_ID, id.as_str());
            let published = self
                .js
                .publish_with_headers("events.test", map, wire::encode(&event));
            acks.push(published.await.unwrap());
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }

    /// Waits until nothing is left to do, and gives the calls and the number of dead letters.
    async fn drained(self) -> (Vec<Vec<String>>, u64) {
        let messages = async |stream: &str| {
            let stream = self.js.get_stream(stream).await.unwrap();
            stream.cached_info().state.messages
        };
        let empty = async {
            while messages("WEIR_test").await + messages("WEIR_RETRY").await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONGEST, empty).await.unwrap();
        let dead = messages("WEIR_DEAD").await;
        let breakers = messages(&format!("KV_{BREAKERS_BUCKET}")).await;
        assert_eq!(breakers, 0, "no upstream was ever out of service");
        self.shutdown.cancel();
        self.running.await.unwrap();
        let calls = self.calls.lock().unwrap().clone();
        (calls, dead)
    }
}

fn once(calls: &[Vec<String>], of: usize) {
    let all: Vec<_> = calls.iter().flatten().collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (of, of), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_share_calls_and_a_call_takes_quota_once() {
    // One call every half a second: one by one it would take more than a minute.
    let world = World::new(&[("LIMIT", "120 per minute, burst 1"), ("CONCURRENCY", "200")]).await;
    world
        .publish((0..150).map(|n| (format!("e-{n}"), "fine", ["a", "b", "c"][n % 3], "")))
        .await;
    let (calls, dead) = world.drained().await;
    once(&calls, 150);
    assert_eq!(dead, 0);
    assert!(
        calls.len() <= 30,
        "{} calls for 150 events: {calls:?}",
        calls.len()
    );
    for call in &calls {
        assert!(call.len() <= 10, "{call:?}");
        let keys: BTreeSet<_> = call
            .iter()
            .map(|id| id[2..].parse::<usize>().unwrap() % 3)
            .collect();
        assert_eq!(keys.len(), 1, "{call:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_brings_about_is_not_the_end_of_others() {
    for (kind, dead_letters) in [("panics", 1), ("refused", 1), ("fails_in_company", 0)] {
        let world = World::new(&[("LIMIT", "none")]).await;
        world
            .publish((0..10).map(|n| (format!("e-{n}"), if n == 4 { kind } else { "fine" }, "a", "")))
            .await;
        let (calls, dead) = world.drained().await;
        assert_eq!(dead, dead_letters, "{kind}");
        let alone = |id: &str| calls.iter().any(|call| *call == [id]);
        assert!(alone("e-4"), "{kind}: it was tried alone: {calls:?}");
        let done: BTreeSet<_> = calls.iter().flatten().collect();
        assert_eq!(done.len(), 10, "{kind}: {calls:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_limits_of_their_own_share_no_call() {
    let world = World::new(&[("LIMIT", "none"), ("LIMITS", "tenant: 20 per second, burst 5")]).await;
    world
        .publish((0..40).map(|n| (format!("e-{n}"), "fine", "a", ["x", "y"][n % 2])))
        .await;
    // Those without a key go alone.
    world
        .publish((40..44).map(|n| (format!("e-{n}"), "fine", "", "x")))
        .await;
    let (calls, _) = world.drained().await;
    once(&calls, 44);
    for call in &calls {
        let numbers: Vec<usize> = call.iter().map(|id| id[2..].parse().unwrap()).collect();
        assert!(numbers.iter().all(|n| n % 2 == numbers[0] % 2), "{call:?}");
        assert!(numbers.len() == 1 || numbers.iter().all(|n| *n < 40), "{call:?}");
    }
    assert!(calls.len() < 30, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_answer_that_is_too_long_is_no_fault_of_the_upstream() {
    // The ids that a request asks for; more than one are answered at great length.
    let calls = Calls::default();
    let noted = Arc::clone(&calls);
    let app = axum::Router::new().fallback(move |body: String| {
        let asked = body.split("\\\"e-").skip(1);
        let ids: Vec<String> = asked
            .filter_map(|rest| Some(format!("e-{}", rest.split_once('\\')?.0)))
            .collect();
        let long = if ids.len() > 1 { MAX_ANSWER + 1 } else { 1 };
        noted.lock().unwrap().push(ids);
        std::future::ready(format!(
            r#"{{"data": {{"e0_one": "{0}", "one": "{0}"}}}}"#,
            "x".repeat(long)
        ))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let settings = [
        ("HANDLER", "github"),
        ("URL", &*url),
        ("TOKEN", "x"),
        // One failure would take it out of service for longer than this test waits.
        ("BREAKER", "1% of 1 in 30s, open 2m to 2m"),
    ];
    let world = World::with(&settings, calls, worker::registered).await;
    world
        .publish((0..10).map(|n| (format!("e-{n}"), "graphql", "", "")))
        .await;
    let (calls, dead) = world.drained().await;
    assert_eq!(dead, 0);
    assert!(calls.iter().any(|call| call.len() > 1), "{calls:?}");
    let alone: Vec<_> = calls.into_iter().filter(|call| call.len() == 1).collect();
    once(&alone, 10);
}
