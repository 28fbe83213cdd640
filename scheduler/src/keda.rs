//! KEDA's external scaler over gRPC, for the triggers `external` and `external-push`. Every replica answers.
//!
//! What is not known is an error, never `false` and never zero: KEDA then leaves the count as it is.

mod scaler;
mod trigger;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use prometheus_client::metrics::gauge::Gauge;
use shared::serve::{Bounds, serve};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

use crate::board::Board;
use proto::external_scaler_server::ExternalScalerServer;

/// The interface as KEDA publishes it.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "made from proto/externalscaler.proto, which says what is what"
)]
pub mod proto {
    tonic::include_proto!("externalscaler");
}

/// KEDA makes one connection for all its triggers, and holds a call open for each `external-push` one. It asks every 30 s
/// unless told otherwise, and keeps its connection in between. There are a few more while one KEDA takes over from another.
const BOUNDS: Bounds = Bounds {
    connections: 32,
    silence: Duration::from_secs(120),
    head: 64 * 1024,
    headers: 100,
    streams: 1_024,
};
/// Most calls at once that are not answered yet. Each takes less than a millisecond once it was read.
const CALLS: usize = 1_024;
/// Longest time of a call until its answer begins: nothing but what was sent of it is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long calls may go on after the process was told to stop.
const GRACE: Duration = Duration::from_secs(2);
/// Most bytes of a request: a trigger's metadata is a few lines.
const MOST_BYTES: usize = 64 * 1024;

/// Listens for KEDA. Can be run again where it ended.
#[derive(Debug, Clone)]
pub struct Listener {
    listener: Arc<std::net::TcpListener>,
    board: Arc<Board>,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn bind(address: SocketAddr, board: Arc<Board>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: Arc::new(listener),
            board,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `shutdown`; then open streams end.
    ///
    /// # Errors
    /// Connections cannot be taken.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let scaler = scaler::Scaler::new(self.board, shutdown.clone());
        let scaler = ExternalScalerServer::new(scaler).max_decoding_message_size(MOST_BYTES);
        let calls = Arc::new(Semaphore::new(CALLS));
        let bounded = middleware::from_fn(move |request, next| bounded(Arc::clone(&calls), request, next));
        let router = Routes::new(scaler).into_axum_router().layer(bounded);
        // Streams end by themselves; a peer that never says anything must not keep the server.
        if !serve(listener, router, BOUNDS, Gauge::default(), shutdown, GRACE).await {
            tracing::debug!("calls of KEDA's were still open at the end");
        }
        Ok(())
    }
}

async fn bounded(calls: Arc<Semaphore>, request: Request, next: Next) -> Response {
    let Ok(_place) = calls.try_acquire() else {
        return Status::resource_exhausted("too many calls are on their way").into_http();
    };
    match timeout(PATIENCE, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => Status::deadline_exceeded("the call was not there in time").into_http(),
    }
}
