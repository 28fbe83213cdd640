//! One trace from the caller through ingest into the message.

use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use shared::subject::{header, headers as names};
use shared::telemetry::TRACE;
use tokio::time::{Instant, sleep};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::running::{PATIENCE, Running};

static SPANS: Mutex<Vec<SpanData>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Keep;

impl SpanExporter for Keep {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        SPANS.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Records the spans of every test in this process.
pub(super) fn install() {
    static INSTALLED: LazyLock<()> = LazyLock::new(|| {
        let provider = SdkTracerProvider::builder().with_simple_exporter(Keep).build();
        let ours = tracing_subscriber::filter::filter_fn(|m| m.is_span() && m.target() == TRACE);
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing_subscriber::registry()
            .with(layer.with_filter(ours))
            .init();
    });
    LazyLock::force(&INSTALLED);
}

async fn spans(trace: &str, count: usize) -> Vec<SpanData> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let of_trace = |span: &&SpanData| span.span_context.trace_id().to_string() == trace;
        let spans: Vec<SpanData> = SPANS.lock().unwrap().iter().filter(of_trace).cloned().collect();
        if spans.len() >= count {
            return spans;
        }
        assert!(Instant::now() < deadline, "{spans:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn attribute(span: &SpanData, name: &str) -> String {
    let found = span.attributes.iter().find(|kv| kv.key.as_str() == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in {:?}", span.attributes))
        .value
        .to_string()
}

#[tokio::test]
async fn the_message_carries_the_callers_trace() {
    let running = Running::start(&[]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = [
        ("traceparent", &*format!("00-{trace}-00f067aa0ba902b7-01")),
        ("tracestate", "vendor=1"),
    ];
    let body = r#"{"v":1,"type":"t","id":"traced","tenant":"acme"}"#;
    assert_eq!(running.event("http", &parent, body).await.status, 202);

    let spans = spans(trace, 2).await;
    let server = spans.iter().find(|s| s.span_kind == SpanKind::Server).unwrap();
    let producer = spans.iter().find(|s| s.span_kind == SpanKind::Producer).unwrap();
    assert_eq!(server.name, "POST /v1/events/{service}");
    assert_eq!(
        server.parent_span_id,
        SpanId::from_hex("00f067aa0ba902b7").unwrap()
    );
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/events/{service}"),
        ("url.path", "/v1/events/http"),
        ("http.response.status_code", "202"),
    ] {
        assert_eq!(attribute(server, name), value);
    }
    assert_eq!(producer.name, "send events.http");
    assert_eq!(producer.parent_span_id, server.span_context.span_id());
    let (subject, headers, _) = running.messages("http").await.remove(0);
    for (name, value) in [
        ("messaging.system", "nats"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", &*subject),
        ("messaging.message.id", "traced"),
    ] {
        assert_eq!(attribute(producer, name), value);
    }
    assert!(
        attribute(producer, "messaging.message.body.size")
            .parse::<u64>()
            .unwrap()
            > 10
    );
    let carried = header(Some(&headers), names::TRACEPARENT).unwrap();
    assert_eq!(
        carried,
        format!("00-{trace}-{}-01", producer.span_context.span_id())
    );
    assert_eq!(header(Some(&headers), names::TRACESTATE), Some("vendor=1"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_webhook_is_a_trace_of_its_own() {
    let running = Running::start(&[]).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = [("traceparent", &*format!("00-{trace}-b7ad6b7169203331-01"))];
    assert_eq!(running.post("/webhooks/github", &parent, "{}").await.status, 401);
    let spans = spans(trace, 1).await;
    assert_eq!(spans[0].name, "POST /webhooks/{source}");
    assert_eq!(attribute(&spans[0], "http.response.status_code"), "401");
    running.stop().await.unwrap();
}
