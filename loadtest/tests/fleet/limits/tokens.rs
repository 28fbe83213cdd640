//! Costs that only the answer tells.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use super::super::world::{World, calls, until};
use loadtest::provider::ProviderConfig;

const PERIOD: Duration = Duration::from_secs(10);
const TOKENS: u64 = 20_000;

/// What the endpoint has counted.
#[derive(Default)]
struct Meter {
    log: VecDeque<(Instant, u64)>,
    begun: Option<Instant>,
    calls: u64,
    spent: u64,
    refused: u64,
}

/// Each call costs 80 to 120 tokens; no ten seconds may hold more than the limit.
async fn complete(State(meter): State<Arc<Mutex<Meter>>>) -> Response {
    let mut meter = meter.lock().unwrap();
    let now = Instant::now();
    meter.begun.get_or_insert(now);
    while meter.log.front().is_some_and(|(at, _)| now - *at >= PERIOD) {
        meter.log.pop_front();
    }
    let cost = 80 + meter.calls * 37 % 41;
    let inside: u64 = meter.log.iter().map(|(_, cost)| cost).sum();
    if inside + cost > TOKENS {
        meter.refused += 1;
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
    }
    meter.log.push_back((now, cost));
    meter.calls += 1;
    meter.spent += cost;
    Json(json!({"usage": {"total_tokens": cost}})).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_reserved_by_estimate_and_settled_by_the_answer() {
    let meter = Arc::new(Mutex::new(Meter::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/complete", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/v1/complete", post(complete))
        .with_state(Arc::clone(&meter));
    let _endpoint = tokio::spawn(async move { axum::serve(listener, routes).await });
    let settings = [
        ("WEIR_SERVICE_HTTP_URL", url.as_str()),
        ("WEIR_SERVICE_HTTP_PROVIDER", "openai"),
        ("WEIR_SERVICE_HTTP_LIMIT", "none"),
        ("WEIR_SERVICE_HTTP_LIMITS", "tokens: 20000 per 10s, burst 1000"),
    ];
    let mut world = World::new(ProviderConfig::default(), &settings).await;
    let text = "x".repeat(300);
    world
        .publish("http", calls(1_000, &json!({"prompt": text})))
        .await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    until("a window and a half of calls", async || {
        let begun = meter.lock().unwrap().begun?;
        (begun.elapsed() > PERIOD * 3 / 2).then_some(())
    })
    .await;
    let meter = meter.lock().unwrap();
    let fair = TOKENS as f64 * meter.begun.unwrap().elapsed().as_secs_f64() / PERIOD.as_secs_f64();
    println!("{} calls, {} of {fair:.0} tokens", meter.calls, meter.spent);
    assert_eq!(meter.refused, 0);
    assert!(meter.spent as f64 > 0.9 * fair, "{} of {fair}", meter.spent);
}
