//! The two spans of a request: the request itself, and each event on its way to NATS.

use http::{HeaderMap, Method};
use shared::subject::headers::{TRACEPARENT, TRACESTATE};
use shared::telemetry::{TRACE, propagation};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::metrics::Route;

/// The span of a request, a child of the caller's where the request names one.
pub fn server(route: Route, method: &Method, path: &str, headers: &HeaderMap) -> Span {
    let name = match route {
        Route::Webhook => "POST /webhooks/{source}",
        Route::Event => "POST /v1/events/{service}",
        Route::Batch => "POST /v1/events/{service}/batch",
        Route::Other => "HTTP",
    };
    let span = tracing::info_span!(
        target: TRACE,
        "request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = field::Empty,
        "http.request.method" = method.as_str(),
        "http.route" = route.template(),
        "url.path" = path,
        "http.response.status_code" = field::Empty,
    );
    // Before anything is logged in the span: its ids are settled by then.
    if let Some(parent) = headers.get(TRACEPARENT).and_then(|v| v.to_str().ok()) {
        let mut carrier = async_nats::HeaderMap::new();
        carrier.insert(TRACEPARENT, parent);
        if let Some(state) = headers.get(TRACESTATE).and_then(|v| v.to_str().ok()) {
            carrier.insert(TRACESTATE, state);
        }
        if let Some((context, _)) = propagation::extract(Some(&carrier)) {
            let _ = span.set_parent(context);
        }
    }
    span
}

/// Notes the answer to a request.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", u64::from(status));
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of one event's publishing, a child of the current one. `name` is `send events.<service>`.
pub fn producer(name: &str, subject: &str, id: &str, bytes: usize) -> Span {
    tracing::info_span!(
        target: TRACE,
        "send",
        otel.name = name,
        otel.kind = "producer",
        otel.status_code = field::Empty,
        "messaging.system" = "nats",
        "messaging.operation.name" = "send",
        "messaging.operation.type" = "send",
        "messaging.destination.name" = subject,
        "messaging.message.id" = id,
        "messaging.message.body.size" = bytes as u64,
    )
}
