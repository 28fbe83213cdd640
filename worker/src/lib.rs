//! The worker: pulls events under shared limits and calls the APIs. An event's way, in the order of the files:
//! [`pull`], [`delivery`], [`process`] (all stages in one short function), [`handler`], [`outbound`], [`store`],
//! [`settle`].

pub mod access;
pub mod alive;
pub mod batch;
pub mod claim;
pub mod config;
pub mod delivery;
pub mod effect;
pub mod follow;
pub mod forecast;
pub mod group;
pub mod handler;
pub mod idle;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod open;
pub mod outbound;
pub mod outcome;
pub mod pool;
pub mod process;
pub mod program;
pub mod provider;
pub mod pull;
pub mod quota;
pub mod response;
pub mod room;
pub mod settle;
pub mod store;
pub mod suspect;
pub mod trace;
pub mod warm;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use prometheus_client::registry::Registry;
use shared::connect::{self, ConnectError};
use shared::health::Health;
use shared::lifecycle::{OnEnd, OnShutdown, Tasks, Unclean};
use shared::limiter::Limiter;
use shared::store::metrics::Metrics as PoolMetrics;
use shared::store::migrate::migrate;
use shared::store::pool as postgres;
use shared::topology;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use config::{Config, ServiceConfig};
use follow::{Rulebook, sweep};
use handler::{Handler, Parts};
use metrics::Metrics;
use room::Room;
use warm::WarmMetrics;

/// What of the shutdown deadline is kept back for handing back what did not finish, and for the last acks.
const HAND_BACK: Duration = Duration::from_secs(2);
/// Pause between two tries to make topology and tables at start.
const START_PAUSE: Duration = Duration::from_millis(500);

