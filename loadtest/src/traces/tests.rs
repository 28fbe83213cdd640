#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use opentelemetry_proto::tonic::{
    collector::trace::v1::trace_service_client::TraceServiceClient,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status, span::Link as WireLink},
};

use super::*;

const TRACE: [u8; 16] = [0x4b; 16];
const RETRY: [u8; 16] = [0x5c; 16];

fn pair(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue {
        value: Some(Value::StringValue(text.into())),
    });
    KeyValue {
        key: key.into(),
        value,
        ..KeyValue::default()
    }
}

/// Times in microseconds since the trace's start.
fn wire(id: u8, parent: u8, name: &str, kind: i32, from: u64, to: u64) -> WireSpan {
    let base = 1_700_000_000_000_000_000;
    WireSpan {
        trace_id: TRACE.to_vec(),
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.into(),
        kind,
        start_time_unix_nano: base + from * 1000,
        end_time_unix_nano: base + to * 1000,
        ..WireSpan::default()
    }
}

fn export(service: &str, spans: Vec<WireSpan>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![pair("service.name", service)],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans,
        ..ScopeSpans::default()
    }];
    let group = ResourceSpans {
        resource: Some(resource),
        scope_spans,
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![group],
    }
}

fn journey() -> [ExportTraceServiceRequest; 2] {
    let mut server = wire(1, 0, "POST /webhooks/{source}", 2, 0, 3200);
    server.attributes = vec![
        pair("http.response.status_code", "202"),
        pair("thread.id", "7"),
        pair("http.route", "/webhooks/{source}"),
    ];
    let mut send = wire(2, 1, "send events.{service}", 4, 900, 3100);
    send.attributes = vec![pair(
        "messaging.message.id",
        "github:72d3162e-cc78-11e3-81ab-4c9367dc0958",
    )];
    let mut process = wire(3, 2, "process events.{service}", 5, 3500, 18_400);
    process.links = vec![WireLink {
        trace_id: TRACE.to_vec(),
        span_id: vec![2; 8],
        ..WireLink::default()
    }];
    let mut call = wire(4, 3, "GET", 3, 4000, 16_000);
    call.attributes = vec![pair("url.full", "http://127.0.0.1:9/repos/octo/cat/issues/1")];
    call.status = Some(Status {
        code: 2,
        message: "answered\u{1b}[2J 503".into(),
    });
    let commit = wire(5, 3, "commit results", 3, 16_100, 18_300);
    [
        export("weir-ingest", vec![server, send]),
        export("weir-worker", vec![commit, call, process]),
    ]
}

