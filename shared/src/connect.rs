//! Connections to NATS and Redis, made the same way by every service.

mod reach;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ServerAddr, jetstream};
use percent_encoding::percent_decode_str;
use tokio::sync::{Notify, watch};

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
    let trouble = Arc::new(Notify::new());
    tokio::spawn(reach::tell(
        fleet.nats_url.clone(),
        Arc::clone(&trouble),
        counted.clone(),
    ));
    let mut options = async_nats::ConnectOptions::new()
        .name(name)
        .retry_on_initial_connect()
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .event_callback(move |event| {
            match event {
                async_nats::Event::Connected => connects.send_modify(|times| *times += 1),
                async_nats::Event::Disconnected => tracing::warn!("the connection to NATS is lost"),
                async_nats::Event::ClientError(_) => trouble.notify_one(),
                _ => {}
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
    // The client reads them from no URL, whatever it says.
    match login(&servers) {
        Some((user, Some(password))) => options = options.user_and_password(user, password),
        Some((token, None)) => options = options.token(token),
        None => {}
    }
    let client = options.connect(servers).await?;
    let js = jetstream::context::ContextBuilder::new()
        .timeout(API_TIMEOUT)
        .build(client.clone());
    Ok((client, js, counted))
}

/// User and password, or a token, of the first URL that has any.
fn login(urls: &[&str]) -> Option<(String, Option<String>)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut servers = urls.iter().filter_map(|url| url.parse::<ServerAddr>().ok());
    servers.find_map(|server| Some((decoded(server.username()?), server.password().map(decoded))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reader;
    use crate::servers::{Nats, NatsOptions};

    #[test]
    fn logins_are_read_from_urls() {
        let of = |urls: &[&str]| login(urls);
        assert_eq!(of(&["nats://127.0.0.1:4222"]), None);
        assert_eq!(
            of(&["nats://a:4222", "tls://us%40er:p%3Aw@b"]),
            Some(("us@er".into(), Some("p:w".into())))
        );
        assert_eq!(of(&["nats://s3cret@a"]), Some(("s3cret".into(), None)));
    }

    #[tokio::test]
    async fn a_login_in_the_url_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let server = Nats::start(NatsOptions {
            login: Some(("weir".into(), "p:w/d".into())),
            ..NatsOptions::new(dir.path())
        });
        let server = server.await.unwrap();
        let url = server.url().replace("nats://", "nats://weir:p%3Aw%2Fd@");
        let env = std::collections::BTreeMap::from([("WEIR_NATS_URL".to_owned(), url)]);
        let fleet = Fleet::read(&mut Reader::new(&env));
        let (client, _) = nats(&fleet, "test").await.unwrap();
        let flushed = tokio::time::timeout(Duration::from_secs(10), client.flush()).await;
        flushed.unwrap().unwrap();
        assert_eq!(
            client.connection_state(),
            async_nats::connection::State::Connected
        );
    }
}
