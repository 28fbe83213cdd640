//! Connections: a bounded number, HTTP/1 and HTTP/2, and their end in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection may be silent, and how long the head of a request may take. Above the 60 s after which
/// common load balancers close an idle connection, so that they do it first and no request meets a closed one.
const SILENCE: Duration = Duration::from_secs(75);
/// Most bytes of a request's head; also the read buffer of an HTTP/1 connection.
const MAX_HEAD: usize = 64 * 1024;
/// Most headers of an HTTP/1 request.
const MAX_HEADERS: usize = 100;
/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;
/// Pause after the listener failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `stop`, at most `most` at once; then lets requests in flight finish. `false` when some
/// were still at work `grace` after `stop`; they are dropped.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    most: usize,
    open: Gauge,
    stop: CancellationToken,
    grace: Duration,
) -> bool {
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let server = Arc::new(builder());
    let mut connections = JoinSet::new();
    while let Some((stream, place)) = stop.run_until_cancelled(accept(&listener, &places)).await {
        while connections.try_join_next().is_some() {}
        // Answers are small and must not wait for the peer's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let open = Open::new(&open, place);
        let service = TowerToHyperService::new(router.clone());
        let (server, watcher, stop) = (Arc::clone(&server), graceful.watcher(), stop.clone());
        connections.spawn(async move {
            let _open = open;
            connection(&server, stream, service, watcher, &stop).await;
        });
    }
    drop(listener);
    tokio::time::timeout_at(Instant::now() + grace, graceful.shutdown())
        .await
        .is_ok()
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    builder
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        // The place first: what is not accepted waits in the kernel's backlog, and costs nothing here.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    server: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    watcher: Watcher,
    stop: &CancellationToken,
) {
    // The protocol is told from the first bytes, and nothing else bounds the wait for them.
    let spoken = tokio::time::timeout(SILENCE, stream.readable());
    if !matches!(stop.run_until_cancelled(spoken).await, Some(Ok(Ok(())))) {
        return;
    }
    let connection = server
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts a connection while it is open, and holds its place.
struct Open {
    open: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(open: &Gauge, place: OwnedSemaphorePermit) -> Self {
        open.inc();
        Self {
            open: open.clone(),
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.dec();
    }
}