#[test]
fn the_tree_is_aligned_fits_and_shows_what_matters() {
    let spans: Vec<Arc<Span>> = journey()
        .into_iter()
        .flat_map(span::from_export)
        .map(Arc::new)
        .collect();
    let text = draw(&spans);
    let expected = "\
trace 4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b   5 spans, 2 services, 18.4 ms
POST /webhooks/{source}                        weir-ingest     server      3.20 ms ▬▬▬
│  http.route=/webhooks/{source}  http.response.status_code=202
└─ send events.{service}                       weir-ingest     producer    2.20 ms  ▬▬
   │  messaging.message.id=github:72d3162e-cc78-11e3-81ab-4c9367dc0958
   └─ process events.{service}                 weir-worker     consumer    14.9 ms    ▬▬▬▬▬▬▬▬▬▬▬▬▬▬
      │  ↗ link to span 0202020202020202 of this trace
      ├─ GET                                   weir-worker     client      12.0 ms     ▬▬▬▬▬▬▬▬▬▬▬
      │     url.full=http://127.0.0.1:9/repos/octo/cat/issues/1
      │     ✗ error: answered·[2J 503
      └─ commit results                        weir-worker     client      2.20 ms                ▬▬
";
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn hostile_traces_are_drawn_whole() {
    let mut spans = vec![wire(1, 2, "a", 1, 0, 10), wire(2, 1, "b", 1, 5, 0)];
    spans.push(wire(3, 9, &"long ".repeat(80), 1, 0, 1));
    spans.extend((10..60).map(|n| wire(n, n - 1, "deep", 1, 0, 1)));
    spans.push(WireSpan {
        span_id: vec![0; 8],
        ..wire(1, 0, "no id", 1, 0, 1)
    });
    let spans: Vec<Arc<Span>> = span::from_export(export("x", spans))
        .into_iter()
        .map(Arc::new)
        .collect();
    let text = draw(&spans);
    assert_eq!(spans.len(), 53);
    assert_eq!(text.matches("internal").count(), 53);
    assert!(text.contains("↑ parent 0909090909090909"));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn the_oldest_trace_is_forgotten_first() {
    let store = Store::new(2);
    for trace in 1..=3u8 {
        let span = WireSpan {
            trace_id: vec![trace; 16],
            ..wire(1, 0, "x", 1, 0, 1)
        };
        store.add(span::from_export(export("x", vec![span])));
    }
    assert!(store.trace(&"01".repeat(16)).is_empty());
    assert_eq!(store.trace(&"03".repeat(16)).len(), 1);
    assert_eq!(store.counts(), (2, 1));
}

#[tokio::test]
async fn spans_come_over_grpc_and_http_and_are_told_again() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let receiver = TraceReceiver::start_local().await.unwrap();
    let trace_id = hex::encode(TRACE);
    let [first, second] = journey();
    let (awaited, sent) = tokio::join!(receiver.wait_for(&trace_id, 5, Duration::from_secs(10)), async {
        let mut grpc = TraceServiceClient::connect(receiver.grpc_url()).await.unwrap();
        grpc.export(first).await.unwrap();
        let client = reqwest::Client::new();
        let url = format!("{}/v1/traces", receiver.http_url());
        let answer = client
            .post(url)
            .body(second.encode_to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        client
    });
    let spans = awaited.unwrap();
    let process = spans.iter().find(|span| span.kind == Kind::Consumer).unwrap();
    assert_eq!(process.parent_id.as_deref(), Some("0202020202020202"));

    let mut retry = wire(6, 0, "process events.{service}", 5, 50_000, 51_000);
    retry.trace_id = RETRY.to_vec();
    retry.links = process
        .links
        .iter()
        .map(|_| WireLink {
            trace_id: TRACE.to_vec(),
            span_id: vec![3; 8],
            ..WireLink::default()
        })
        .collect();
    let url = receiver.http_url();
    let body = export("weir-worker", vec![retry]).encode_to_vec();
    sent.post(format!("{url}/v1/traces"))
        .body(body)
        .send()
        .await
        .unwrap();
    receiver
        .wait_for(&hex::encode(RETRY), 1, Duration::from_secs(10))
        .await
        .unwrap();

    let ask = |path: String| sent.get(format!("{url}{path}")).send();
    let wanted = "/traces?attribute=messaging.message.id&value=github:72d3162e-cc78-11e3-81ab-4c9367dc0958";
    let found: Vec<Found> = ask(wanted.into()).await.unwrap().json().await.unwrap();
    assert_eq!(
        (found.len(), found[0].spans, found[0].duration_ns),
        (1, 5, 18_400_000)
    );
    let listed: Vec<Span> = ask(format!("/traces/{trace_id}"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(listed.len(), 5);
    let text = ask(format!("/traces/{trace_id}/tree"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.contains("followed by\ntrace 5c5c"), "{text}");
    let unknown = ask("/traces/ffff".into()).await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let bad = sent
        .post(format!("{url}/v1/traces"))
        .body("nonsense")
        .send()
        .await
        .unwrap();
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    let short = receiver
        .wait_for(&trace_id, 6, Duration::from_millis(20))
        .await
        .unwrap_err();
    assert!(short.to_string().contains("has 5 of 6 spans"));
    receiver.stop().await;
}
