//! Whether a service's upstreams can be reached at all: a connection is made and closed again from time to time, which
//! costs nothing of any quota. Nothing is decided by it (calls that fail decide, see [`breaker`](super::breaker)); it is for
//! people, and shows an upstream that nobody has called yet.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use shared::subject::Service;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::upstreams::Upstream;

/// Pause between two looks; twice that after one that failed.
pub const EVERY: Duration = Duration::from_secs(30);
/// A connection that takes longer is none.
const LONGEST: Duration = Duration::from_secs(5);
/// A connection that takes longer is a bad one: calls wait for it as well.
const SLOW: Duration = Duration::from_secs(1);

/// How an upstream can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// At once.
    Healthy = 0,
    /// It takes more than a second to connect.
    Degraded = 1,
    /// Not at all, or not within five seconds.
    Unhealthy = 2,
}

/// What is shown of one upstream.
#[derive(Debug, Clone, Default)]
pub struct ReachMetrics {
    /// See [`Reach`], as a number.
    pub state: Gauge,
    /// How long the last connection took, in milliseconds.
    pub millis: Gauge,
}

fn judge(connected: &Result<(), String>, took: Duration) -> Reach {
    match connected {
        Err(_) => Reach::Unhealthy,
        Ok(()) if took > SLOW => Reach::Degraded,
        Ok(()) => Reach::Healthy,
    }
}

/// Looks at an upstream until `end`. Behind a proxy there is nothing to see: calls do not connect to it themselves.
pub fn watch(
    tasks: &TaskTracker,
    service: &Service,
    upstream: Arc<Upstream>,
    metrics: ReachMetrics,
    end: CancellationToken,
) {
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let set = |name: &&str| {
        std::env::var_os(name)
            .or_else(|| std::env::var_os(name.to_ascii_lowercase()))
            .is_some()
    };
    if proxies.iter().any(set) {
        return;
    }
    let service = service.clone();
    tasks.spawn(async move {
        let looks = async {
            let mut before = Reach::Healthy;
            loop {
                let start = Instant::now();
                let connected = connect(&upstream).await;
                let reach = judge(&connected, start.elapsed());
                metrics.state.set(reach as i64);
                metrics.millis.set(start.elapsed().as_millis() as i64);
                if reach != before {
                    let error = connected.as_ref().err().map_or("", String::as_str);
                    let upstream = &upstream.shown;
                    match reach {
                        Reach::Healthy => tracing::info!(%service, %upstream, "reached again"),
                        Reach::Degraded => tracing::warn!(%service, %upstream, "slow to connect to"),
                        Reach::Unhealthy => tracing::warn!(%service, %upstream, error, "cannot be reached"),
                    }
                    before = reach;
                }
                sleep(if connected.is_ok() { EVERY } else { EVERY * 2 }).await;
            }
        };
        end.run_until_cancelled(looks).await;
    });
}

/// Connects, and hangs up.
async fn connect(upstream: &Upstream) -> Result<(), String> {
    let host = upstream.url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = upstream.url.port_or_known_default().unwrap_or_default();
    match timeout(LONGEST, TcpStream::connect((host, port))).await {
        Ok(connected) => connected.map(drop).map_err(|error: io::Error| error.to_string()),
        Err(_) => Err(format!("no connection within {LONGEST:?}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_slow_connection_is_a_bad_one_and_none_is_worse() {
        let failed = || Err("refused".to_owned());
        assert_eq!(judge(&Ok(()), Duration::from_millis(999)), Reach::Healthy);
        assert_eq!(judge(&Ok(()), Duration::from_millis(1_001)), Reach::Degraded);
        assert_eq!(judge(&failed(), Duration::ZERO), Reach::Unhealthy);
    }

    #[tokio::test]
    async fn what_listens_can_be_reached_and_what_does_not_cannot() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Upstream {
            base: String::new(),
            url: format!("http://{address}/x").parse().unwrap(),
            shown: "x".into(),
            key: "x".into(),
        };
        connect(&upstream).await.unwrap();
        drop(listener);
        connect(&upstream).await.unwrap_err();
        let v6 = Upstream {
            url: "http://[::1]:1/".parse().unwrap(),
            ..upstream
        };
        let refused = connect(&v6).await.unwrap_err();
        assert!(!refused.contains("lookup"), "{refused}");
    }
}
