//! Connections to NATS and Redis, made the same way by every service.

use std::time::Duration;

use async_nats::jetstream;
use tokio::sync::watch;

use crate::config::Fleet;

/// How long a request to the JetStream API may take.
pub const API_TIMEOUT: Duration = Duration::from_secs(5);

/// No connection, and why.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// NATS.
    #[error("WEIR_NATS_URL: no connection to NATS: {0}")]
    Nats(#[from] async_nats::ConnectError),
    /// The credentials for NATS do not parse.
    #[error("WEIR_NATS_CREDENTIALS cannot be read: {0}")]
    Credentials(std::io::Error),
    /// Redis.
    #[error("WEIR_REDIS_URL: {0}")]
    Redis(#[from] redis::RedisError),
}

/// Connects to NATS under a name that shows in the server's connection list. Comes back at once even when the
/// server is away (the client goes on trying), so that a service can start, say that it is not ready, and recover.
pub async fn nats(
    fleet: &Fleet,
    name: &str,
) -> Result<(async_nats::Client, jetstream::Context), ConnectError> {
    let (client, js, _) = nats_counted(fleet, name).await?;
    Ok((client, js))
}

/// The same, with how often the client has connected by now: what was on its way when that changes is lost.
pub async fn nats_counted(
    fleet: &Fleet,
    name: &str,
) -> Result<(async_nats::Client, jetstream::Context, watch::Receiver<u64>), ConnectError> {
    let (connects, counted) = watch::channel(0);
    let mut options = async_nats::ConnectOptions::new()
        .name(name)
        .retry_on_initial_connect()
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .event_callback(move |event| {
            if let async_nats::Event::Connected = event {
                connects.send_modify(|times| *times += 1);
            }
            std::future::ready(())
        })
        .reconnect_delay_callback(|tries| Duration::from_millis((50 << tries.min(6)).min(2_000)));
    if let Some(credentials) = &fleet.nats_credentials {
        options = options
            .credentials(credentials)
            .map_err(ConnectError::Credentials)?;
    }
    let servers: Vec<&str> = fleet.nats_url.split(',').collect();
    let client = options.connect(servers).await?;
    let js = jetstream::context::ContextBuilder::new()
        .timeout(API_TIMEOUT)
        .build(client.clone());
    Ok((client, js, counted))
}

/// A connection to Redis that several tasks share and that reconnects by itself. Does not wait for the server.
pub fn redis(url: &str) -> Result<redis::aio::ConnectionManager, ConnectError> {
    let config = redis::aio::ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(Duration::from_secs(2)))
        // Whoever asks decides what to do without an answer; the next question tries again.
        .set_number_of_retries(0)
        .set_max_delay(Duration::from_secs(1));
    let info = redis::IntoConnectionInfo::into_connection_info(url)?;
    // Off by default, and worth 40 ms on a small answer.
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    let client = redis::Client::open(info.set_tcp_settings(tcp))?;
    Ok(redis::aio::ConnectionManager::new_lazy_with_config(
        client, config,
    )?)
}