/// A worker could not start or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The URL of Postgres is none.
    #[error("WEIR_POSTGRES_URL: {0}")]
    Postgres(#[from] sqlx::Error),
    /// A handler cannot be made from its settings.
    #[error("service {0}: {1}")]
    Handler(String, String),
    /// It did not stop cleanly.
    #[error(transparent)]
    Unclean(#[from] Unclean),
}

/// Makes the handler of a service; [`run`] uses the registered ones.
pub type MakeHandler = dyn Fn(&ServiceConfig, Parts) -> Result<Arc<dyn Handler>, String> + Send + Sync;

/// The registered handler of a service.
pub fn registered(config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
    config.own.make(config, parts)
}

/// Runs a worker until `shutdown`, serving health and metrics on `listener`.
///
/// It stops in this order: no new messages; events in flight finish, or are handed back [`HAND_BACK`] before the
/// deadline; group commits end; the last acks leave.
pub async fn run(
    config: Config,
    make: &MakeHandler,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    let (client, js, connects) = connect::nats_counted(&config.fleet, &config.name).await?;
    let redis = connect::redis(&config.redis_url)?;
    let database = config
        .postgres
        .url
        .as_deref()
        .map(|url| postgres::write(url, &config.postgres, config.postgres_connections, "weir-worker"));
    let database = database.transpose()?;
    let mut registry = Registry::default();
    let pools = PoolMetrics::register(&mut registry);
    let metrics = Metrics::register(&mut registry);
    let notes = access::notes(&config, &mut registry);
    let warmed = WarmMetrics::register(&mut registry);
    let levels = response::levels(&config, &client, &js, database.as_ref(), &mut registry)?;
    let limiter = Limiter::new(redis.clone(), &config.name, config.limits_full);

    let started = CancellationToken::new();
    let mut health = Health::new(shutdown.clone())
        .nats(client.clone())
        .redis(redis.clone())
        .started(started.clone());
    if let Some(database) = database.clone() {
        health = health.check("postgres", move || ping(database.clone()));
    }
    let tasks = Tasks::new(shutdown.clone());
    if let Some(database) = database.clone() {
        let (every, metrics) = (config.postgres.health, pools.of("write", &database));
        tasks.spawn("postgres", OnEnd::Restart, OnShutdown::Abort, move || {
            postgres::watch(database.clone(), metrics.clone(), every)
        });
    }
    let served = Arc::new(Mutex::new(Some((listener, health.routes(registry)))));
    tasks.spawn("health", OnEnd::Stop, OnShutdown::Abort, move || {
        let served = Arc::clone(&served);
        async move {
            match served.lock().await.take() {
                Some((listener, routes)) => axum::serve(listener, routes).into_future().await,
                None => Ok(()),
            }
        }
    });

    let events = TaskTracker::new();
    let background = TaskTracker::new();
    let hand_back = CancellationToken::new();
    let room = Room::new(config.max_decoded);
    let (rulebook, in_force) = Rulebook::new(
        config.rules.clone(),
        config.fleet.services.clone(),
        metrics.rules.clone(),
    );
    let mut pools = Vec::new();
    for service in &config.services {
        let make_pool = || pool::Parts {
            config: &config,
            service,
            client: &client,
            js: &js,
            connects: &connects,
            limiter: &limiter,
            redis: &redis,
            database: database.as_ref(),
            metrics: &metrics,
            background: &background,
            events: &events,
            hand_back: &hand_back,
            room: &room,
            in_force: &in_force,
            levels: levels.as_ref(),
            notes: &notes,
        };
        let failed = |why| WorkerError::Handler(service.service.to_string(), why);
        pools.push(Arc::new(make_pool().assemble(make).map_err(failed)?));
    }
    // Not before the deadline's hand-back time, for a start that hangs is ended by the token.
    let prepared = async {
        prepare(&config, &js, database.as_ref()).await;
        for pool in &pools {
            live::catch_up(pool, config.ahead).await;
            pool.upstreams.known().await;
        }
        if let Some(levels) = &levels {
            response::heard(levels).await;
        }
    };
    if shutdown.run_until_cancelled(prepared).await.is_some() {
        started.cancel();
        if let Some(database) = database {
            access::start(&background, &events, database.clone(), &notes, &config.name);
            let keep = config.keep;
            let partitioned = database.clone();
            tasks.spawn("partitions", OnEnd::Restart, OnShutdown::Abort, move || {
                store::keep_up(partitioned.clone(), keep)
            });
            let (js, services, ack_wait) = (js.clone(), config.own_services(), config.fleet.streams.ack_wait);
            tasks.spawn("follow-ups", OnEnd::Restart, OnShutdown::Abort, move || {
                sweep::sweep(database.clone(), js.clone(), services.clone(), ack_wait)
            });
        }
        follow_rules(&tasks, rulebook, &config, &js);
        for pool in &pools {
            let (followed, ahead) = (Arc::clone(pool), config.ahead);
            tasks.spawn("limits", OnEnd::Restart, OnShutdown::Abort, move || {
                live::follow(Arc::clone(&followed), ahead)
            });
            let (warm, metrics) = (Arc::clone(pool), warmed.clone());
            tasks.spawn("warm", OnEnd::Restart, OnShutdown::Abort, move || {
                warm::serve(Arc::clone(&warm), metrics.clone())
            });
            let (pool, stop) = (Arc::clone(pool), shutdown.clone());
            tasks.spawn("pull", OnEnd::Stop, OnShutdown::Wait, move || {
                pull::pull(Arc::clone(&pool), stop.clone())
            });
        }
        shutdown.cancelled().await;
    }
    drop(pools);
    drain(&config, tasks, &events, &background, &hand_back, &client).await
}

/// Makes topology and tables, however long NATS and Postgres keep us waiting.
async fn prepare(config: &Config, js: &jetstream::Context, database: Option<&PgPool>) {
    let mut services = config.own_services();
    // Those that nobody works for yet must have a stream too, or nothing could be emitted to them.
    services.extend(follow::others(&config.rules.rules, &services));
    loop {
        match topology::ensure(js, &services, &config.fleet.streams).await {
            Ok(drift) => {
                for d in drift {
                    tracing::warn!(
                        object = d.object,
                        setting = d.setting,
                        is = d.is,
                        should = d.should,
                        "drift"
                    );
                }
                break;
            }
            Err(error) => tracing::warn!(%error, "not started: the topology is not to be had"),
        }
        tokio::time::sleep(START_PAUSE).await;
    }
    let Some(database) = database else { return };
    while let Err(error) = migrate(database).await {
        tracing::warn!(%error, "not started: the tables are not to be had");
        tokio::time::sleep(START_PAUSE).await;
    }
    // Before the first row, which would keep its week's partition from being made.
    if let Err(error) = store::tend(database, config.keep).await {
        tracing::warn!(%error, "partitions were not made: the default one takes what has no other");
    }
}

/// Puts changed rules in force while the worker runs.
fn follow_rules(tasks: &Tasks, rulebook: Rulebook, config: &Config, js: &jetstream::Context) {
    let rulebook = Arc::new(Mutex::new(rulebook));
    let (js, streams, own) = (js.clone(), config.fleet.streams.clone(), config.own_services());
    tasks.spawn("rules", OnEnd::Restart, OnShutdown::Abort, move || {
        let (rulebook, js) = (Arc::clone(&rulebook), js.clone());
        let (streams, own) = (streams.clone(), own.clone());
        async move { rulebook.lock().await.follow(&js, &streams, &own).await }
    });
}

async fn ping(database: PgPool) -> Result<(), String> {
    sqlx::query("SELECT 1")
        .execute(&database)
        .await
        .map(|_| ())
        .map_err(|e| e.to_string())
}

async fn drain(
    config: &Config,
    tasks: Tasks,
    events: &TaskTracker,
    background: &TaskTracker,
    hand_back: &CancellationToken,
    client: &async_nats::Client,
) -> Result<(), WorkerError> {
    let deadline = tokio::time::Instant::now() + config.fleet.shutdown_deadline;
    let finish = deadline - HAND_BACK.min(config.fleet.shutdown_deadline / 2);
    let stopped = tasks.drain(finish).await;
    events.close();
    if tokio::time::timeout_at(finish, events.wait()).await.is_err() {
        tracing::warn!(events = events.len(), "handing back what did not finish in time");
        hand_back.cancel();
        let _ = tokio::time::timeout_at(deadline, events.wait()).await;
    }
    background.close();
    let _ = tokio::time::timeout_at(deadline, background.wait()).await;
    // Without a connection there is nobody to wait for.
    if client.connection_state() == State::Connected {
        let _ = tokio::time::timeout_at(deadline, client.flush()).await;
    }
    stopped?;
    Ok(())
}
