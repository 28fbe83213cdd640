//! The cache of a worker.

use std::time::Duration;

use async_nats::jetstream;
use prometheus_client::registry::Registry;
use shared::cache::{CacheMetrics, Connections, Levels};
use shared::connect::{self, ConnectError};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::config::Config;

/// Longest wait at start for what has become invalid; then calls are made for what would be kept.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Starts the cache that a worker's services share; `None` where none of them keeps anything in it.
///
/// # Errors
/// The URL of Redis is none.
pub fn levels(
    config: &Config,
    client: &async_nats::Client,
    js: &jetstream::Context,
    database: Option<&PgPool>,
    registry: &mut Registry,
) -> Result<Option<Levels>, ConnectError> {
    if !config.services.iter().any(|service| service.kind.caches) {
        return Ok(None);
    }
    let connections = Connections {
        client: client.clone(),
        js: js.clone(),
        streams: config.fleet.streams.clone(),
        redis: Some(connect::redis(&config.redis_url)?),
        postgres: database.cloned(),
    };
    let metrics = CacheMetrics::register(registry);
    Ok(Some(Levels::start(config.cache.clone(), connections, metrics)))
}

/// Waits until it is heard what has become invalid, so that a worker that starts uses what the fleet has.
pub async fn heard(levels: &Levels) {
    if timeout(HEARD_WITHIN, levels.heard()).await.is_err() {
        tracing::warn!("invalidations are not heard: nothing that is kept is used until they are");
    }
}
