//! The scheduler: any number of replicas observe the queues and answer; one of them, the leader, does the jobs.
//!
//! [`observe`] reads what waits where, [`board`] keeps the latest of it with its age, [`api`] and [`metrics`] show
//! it, [`external`] to the autoscalers of Kubernetes. [`leader`] elects one replica, whose [`backstop`] buries messages that were delivered too often and whose
//! [`claims`] removes bodies that nobody refers to. [`warm`] tells what to fetch into caches ahead
//! of need, [`warming`] has it fetched.

pub mod api;
pub mod backstop;
pub mod board;
pub mod claims;
pub mod config;
pub mod external;
pub mod figures;
pub mod keda;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod scaling;
pub mod signal;
pub mod tally;
pub mod warm;
pub mod warming;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use shared::connect::{self, ConnectError};
use shared::health::Health;
use shared::lifecycle::{OnEnd, OnShutdown, Tasks, Unclean};
use shared::serve::{Bounds, serve};
use shared::store::metrics::Metrics as PoolMetrics;
use shared::store::pool as postgres;
use shared::store::reads::Reads;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::config::Config;

use crate::board::Board;
use crate::leader::{Candidate, Leadership};
use crate::metrics::Metrics;
use crate::warming::metrics::WarmMetrics;

/// What a connection to the plain listener may do: Prometheus, probes, people. Whoever holds places without asking anything
/// loses them soon, for probes need one too.
const BOUNDS: Bounds = Bounds {
    connections: 1024,
    silence: Duration::from_secs(10),
    head: 32 * 1024,
    headers: 100,
    streams: 100,
};

