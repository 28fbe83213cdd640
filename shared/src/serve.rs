//! Connections: a bounded number, HTTP/1 and HTTP/2, none on which nothing goes on, and their end in order.

mod turn;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::turn::{Activity, Answers};

/// How many connections there may be, and what each of them may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections at once; what is above waits in the kernel's backlog.
    pub connections: usize,
    /// How long it may ask nothing and take nothing of its answers, whatever else it says, and how long the head of a
    /// request may take. Answers that wait for us are no silence. To be longer than what whoever connects allows an idle
    /// connection, so that they close it first and no request meets a closed one.
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
/// How long a connection that is closed for what it does, or does not, has for what is still in flight.
const CLOSING: Duration = Duration::from_secs(5);

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
    let server = Arc::new(builder(bounds));
    let mut connections = JoinSet::new();
    while let Some((stream, place)) = stop.run_until_cancelled(accept(&listener, &places)).await {
        while connections.try_join_next().is_some() {}
        // Answers are small and must not wait for the peer's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let open = Open::new(&open, place);
        let (server, router, stop) = (Arc::clone(&server), router.clone(), stop.clone());
        connections.spawn(async move {
            let _open = open;
            let stays = std::future::pending();
            let ended = connection(&server, stream, router, bounds.silence, &stop, stays).await;
            if let Err(error) = ended {
                tracing::debug!(error, "a connection ended early");
            }
        });
    }
    drop(listener);
    all_ended(connections, grace).await
}

/// Waits for connections that were told to end; whether they did in time. The others are dropped.
pub async fn all_ended(mut connections: JoinSet<()>, grace: Duration) -> bool {
    let ended = async { while connections.join_next().await.is_some() {} };
    timeout(grace, ended).await.is_ok()
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

/// Serves one connection until it ends, is silent for too long, has `outstayed` its time or `stop` comes. Requests in
/// flight may finish, within a few seconds unless it is for `stop`: then the caller bounds them.
///
/// # Errors
/// It did not end in order, and why.
pub async fn connection(
    server: &auto::Builder<TokioExecutor>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    silence: Duration,
    stop: &CancellationToken,
    outstayed: impl Future<Output = ()>,
) -> Result<(), String> {
    let activity = Activity::new();
    let service = Answers::new(router, activity.clone());
    let served = server
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let mut served = std::pin::pin!(served);
    let why = tokio::select! {
        ended = &mut served => return ended.map_err(|error| error.to_string()),
        () = stop.cancelled() => None,
        () = activity.silent(silence) => Some("nothing was asked for too long"),
        () = outstayed => Some("it was open for too long"),
    };
    served.as_mut().graceful_shutdown();
    let Some(why) = why else {
        return served.await.map_err(|error| error.to_string());
    };
    // HTTP/2 takes requests until the other side has confirmed the end, which it may never do.
    let _ = timeout(CLOSING, served).await;
    Err(why.into())
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

#[cfg(test)]
mod tests;
