//! Weir's front door. A request's way through it, file by file:
//!
//! 1. [`shared::serve`] takes the connection, [`router`] the request, [`body`] its bytes.
//! 2. [`verify`] says whether a webhook's signature holds, [`tokens`] whether a publisher may publish.
//! 3. [`accept`] makes an event of it ([`batch`] cuts a batch into its events).
//! 4. [`publish`] hands it to JetStream and waits until it is kept: only then there is a 202.
//!
//! [`error`] turns whatever goes wrong into the answer; [`metrics`] and [`trace`] say what happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;
use shared::connect::{self, ConnectError};
use shared::health::Health;
use shared::lifecycle::{OnEnd, OnShutdown, Tasks, Unclean};
use shared::serve;
use shared::topology::{self, Drift, TopologyError};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub mod accept;
pub mod batch;
pub mod body;
pub mod config;
pub mod error;
pub mod metrics;
pub mod publish;
pub mod router;
pub mod tokens;
pub mod trace;
pub mod verify;

pub use config::Config;

use crate::metrics::Metrics;
use crate::publish::Publisher;

/// What a connection may do. Common load balancers close an idle one after 60 s.
const BOUNDS: serve::Bounds = serve::Bounds {
    connections: 0,
    silence: Duration::from_secs(75),
    head: 64 * 1024,
    headers: 100,
    streams: 250,
};
use crate::router::App;

/// Name of the process in NATS, in traces and on the command line.
pub const NAME: &str = "weir-ingest";
/// Part of the shutdown deadline kept for what comes after the drain.
const RESERVE: Duration = Duration::from_millis(500);
/// How often the streams are looked after when nothing calls for it.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

/// Ingest cannot start, or did not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The address is not free, or not ours.
    #[error("WEIR_INGEST_LISTEN: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The connection's settings do not work.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Requests were still at work at the shutdown deadline. None of them was answered.
    #[error("requests were still at work at the shutdown deadline")]
    Overdue,
    /// A task did not end in order.
    #[error(transparent)]
    Unclean(#[from] Unclean),
}

/// Takes the configured address.
pub async fn listen(config: &Config) -> Result<TcpListener, IngestError> {
    let address = config.listen;
    TcpListener::bind(address)
        .await
        .map_err(|source| IngestError::Listen { address, source })
}

/// Runs ingest until `shutdown`: readiness says no at once, requests are taken for another `drain_delay` (whoever
/// routes them may not know yet), then those in flight finish.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), IngestError> {
    let (client, js) = connect::nats(&config.fleet, NAME).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let missing = Arc::new(Notify::new());
    let made = Arc::new(AtomicBool::new(false));
    let tasks = Tasks::new(shutdown.clone());
    {
        let (js, fleet) = (js.clone(), config.fleet.clone());
        let (missing, made) = (Arc::clone(&missing), Arc::clone(&made));
        tasks.spawn("topology", OnEnd::Restart, OnShutdown::Abort, move || {
            keep_topology(js.clone(), fleet.clone(), Arc::clone(&missing), Arc::clone(&made))
        });
    }
    let health = Health::new(shutdown.clone())
        .nats(client.clone())
        .check("streams", move || {
            let made = made.load(Ordering::Relaxed);
            async move {
                if made {
                    Ok(())
                } else {
                    Err("not made yet".to_owned())
                }
            }
        });
    if config.tokens.is_empty() {
        tracing::info!("WEIR_TOKENS is empty: POST /v1/events answers 401 to everybody");
    }
    let names: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
    tracing::info!(address, sources = names.join(" "), "listening");

    let (places, patience) = (config.bounds.max_in_flight, config.patience);
    let publisher = Publisher::new(client.clone(), js, places, patience, missing, metrics.clone());
    let connections = metrics.connections.clone();
    let app = Arc::new(App::new(&config, publisher, metrics));
    let router = router::router(app, health.routes(registry));

    let deadline = config.fleet.shutdown_deadline.saturating_sub(RESERVE);
    let stop = CancellationToken::new();
    let drain = async {
        shutdown.cancelled().await;
        tracing::info!(
            "not ready any more; requests are taken for another {:?}",
            config.drain_delay
        );
        tokio::time::sleep(config.drain_delay).await;
        stop.cancel();
    };
    let grace = deadline.saturating_sub(config.drain_delay);
    let bounds = serve::Bounds {
        connections: config.bounds.max_connections,
        ..BOUNDS
    };
    let serve = serve::serve(listener, router, bounds, connections, stop.clone(), grace);
    let (finished, ()) = tokio::join!(serve, drain);
    tasks.drain(Instant::now() + RESERVE / 2).await?;
    let _ = tokio::time::timeout(RESERVE / 2, client.drain()).await;
    if finished {
        Ok(())
    } else {
        Err(IngestError::Overdue)
    }
}

/// Makes the streams, and compares them again from time to time and whenever one turns out to be missing. An error
/// ends the task, which is started again.
async fn keep_topology(
    js: async_nats::jetstream::Context,
    fleet: shared::config::Fleet,
    missing: Arc<Notify>,
    made: Arc<AtomicBool>,
) -> Result<(), TopologyError> {
    let mut known: Vec<Drift> = Vec::new();
    loop {
        let drift = topology::ensure(&js, &fleet.services, &fleet.streams).await?;
        made.store(true, Ordering::Relaxed);
        for Drift {
            object,
            setting,
            is,
            should,
        } in drift.iter().filter(|d| !known.contains(d))
        {
            tracing::warn!(
                object,
                setting,
                is,
                should,
                "a stream or consumer is not as configured; it is left as it is"
            );
        }
        known = drift;
        let _ = tokio::time::timeout(COMPARE_EVERY, missing.notified()).await;
        // A stream between two leaders looks missing many times a second.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
