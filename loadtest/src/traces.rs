//! An OTLP receiver: takes traces over gRPC and HTTP, keeps them in bounded memory, and tells them again.
//!
//! On the HTTP port: `POST /v1/traces` (protobuf), `GET /traces/{id}` (spans as JSON),
//! `GET /traces/{id}/tree` (text for a terminal), `GET /traces?attribute=<name>&value=<value>`
//! (the traces with such a span, newest first).

mod span;
mod store;
#[cfg(test)]
mod tests;
mod tree;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

pub use self::{
    span::{Kind, Link, Span},
    store::{Incomplete, Store},
    tree::{draw, human},
};

/// Spans kept unless told otherwise; about 1 KiB each.
pub const DEFAULT_CAPACITY: usize = 200_000;
/// Largest export taken, in bytes.
const MAX_EXPORT: usize = 16 * 1024 * 1024;
/// Traces listed in one answer, and linked traces drawn under a trace.
const MAX_LISTED: usize = 50;
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A running receiver; dropping it stops it without waiting.
pub struct TraceReceiver {
    grpc: SocketAddr,
    http: SocketAddr,
    store: Arc<Store>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// A trace found by an attribute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// 32 hex digits.
    pub trace_id: String,
    /// Spans received so far.
    pub spans: usize,
    /// Name of its earliest span.
    pub root: String,
    /// From its first start to its last end, nanoseconds.
    pub duration_ns: u64,
}

impl TraceReceiver {
    /// Serves gRPC and HTTP on two listeners and keeps about `capacity` spans.
    pub fn start(grpc: TcpListener, http: TcpListener, capacity: usize) -> io::Result<Self> {
        let store = Arc::new(Store::new(capacity));
        let stop = CancellationToken::new();
        let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
        let service =
            TraceServiceServer::new(Exports(Arc::clone(&store))).max_decoding_message_size(MAX_EXPORT);
        let stopped = stop.clone();
        let grpc_task = tokio::spawn(async move {
            let serving = tonic::transport::Server::builder().serve_with_incoming_shutdown(
                service,
                TcpIncoming::from(grpc),
                stopped.cancelled_owned(),
            );
            if let Err(error) = serving.await {
                tracing::error!(%error, "the OTLP gRPC receiver ended");
            }
        });
        let app = router(Arc::clone(&store));
        let stopped = stop.clone();
        let http_task = tokio::spawn(async move {
            let serving = axum::serve(http, app).with_graceful_shutdown(stopped.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::error!(%error, "the OTLP HTTP receiver ended");
            }
        });
        let tasks = vec![grpc_task, http_task];
        Ok(Self {
            grpc: grpc_address,
            http: http_address,
            store,
            stop,
            tasks,
        })
    }

    /// Starts on two free loopback ports with [`DEFAULT_CAPACITY`].
    pub async fn start_local() -> io::Result<Self> {
        let grpc = TcpListener::bind("127.0.0.1:0").await?;
        let http = TcpListener::bind("127.0.0.1:0").await?;
        Self::start(grpc, http, DEFAULT_CAPACITY)
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT` with the protocol `grpc`.
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT` with the protocol `http/protobuf`, and for questions.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Every span kept.
    pub fn spans(&self) -> Vec<Arc<Span>> {
        self.store.spans()
    }

    /// The spans of one trace by their start; the id is 32 hex digits.
    pub fn trace(&self, trace_id: &str) -> Vec<Arc<Span>> {
        self.store.trace(trace_id)
    }

    /// Ids of the traces with a span that has this attribute value, newest first.
    pub fn find(&self, attribute: &str, value: &str) -> Vec<String> {
        self.store.find(attribute, value, MAX_LISTED)
    }

    /// Waits until a trace has `count` spans; returns all it then has, by their start.
    pub async fn wait_for(
        &self,
        trace_id: &str,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<Arc<Span>>, Incomplete> {
        self.store.wait_for(trace_id, count, deadline).await
    }

    /// The trace as a tree, and below it the traces that link into it; empty when unknown.
    pub fn tree(&self, trace_id: &str) -> String {
        draw_with_linked(&self.store, trace_id)
    }

    /// Closes the connections and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for mut task in self.tasks.drain(..) {
            if tokio::time::timeout(STOP_PATIENCE, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

impl Drop for TraceReceiver {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Exports(Arc<Store>);

#[tonic::async_trait]
impl TraceService for Exports {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.add(span::from_export(request.into_inner()));
        Ok(tonic::Response::new(ExportTraceServiceResponse {
            partial_success: None,
        }))
    }
}

fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/v1/traces", post(export))
        .route("/traces", get(search))
        .route("/traces/{id}", get(show))
        .route("/traces/{id}/tree", get(show_tree))
        .layer(DefaultBodyLimit::max(MAX_EXPORT))
        .with_state(store)
}

async fn export(State(store): State<Arc<Store>>, body: Bytes) -> Response {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return (
            StatusCode::BAD_REQUEST,
            "the body is no ExportTraceServiceRequest in protobuf\n",
        )
            .into_response();
    };
    store.add(span::from_export(request));
    let answer = ExportTraceServiceResponse {
        partial_success: None,
    }
    .encode_to_vec();
    ([(header::CONTENT_TYPE, "application/x-protobuf")], answer).into_response()
}

#[derive(Deserialize)]
struct Search {
    attribute: String,
    value: String,
}

async fn search(State(store): State<Arc<Store>>, Query(wanted): Query<Search>) -> Json<Vec<Found>> {
    let ids = store.find(&wanted.attribute, &wanted.value, MAX_LISTED);
    Json(ids.into_iter().map(|id| found(&store, id)).collect())
}

fn found(store: &Store, trace_id: String) -> Found {
    let spans = store.trace(&trace_id);
    let start = spans.first().map_or(0, |span| span.start_ns);
    let end = spans.iter().map(|span| span.end_ns).max().unwrap_or(start);
    let root = spans.first().map_or_else(String::new, |span| span.name.clone());
    Found {
        trace_id,
        spans: spans.len(),
        root,
        duration_ns: end - start,
    }
}

async fn show(State(store): State<Arc<Store>>, Path(id): Path<String>) -> Response {
    let spans = store.trace(&id.to_ascii_lowercase());
    if spans.is_empty() {
        return unknown();
    }
    let spans: Vec<&Span> = spans.iter().map(AsRef::as_ref).collect();
    Json(spans).into_response()
}

async fn show_tree(State(store): State<Arc<Store>>, Path(id): Path<String>) -> Response {
    let text = draw_with_linked(&store, &id.to_ascii_lowercase());
    if text.is_empty() {
        unknown()
    } else {
        text.into_response()
    }
}

fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "no span of this trace was received\n").into_response()
}

fn draw_with_linked(store: &Store, trace_id: &str) -> String {
    let mut text = draw(&store.trace(trace_id));
    if text.is_empty() {
        return text;
    }
    for linked in store.linked_to(trace_id, MAX_LISTED).iter().rev() {
        text.push_str("\nfollowed by\n");
        text.push_str(&draw(&store.trace(linked)));
    }
    text
}
