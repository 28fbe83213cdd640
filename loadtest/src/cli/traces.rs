//! `weir-loadtest traces`.

use clap::Args;
use loadtest::traces::{DEFAULT_CAPACITY, TraceReceiver};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{CliError, say};

/// Runs an OTLP receiver that keeps traces in memory and shows them as trees.
///
/// Prints one JSON line with its addresses when it is ready. Ask it on its HTTP address:
/// GET /traces?attribute=messaging.message.id&value=<event id>, GET /traces/<id>, GET /traces/<id>/tree.
#[derive(Debug, Args)]
pub(super) struct TracesArgs {
    /// Address of the gRPC receiver (OTLP); port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    grpc: String,
    /// Address of the HTTP receiver (OTLP, protobuf) and of the questions.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    http: String,
    /// Spans kept, about 1 KiB each; the oldest traces go first.
    #[arg(long, default_value_t = DEFAULT_CAPACITY, value_name = "N")]
    spans: usize,
}

impl TracesArgs {
    pub(super) async fn run(self, stop: &CancellationToken) -> Result<(), CliError> {
        let grpc = TcpListener::bind(&self.grpc).await;
        let grpc = grpc.map_err(CliError::at(format!("--grpc {}", self.grpc)))?;
        let http = TcpListener::bind(&self.http).await;
        let http = http.map_err(CliError::at(format!("--http {}", self.http)))?;
        let receiver = TraceReceiver::start(grpc, http, self.spans).map_err(CliError::at("starting"))?;
        let (grpc, http) = (receiver.grpc_url(), receiver.http_url());
        say(&json!({"ready": "traces", "grpc": grpc, "http": http, "pid": std::process::id()}))?;
        stop.cancelled().await;
        receiver.stop().await;
        Ok(())
    }
}
