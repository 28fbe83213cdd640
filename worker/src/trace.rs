//! The spans of an event in a worker. At most three: process, outbound call, commit.

use opentelemetry::trace::{SpanContext, TraceContextExt};
use shared::event::Event;
use shared::telemetry::{TRACE, propagation};
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::delivery::Delivery;
use crate::pool::Pool;

/// Name of the span around the group commit as one event sees it.
pub const COMMIT: &str = "commit results";

/// The span of processing one delivery. A first delivery continues the publisher's trace and links to it; a delayed
/// retry begins a trace of its own that links back, because it may come hours later.
pub fn process_span(pool: &Pool, delivery: &Delivery, event: Option<&Event>) -> Span {
    if !tracing::span_enabled!(target: TRACE, tracing::Level::INFO) {
        return Span::none();
    }
    let service = &pool.config.service;
    let failed = delivery.failed_attempts();
    let span = info_span!(
        target: TRACE,
        "process",
        otel.name = %format_args!("process events.{service}"),
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "nats",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = delivery.subject(),
        messaging.consumer.group.name = delivery.lane_and_tenant().0.as_str(),
        messaging.message.id = event.map(|event| event.id.as_str()),
        messaging.message.body.size = delivery.payload_len(),
        weir.event.type = event.map(|event| event.kind.as_str()),
        weir.attempt = failed + 1,
        weir.delivered = delivery.delivered,
        weir.group = tracing::field::Empty,
    );
    if !span.is_disabled()
        && let Some((context, publisher)) = propagation::extract(delivery.headers())
    {
        if failed == 0 {
            let _ = span.set_parent(context);
        }
        span.add_link(publisher);
    }
    span
}

/// The span of waiting for the group commit.
pub fn commit_span() -> Span {
    info_span!(
        target: TRACE,
        "commit",
        otel.name = COMMIT,
        otel.kind = "client",
        db.system.name = "postgresql",
        db.operation.name = "INSERT",
        db.collection.name = "outcomes",
    )
}

/// The trace of an event in hand: that of the span we are in, or where we make none, the publisher's; empty when
/// there is neither.
pub fn id_of(delivery: &Delivery) -> String {
    let span = Span::current();
    let context = if span.is_disabled() {
        None
    } else {
        Some(span.context())
    };
    let own = context.map(|context| context.span().span_context().clone());
    let known = own.filter(SpanContext::is_valid);
    let known = known.or_else(|| propagation::extract(delivery.headers()).map(|(_, publisher)| publisher));
    known.map(|span| span.trace_id().to_string()).unwrap_or_default()
}
