//! Publishes what an event owes, one message at a time, each awaited.

use std::time::Duration;

use async_nats::jetstream;
use opentelemetry::trace::TraceContextExt;
use shared::subject::{header, headers};
use shared::telemetry::{TRACE, propagation};
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Message;

/// How long one waits for its acknowledgement. A message that a dying leader has swallowed is never answered.
const WITHIN: Duration = Duration::from_millis(2500);

/// Publishes a message and waits until the server has it; one that it has already is as good.
pub(super) async fn publish(message: &Message, js: &jetstream::Context) -> Result<(), String> {
    let span = span(message);
    let mut map = message.headers.clone();
    if !message.is_letter() && span.context().span().span_context().is_valid() {
        propagation::inject(&span.context(), &mut map);
    }
    let sent = async {
        let ack = js
            .publish_with_headers(message.subject.clone(), map, message.payload.clone())
            .await?;
        ack.await
    };
    let answered = tokio::time::timeout(WITHIN, sent).instrument(span.clone()).await;
    let outcome = match answered {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(std::error::Error::source(&error)
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))),
        Err(_) => Err("no acknowledgement came in time".into()),
    };
    if outcome.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    outcome
}

/// The span of one publishing, a child of the one we are in, or of the one that the decision was made in.
fn span(message: &Message) -> Span {
    if !tracing::span_enabled!(target: TRACE, tracing::Level::INFO) {
        return Span::none();
    }
    let parent = Span::current();
    // The service's subject, as ingest has it: without the lane, and without the tenant.
    let second = message.subject.match_indices('.').nth(1).map(|(at, _)| at);
    let place = &message.subject[..second.unwrap_or(message.subject.len())];
    let span = info_span!(
        target: TRACE,
        "send",
        otel.name = %format_args!("send {place}"),
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "nats",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = message.subject,
        messaging.message.id = header(Some(&message.headers), headers::MESSAGE_ID),
        messaging.message.body.size = message.payload.len(),
        weir.rule = message.rule,
    );
    if parent.is_disabled()
        && let Some((context, _)) = propagation::extract(Some(&message.headers))
    {
        let _ = span.set_parent(context);
    }
    span
}
