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

/// How many connections there may be, and what each of them may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections at once; what is above waits in the kernel's backlog.
    pub connections: usize,
    /// How long it may be silent, and how long the head of a request may take. To be longer than what whoever connects
    /// allows an idle connection, so that they close it first and no request meets a closed one.
    pub silence: Duration,
    /// Most bytes of a request's head; also the read buffer of an HTTP/1 connection.
    pub head: u32,
    /// Most headers of an HTTP/1 request.
    pub headers: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub streams: u32,
}

/// Pause after the listener failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Bounds {
    /// A place for each connection.
    pub fn places(self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.connections.min(Semaphore::MAX_PERMITS)))
    }
}

/// Serves connections until `stop`, counted in `open`; then lets requests in flight finish. `false` when some
/// were still at work `grace` after `stop`; they are dropped.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    open: Gauge,
    stop: CancellationToken,
    grace: Duration,
) -> bool {
    let places = bounds.places();
    let graceful = GracefulShutdown::new();
    let server = Arc::new(builder(bounds));
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
            connection(&server, stream, bounds.silence, service, watcher, &stop).await;
        });
    }
    drop(listener);
    tokio::time::timeout_at(Instant::now() + grace, graceful.shutdown())
        .await
        .is_ok()
}

/// Connections of HTTP/1 and HTTP/2 within `bounds`.
pub fn builder(bounds: Bounds) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.silence)
        .max_headers(bounds.headers)
        .max_buf_size(bounds.head as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(bounds.silence)
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(bounds.head);
    builder
}

/// The next connection, when there is a place for it.
pub async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
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
    silence: Duration,
    service: TowerToHyperService<Router>,
    watcher: Watcher,
    stop: &CancellationToken,
) {
    // The protocol is told from the first bytes, and nothing else bounds the wait for them.
    let spoken = tokio::time::timeout(silence, stream.readable());
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
