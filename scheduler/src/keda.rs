//! KEDA's external scaler over gRPC, for the triggers `external` and `external-push`. Every replica answers.
//!
//! What is not known is an error, never `false` and never zero: KEDA then leaves the count as it is.

mod scaler;
mod trigger;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

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

/// Most calls at a time on one connection. KEDA makes one connection for all its triggers, and holds a call open for
/// each `external-push` one.
const MOST_CALLS: u32 = 1_024;
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
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let scaler = scaler::Scaler::new(self.board, shutdown.clone());
        let stop = shutdown.clone();
        let served = Server::builder()
            .max_concurrent_streams(MOST_CALLS)
            .add_service(ExternalScalerServer::new(scaler).max_decoding_message_size(MOST_BYTES))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), shutdown.cancelled_owned());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        // A peer that never says anything would keep the server for ever.
        tokio::select! {
            served = served => served?,
            () = overdue => {}
        }
        Ok(())
    }
}

/// The KEDA listener ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The server on it.
    #[error(transparent)]
    Server(#[from] tonic::transport::Error),
}
