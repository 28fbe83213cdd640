//! A service without an API: its events are done without a call, and what follows from them by rules follows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use shared::config::Reader;
use shared::event::{Data, Event, EventId};
use shared::servers::{Nats, NatsOptions, Postgres, PostgresOptions, Redis, RedisOptions};
use shared::{lifecycle, wire};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use worker::config::Config;

const LONGEST: Duration = Duration::from_secs(60);

const RULES: &str = r#"
[[rule]]
name = "tell"
on = { service = "hooks", types = ["order.paid"] }
when = "code == 'no_call'"
emit = { service = "http", type = "paid", data = { number = "{{ data.number }}" } }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_done_without_a_call_and_others_follow() {
    lifecycle::install_tls();
    let scratch = shared::servers::scratch_dir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let nats = Nats::start(NatsOptions::new(at("nats"))).await.unwrap();
    let redis = Redis::start(RedisOptions::new(at("redis"))).await.unwrap();
    let postgres = Postgres::start(PostgresOptions::new(at("data"))).await.unwrap();
    postgres.create_database("weir").await.unwrap();
    let settings = [
        ("WEIR_NATS_URL", nats.url()),
        ("WEIR_REDIS_URL", redis.url()),
        ("WEIR_POSTGRES_URL", postgres.url("weir")),
        ("WEIR_SERVICES", "hooks,http".into()),
        ("WEIR_WORKER_SERVICES", "hooks".into()),
        ("WEIR_SERVICE_HOOKS_HANDLER", "none".into()),
        ("WEIR_RULES", RULES.into()),
    ];
    let env: BTreeMap<String, String> = settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let mut reader = Reader::new(&env);
    let config = Config::read(&mut reader);
    let (config, _) = reader.finish(&worker::config::OWN, config).unwrap();
    assert!(config.services[0].limits.is_empty());
    let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    shared::topology::ensure(&js, &config.fleet.services, &config.fleet.streams)
        .await
        .unwrap();
    let mut event = Event::new(EventId::new("shop:1").unwrap(), "order.paid");
    event.data = Data::json(r#"{"number": 7}"#.to_owned());
    let published = js.publish("events.hooks", wire::encode(&event)).await.unwrap();
    published.await.unwrap();

    let shutdown = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = shutdown.clone();
    let running = tokio::spawn(async move { worker::run(config, &worker::registered, listener, stop).await });
    let left = async |stream: &str| {
        let stream = js.get_stream(stream).await.unwrap();
        stream.cached_info().state.messages
    };
    let done = async {
        while left("WEIR_hooks").await > 0 || left("WEIR_http").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONGEST, done).await.unwrap();
    let stream = js.get_stream("WEIR_http").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    assert_eq!(
        message.headers.get("Weir-Parent").unwrap().as_str(),
        "hooks/shop:1"
    );
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let pool = sqlx::PgPool::connect(&postgres.url("weir")).await.unwrap();
    let recorded: (String, String, i32) =
        sqlx::query_as("SELECT state, code, attempts FROM outcomes WHERE event_id = 'shop:1'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(recorded, ("done".into(), "no_call".into(), 1));
}
