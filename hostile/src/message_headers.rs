//! Headers and subjects of NATS messages, which any publisher may write.
//!
//! `x-check-subject` is the subject.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use opentelemetry::trace::TraceContextExt;
use shared::dead_letter::{DeadLetter, MAX_HISTORY, history, history_header};
use shared::subject::{Lane, Service, header, headers, lane_and_tenant, without};
use shared::telemetry::propagation::{extract, inject, rfc3339};

use crate::request::Request;

/// Headers are found whatever their case; a trace context is one by another reading too; histories keep their bounds;
/// the server's own headers are never sent on; every number of milliseconds has a date.
pub fn check(bytes: &[u8]) {
    let request = Request::read(bytes);
    let mut map = HeaderMap::new();
    for (name, value) in &request.headers {
        // As publishers in other languages write them.
        let name = if bytes.len().is_multiple_of(2) {
            name.as_str().to_owned()
        } else {
            name.as_str().to_ascii_uppercase()
        };
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        map.append(name.as_str(), value.as_str());
    }
    let map = Some(&map);

    let attempts = history(map);
    let written = history_header(&attempts);
    assert!(written.is_ascii() && !written.contains(['\r', '\n']));
    let newest = &attempts[attempts.len().saturating_sub(MAX_HISTORY)..];
    let mut carried = HeaderMap::new();
    carried.insert(headers::HISTORY, written);
    assert_eq!(history(Some(&carried)), newest);

    if let Some((context, span)) = extract(map) {
        let parent = header(map, headers::TRACEPARENT).unwrap_or_default().trim();
        let parts: Vec<&str> = parent.split('-').collect();
        let id = |at: usize, digits: usize| {
            let part = parts.get(at).copied().unwrap_or_default();
            part.len() == digits
                && part.bytes().all(|b| b.is_ascii_hexdigit())
                && part.bytes().any(|b| b != b'0')
        };
        assert!(id(1, 32) && id(2, 16), "{parent:?}");
        let mut sent = HeaderMap::new();
        inject(&context, &mut sent);
        let (_, again) = extract(Some(&sent)).expect("it was written just now");
        assert_eq!(
            (again.trace_id(), again.span_id()),
            (span.trace_id(), span.span_id())
        );
        assert!(context.span().span_context().is_valid());
    }

    let kept = without(map, &[headers::ID, headers::HISTORY]);
    for (name, _) in kept.iter() {
        let name: &str = name.as_ref();
        let lower = name.to_ascii_lowercase();
        assert!(
            !lower.starts_with("nats-") && lower != "weir-id" && lower != "weir-history",
            "{name}"
        );
    }
    for name in [headers::ACCEPTED, headers::DEAD_AT, headers::PLANNED] {
        if let Some(millis) = header(map, name).and_then(|text| text.parse().ok()) {
            let shown = rfc3339(UNIX_EPOCH + Duration::from_millis(millis));
            assert!(shown.len() >= 20 && shown.ends_with('Z'), "{shown}");
        }
    }

    replayed(map);

    let subject = request.told("subject").unwrap_or_default();
    let (lane, tenant) = lane_and_tenant(subject);
    assert!(tenant.is_none_or(|tenant| !tenant.contains('.')));
    let mut tokens = subject.split('.');
    if let (Some("events"), Some(Ok(service))) = (tokens.next(), tokens.next().map(Service::new)) {
        assert_eq!(Service::of_stream(&service.stream()).as_ref(), Some(&service));
        let (waits, due) = service.retry(lane, tenant, "token");
        assert_eq!(waits, format!("retry.sched.{service}.token"));
        // Where it goes when it is due is in the lane where it was.
        let (again, same) = lane_and_tenant(due.strip_prefix("retry.").unwrap_or_default());
        assert_eq!((again, same), (lane, tenant));
        assert!(Lane::ALL.contains(&lane));
    }
}

/// A dead letter is replayed to a subject of its own service's stream or not at all, whatever its headers say.
fn replayed(headers: Option<&HeaderMap>) {
    let message = StreamMessage {
        subject: "dead.github".into(),
        sequence: 1,
        headers: headers.cloned().unwrap_or_default(),
        payload: Bytes::new(),
        time: SystemTime::UNIX_EPOCH.into(),
    };
    let letter = DeadLetter::read(&message).expect("a dead letter's subject");
    let Some(home) = letter.home() else {
        return;
    };
    let tokens: Vec<&str> = home.split('.').collect();
    assert!(
        tokens
            .iter()
            .all(|token| !token.is_empty() && !token.contains(['*', '>', ' ', '\t', '\r', '\n']))
    );
    let matches = |subject: &String| {
        let pattern: Vec<&str> = subject.split('.').collect();
        pattern.len() == tokens.len() && pattern.iter().zip(&tokens).all(|(p, t)| *p == "*" || p == t)
    };
    assert!(letter.service.subjects().iter().any(matches), "{home}");
}
