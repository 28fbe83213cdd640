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
use crate::subject::headers::TRACEPARENT;

/// Longest `tracestate` that is carried on, in bytes: what W3C Trace Context asks everybody to carry at least. JetStream
/// refuses messages whose headers take more than 64 KiB together.
const MAX_STATE: usize = 512;

/// The last millisecond that RFC 3339 can write, since the Unix epoch.
const LAST: Duration = Duration::from_millis(253_402_300_799_999);

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
            header(self.0, key).filter(|value| value.len() <= MAX_STATE)
        }

        fn keys(&self) -> Vec<&str> {
            Vec::new()
        }
    }
    if !header(headers, TRACEPARENT).is_some_and(is_traceparent) {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    let span = context.span().span_context().clone();
    span.is_valid().then_some((context, span))
}

/// Whether this is `<version>-<trace id>-<parent id>-<flags>` as W3C Trace Context has it: 2, 32, 16 and 2 hex digits in
/// lower case, more parts only in versions to come. The propagator itself takes signs and other lengths too.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.trim().splitn(5, '-').collect();
    let fits = |(part, digits): (&&str, usize)| {
        part.len() == digits
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    };
    parts.len() >= 4 && (parts.len() == 4 || parts[0] != "00") && parts.iter().zip([2, 32, 16, 2]).all(fits)
}

/// Milliseconds since the Unix epoch.
pub fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis() as u64
}

/// A time as RFC 3339 with milliseconds, in UTC. One after the year 9999, which a number in a header can say, is shown
/// as the end of that year; one before 1970 as its beginning.
pub fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    let at = OffsetDateTime::from(UNIX_EPOCH + since);
    at.replace_millisecond(at.millisecond())
        .unwrap_or(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_contexts_are_taken_in_the_form_that_they_must_have() {
        let taken = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Traceparent", text);
            extract(Some(&headers)).map(|(_, span)| span.trace_id().to_string())
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        for good in ["00-{id}-b7ad6b7169203331-01", "cc-{id}-b7ad6b7169203331-01-more"] {
            assert_eq!(taken(&good.replace("{id}", id)).as_deref(), Some(id), "{good}");
        }
        for bad in [
            "",
            "00-+{id}-b7ad6b7169203331-01",
            "00-{id}-+7ad6b7169203331-01",
            "00-f7-7-01",
            "00-{id}-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-{id}-b7ad6b7169203331-01",
        ] {
            assert_eq!(taken(&bad.replace("{id}", id)), None, "{bad}");
        }
    }

    #[test]
    fn vendors_parts_of_a_context_are_carried_within_bounds() {
        let carried = |state: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                TRACEPARENT,
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            );
            headers.insert("tracestate", state);
            let (context, _) = extract(Some(&headers)).expect("a context");
            let mut sent = HeaderMap::new();
            inject(&context, &mut sent);
            header(Some(&sent), "tracestate").unwrap_or_default().to_owned()
        };
        assert_eq!(carried("a=1,b=2"), "a=1,b=2");
        let long = |last| format!("a={},b={}", "x".repeat(253), "x".repeat(last));
        assert_eq!(carried(&long(254)), long(254));
        assert_eq!(carried(&long(255)), "");
    }

    #[test]
    fn times_that_have_no_date_are_shown_as_the_last_that_has_one() {
        let shown = |millis| rfc3339(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(1_795_248_000_123), "2026-11-21T08:00:00.123Z");
        for far in [253_402_300_799_999, 253_402_300_800_000, u64::MAX] {
            assert_eq!(shown(far), "9999-12-31T23:59:59.999Z");
        }
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), shown(0));
    }
}
