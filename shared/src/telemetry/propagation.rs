//! Trace context in message headers, and times as people and NATS write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::subject::header;

/// Writes a span's context into headers, names in lower case.
pub fn inject(context: &Context, headers: &mut HeaderMap) {
    struct Headers<'a>(&'a mut HeaderMap);
    impl Injector for Headers<'_> {
        fn set(&mut self, key: &str, value: String) {
            if !value.is_empty() {
                self.0.insert(key.to_ascii_lowercase().as_str(), value.as_str());
            }
        }
    }
    TraceContextPropagator::new().inject_context(context, &mut Headers(headers));
}

/// The context that a publisher left in a message's headers, whatever their case; `None` when there is none that is
/// valid.
pub fn extract(headers: Option<&HeaderMap>) -> Option<(Context, SpanContext)> {
    struct Headers<'a>(Option<&'a HeaderMap>);
    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            header(self.0, key)
        }

        fn keys(&self) -> Vec<&str> {
            Vec::new()
        }
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    let span = context.span().span_context().clone();
    span.is_valid().then_some((context, span))
}

/// Milliseconds since the Unix epoch.
pub fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis() as u64
}

/// A time as RFC 3339 with milliseconds, in UTC.
pub fn rfc3339(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.replace_millisecond(at.millisecond())
        .unwrap_or(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}
