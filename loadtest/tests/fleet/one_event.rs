//! One event through the whole house, and its trace.

use std::time::Duration;

use loadtest::provider::ProviderConfig;
use loadtest::traces::TraceReceiver;

use super::world::{World, issue_opened};

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_becomes_one_call_one_result_and_one_trace() {
    let traces = TraceReceiver::start_local().await.unwrap();
    let endpoint = traces.http_url();
    let mut world = World::new(
        ProviderConfig::default(),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)],
    )
    .await;
    let mut ingest = world.fleet.start("ingest").await.unwrap();
    let mut worker = world.fleet.start("worker").await.unwrap();

    let answer = world
        .webhook(&ingest, "72d3162e-cc78-11e3-81ab-4c9367dc0958", issue_opened())
        .await;
    assert_eq!(answer.status(), 202);
    let id = "github:72d3162e-cc78-11e3-81ab-4c9367dc0958";
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["id"], id);

    let row = world.result(id).await;
    assert_eq!(
        (row.state.as_str(), row.code.as_str(), row.attempts),
        ("done", "http_200", 1)
    );
    world.emptied("WEIR_github").await;
    let calls = world.provider.calls(Some(id), 10);
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(
        calls[0].path.contains("/issues/"),
        "the call that the webhook describes: {}",
        calls[0].path
    );
    assert_eq!(
        calls[0].traceparent, None,
        "our trace is no business of a stranger"
    );

    // Two processes send their spans by themselves, the last ones when they stop.
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
    assert_eq!(ingest.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
    let spans = traces
        .wait_for(&row.trace_id, 5, Duration::from_secs(20))
        .await
        .unwrap();
    println!("{}", traces.tree(&row.trace_id));
    assert_eq!(spans.len(), 5, "{spans:#?}");
    let named = |prefix: &str| {
        spans
            .iter()
            .find(|span| span.name.starts_with(prefix))
            .expect(prefix)
    };
    let (http, send, process) = (
        named("POST /webhooks/{source}"),
        named("send events.github"),
        named("process events.github"),
    );
    let (call, commit) = (named("GET /repos/"), named("commit results"));
    assert_eq!(http.parent_id, None);
    assert_eq!(send.parent_id.as_ref(), Some(&http.span_id));
    assert_eq!(process.parent_id.as_ref(), Some(&send.span_id));
    assert_eq!(call.parent_id.as_ref(), Some(&process.span_id));
    assert_eq!(commit.parent_id.as_ref(), Some(&process.span_id));
    let kinds = [http, send, process, call, commit].map(|span| span.kind.as_str());
    assert_eq!(kinds, ["server", "producer", "consumer", "client", "client"]);
    assert_eq!(
        (http.service.as_str(), process.service.as_str()),
        ("weir-ingest", "weir-worker")
    );
    assert_eq!(process.links.len(), 1, "a link to the publisher");
    assert_eq!(process.links[0].span_id, send.span_id);
    for (span, attribute, value) in [
        (send, "messaging.system", "nats"),
        (send, "messaging.operation.type", "send"),
        (process, "messaging.operation.type", "process"),
        (process, "messaging.destination.name", "events.github"),
        (process, "messaging.message.id", id),
        (call, "http.response.status_code", "200"),
        (http, "http.response.status_code", "202"),
    ] {
        assert_eq!(
            span.attributes.get(attribute).map(String::as_str),
            Some(value),
            "{} {attribute}",
            span.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_sent_three_times_has_one_effect_even_after_the_server_forgot_its_id() {
    // The shortest window there is, so that the third copy comes after it.
    let settings = [("WEIR_STREAM_DEDUP_WINDOW", "1s")];
    let mut world = World::new(ProviderConfig::default(), &settings).await;
    let ingest = world.fleet.start("ingest").await.unwrap();
    let mut worker = world.fleet.start("worker").await.unwrap();
    let delivery = "0b989ba4-242f-11e5-81e1-c7b6966d2516";
    let id = format!("github:{delivery}");
    // Kept, and known to be kept.
    for status in [202, 200] {
        assert_eq!(
            world.webhook(&ingest, delivery, issue_opened()).await.status(),
            status
        );
    }
    world.result(&id).await;
    world.emptied("WEIR_github").await;
    let stream = async || {
        world
            .js
            .get_stream("WEIR_github")
            .await
            .unwrap()
            .get_info()
            .await
            .unwrap()
            .state
    };
    let before = stream().await.last_sequence;
    // Until the server takes the id for a new one.
    super::world::until("a third copy in the stream", async || {
        world
            .webhook(&ingest, delivery, issue_opened())
            .await
            .error_for_status()
            .unwrap();
        (stream().await.last_sequence > before).then_some(())
    })
    .await;
    world.emptied("WEIR_github").await;
    assert_eq!(world.provider.calls(Some(&id), 10).len(), 1);
    assert_eq!(world.provider.stats().doubled.count, 0);
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
}
