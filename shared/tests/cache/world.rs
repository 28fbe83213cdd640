//! Servers, the ways to them, and processes with a cache.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use loadtest::fault::proxy::Proxy;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use redis::aio::ConnectionManager;
use sha2::{Digest, Sha256};
use shared::cache::{
    CacheMetrics, Connections, Fetched, Got, Key, Known, Levels, Options, Settings, Space, Unfetched, Wants,
};
use shared::config::fleet::Streams;
use shared::connect;
use shared::failure::Failure;
use shared::servers::Servers;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for anything.
const LONG: Duration = Duration::from_secs(30);

/// What a process's cache has, and what it counts.
pub(crate) struct Process {
    pub(crate) levels: Levels,
    registry: Registry,
    pub(crate) nats: Proxy,
    pub(crate) redis: Proxy,
    pub(crate) postgres: Proxy,
}

pub(crate) struct World {
    pub(crate) servers: Servers,
    pub(crate) js: jetstream::Context,
    pub(crate) redis: ConnectionManager,
    pub(crate) pool: PgPool,
}

impl World {
    pub(crate) async fn new() -> Self {
        let servers = Servers::start_scratch().await.unwrap();
        servers.postgres.create_database("weir").await.unwrap();
        let pool = PgPool::connect(&servers.postgres.url("weir")).await.unwrap();
        sqlx::raw_sql(include_str!("../../migrations/0010_cache.sql"))
            .execute(&pool)
            .await
            .unwrap();
        Self {
            js: jetstream::new(async_nats::connect(servers.nats.url()).await.unwrap()),
            redis: connect::redis(&servers.redis.url()).unwrap(),
            pool,
            servers,
        }
    }

    /// A process that hears invalidations, and waits for its levels however busy this machine is.
    pub(crate) async fn process(&self) -> Process {
        self.process_with(patient()).await
    }

    pub(crate) async fn process_with(&self, settings: Settings) -> Process {
        let to = |port| async move { Proxy::start(port).await.unwrap() };
        let nats = to(self.servers.nats.port()).await;
        let redis = to(self.servers.redis.port()).await;
        let postgres = to(self.servers.postgres.port()).await;
        let client = async_nats::connect(format!("nats://{}", nats.address))
            .await
            .unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect(&format!("postgres://weir@{}/weir", postgres.address))
            .await
            .unwrap();
        let mut registry = Registry::default();
        let connections = Connections {
            js: jetstream::new(client.clone()),
            client,
            streams: Streams::default(),
            redis: Some(connect::redis(&format!("redis://{}", redis.address)).unwrap()),
            postgres: Some(pool),
        };
        let metrics = CacheMetrics::register(&mut registry);
        let levels = Levels::start(settings, connections, metrics);
        within(levels.heard()).await;
        Process {
            levels,
            registry,
            nats,
            redis,
            postgres,
        }
    }
}

/// Settings of who waits longer than any machine is busy.
pub(crate) fn patient() -> Settings {
    Settings {
        redis_patience: Duration::from_secs(10),
        postgres_patience: Duration::from_secs(10),
        deaf_after: Duration::from_secs(20),
        ..Settings::default()
    }
}

impl Process {
    /// A space of texts.
    pub(crate) fn space(&self, options: Options<String>) -> Space<String> {
        self.levels.space("texts", options).unwrap()
    }

    /// What a metric says of these labels, all that fit together.
    pub(crate) fn count(&self, metric: &str, labels: &[&str]) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let lines = text.lines().filter(|line| {
            line.strip_prefix(metric)
                .is_some_and(|rest| rest.starts_with(['{', '_', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    }
}

/// In all three levels, for long.
pub(crate) fn everywhere() -> Options<String> {
    Options {
        fresh: Duration::from_secs(3600),
        postgres: Duration::from_secs(3600),
        ..Options::default()
    }
}

/// In Redis alone, so that each look goes there.
pub(crate) fn in_redis() -> Options<String> {
    Options {
        memory: Duration::ZERO,
        ..Options::default()
    }
}

pub(crate) fn key(space: &Space<String>, name: &str) -> Key {
    space.key(None, name).unwrap()
}

/// How often something was fetched.
#[derive(Clone, Default)]
pub(crate) struct Fetches(Arc<AtomicUsize>);

impl Fetches {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Gets a key, or fetches this value.
    pub(crate) async fn get(&self, space: &Space<String>, name: &str, value: &str) -> Got<String> {
        let value = Fetched::Fresh(value.to_owned().into());
        self.find(space, name, Wants::default(), value).await
    }

    pub(crate) async fn find(
        &self,
        space: &Space<String>,
        name: &str,
        wants: Wants,
        found: Fetched<String>,
    ) -> Got<String> {
        self.with(space, name, wants, |_| async { Ok(found) })
            .await
            .unwrap()
    }

    pub(crate) async fn with<F, Fut>(
        &self,
        space: &Space<String>,
        name: &str,
        wants: Wants,
        fetch: F,
    ) -> Result<Got<String>, Unfetched>
    where
        F: FnOnce(Option<Known<String>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched<String>, Failure>> + Send + 'static,
    {
        let count = Arc::clone(&self.0);
        let key = key(space, name);
        let got = space.get_or_fetch(&key, wants, move |known| {
            count.fetch_add(1, Ordering::SeqCst);
            fetch(known)
        });
        within(got).await
    }
}

/// Where an entry lies in Redis.
pub(crate) fn place(key: &Key) -> String {
    format!(
        "weir:{{cache}}:entry:{}",
        hex::encode(Sha256::digest(key.as_str()))
    )
}

/// What a look at a key finds that can be used.
pub(crate) async fn look(space: &Space<String>, name: &str) -> Option<Got<String>> {
    within(space.look(&key(space, name), Wants::default()))
        .await
        .usable()
}

pub(crate) fn text(got: &Got<String>) -> &str {
    got.value.as_deref().unwrap()
}

/// Waits for something that must come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("it hangs"))
}

/// Asks again and again until it is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < LONG, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}