/// Why the scheduler stopped other than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No connection could be set up.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The external metrics API cannot be served.
    #[error(transparent)]
    External(#[from] external::CannotServe),
    /// A URL of Postgres is none.
    #[error("WEIR_POSTGRES_URL or WEIR_POSTGRES_READ_URL: {0}")]
    Postgres(#[from] sqlx::Error),
    /// KEDA cannot be listened for.
    #[error("WEIR_SCHEDULER_KEDA_LISTEN: cannot listen on {0}: {1}")]
    Keda(SocketAddr, std::io::Error),
    /// A task failed, or was still at work at the deadline.
    #[error(transparent)]
    Unclean(#[from] Unclean),
}

/// Runs a replica until `shutdown` is cancelled. Leadership is given back before this returns.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), RunError> {
    let (client, js) = connect::nats(&config.fleet, "weir-scheduler").await?;
    let board = Arc::new(Board::new(&config.fleet.services, config.interval));
    let leadership = Leadership::new();
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, Arc::clone(&board), leadership.clone());

    let external = match &config.external {
        Some(settings) => Some(external::Server::new(settings, external::cluster().await?).await?),
        None => None,
    };

    let tasks = Tasks::new(shutdown.clone());
    let (_, counts) = connect::nats(&config.fleet, "weir-scheduler counts").await?;
    let observer = observe::Observer {
        js: js.clone(),
        counts,
        services: config.fleet.services.clone(),
        streams: config.fleet.streams.clone(),
        interval: config.interval,
        scaling: config.scaling,
        board: Arc::clone(&board),
        metrics: metrics.clone(),
    };
    tasks.spawn("observe", OnEnd::Restart, OnShutdown::Abort, move || {
        let observer = observer.clone();
        async move {
            observer.run().await;
            Ok::<_, std::convert::Infallible>(())
        }
    });
    if let Some(address) = config.keda_listen {
        let listener = keda::Listener::bind(address, Arc::clone(&board));
        let listener = listener.map_err(|error| RunError::Keda(address, error))?;
        let token = shutdown.clone();
        tasks.spawn("keda", OnEnd::Restart, OnShutdown::Wait, move || {
            listener.clone().run(token.clone())
        });
    }
    let candidate = Candidate::new(js.clone(), config.fleet.streams.clone(), leadership.clone());
    let token = shutdown.clone();
    tasks.spawn("leader", OnEnd::Restart, OnShutdown::Wait, move || {
        candidate.clone().stand(token.clone())
    });
    let (token, collector) = (
        shutdown.clone(),
        claims::Collector {
            js: js.clone(),
            leadership: leadership.clone(),
            metrics: metrics.clone(),
            grace: config.claims_grace,
        },
    );
    tasks.spawn("claims", OnEnd::Restart, OnShutdown::Abort, move || {
        collector.clone().run(token.clone())
    });
    let (token, jobs) = (
        shutdown.clone(),
        backstop::Backstop {
            js: js.clone(),
            streams: config.fleet.streams.clone(),
            leadership: leadership.clone(),
            metrics,
        },
    );
    tasks.spawn("backstop", OnEnd::Restart, OnShutdown::Wait, move || {
        jobs.clone().run(token.clone())
    });

    let seen = Arc::clone(&board);
    let mut health = Health::new(shutdown.clone())
        .nats(client.clone())
        .check("observation", move || {
            let seen = Arc::clone(&seen);
            async move { seen.fresh() }
        });
    if let Some(server) = external {
        let (trust, grace) = (server.trust(), config.fleet.shutdown_deadline / 4);
        health = health.check("front proxy", move || {
            std::future::ready(trust.front_proxy().map(|_| ()))
        });
        server.start(Arc::clone(&board), &mut registry, &tasks, shutdown.clone(), grace);
    }
    let reads = reads(&config.history, &mut registry, &tasks)?;
    let warming = warming::Warming {
        js,
        client: client.clone(),
        streams: config.fleet.streams.clone(),
        services: config.fleet.services.clone(),
        mode: config.warm,
        database: reads.as_ref().map(|reads| reads.primary().clone()),
        board: Arc::clone(&board),
        leadership,
        metrics: WarmMetrics::register(&mut registry),
    };
    tasks.spawn("warming", OnEnd::Restart, OnShutdown::Abort, move || {
        warming.clone().run()
    });
    let past = api::events::Past::new(reads, &config.history);
    let routes = api::routes(board)
        .merge(api::events::routes(past))
        .merge(api::warm::routes(client, config.history.tokens.clone()))
        .merge(health.routes(registry));
    // A client that never reads its answer must not keep the leadership from being given back in time.
    let grace = config.fleet.shutdown_deadline / 2;
    if !serve(listener, routes, BOUNDS, Gauge::default(), shutdown, grace).await {
        tracing::debug!("requests were still at work when the leadership had to be given back");
    }
    tasks
        .drain(tokio::time::Instant::now() + config.fleet.shutdown_deadline / 3)
        .await?;
    Ok(())
}

/// Where the past is read, and what keeps an eye on its pools; `None` without Postgres.
fn reads(
    history: &config::History,
    registry: &mut Registry,
    tasks: &Tasks,
) -> Result<Option<Reads>, RunError> {
    let settings = &history.postgres;
    let Some(url) = &settings.url else {
        return Ok(None);
    };
    let metrics = PoolMetrics::register(registry);
    let reads = Reads::open(
        url,
        settings,
        history.connections,
        "weir-scheduler",
        metrics.clone(),
    )?;
    let pools = [("read", Some(reads.primary())), ("replica", reads.replica())];
    for (name, pool) in pools.into_iter().filter_map(|(name, pool)| Some((name, pool?))) {
        let (pool, metrics, every) = (pool.clone(), metrics.of(name, pool), settings.health);
        tasks.spawn("postgres", OnEnd::Restart, OnShutdown::Abort, move || {
            postgres::watch(pool.clone(), metrics.clone(), every)
        });
    }
    if reads.replica().is_some() {
        let watched = reads.clone();
        tasks.spawn("replica", OnEnd::Restart, OnShutdown::Abort, move || {
            watched.clone().watch()
        });
    }
    Ok(Some(reads))
}
