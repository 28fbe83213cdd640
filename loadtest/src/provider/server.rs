//! The simulated provider's HTTP side: reads a request, has it decided, and answers as its fate says.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Query, Request, State},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::{
    drive,
    exchange::{Ask, Reply},
    faults::{Fate, Faults},
    ledger::{Api, Call},
    linear,
    sim::{Decided, Sim},
};

/// Longest body read, in bytes: above the largest event that is delivered.
const MAX_BODY: usize = 40 * 1024 * 1024;
/// Most calls listed in one answer.
const MAX_LISTED: usize = 10_000;

/// All routes: the APIs and, under `/_sim`, what was seen of them.
pub(super) fn router(sim: Arc<Sim>) -> Router {
    let drive = drive::PATHS.into_iter().fold(Router::new(), |router, path| {
        router.route(path, any(|sim, request| call(sim, Api::Drive, request)))
    });
    drive
        .route(linear::PATH, any(|sim, request| call(sim, Api::Linear, request)))
        .route(
            "/_sim/stats",
            get(|State(sim): State<Arc<Sim>>| async move { Json(sim.stats()) }),
        )
        .route("/_sim/calls", get(list))
        .route("/_sim/reset", post(reset))
        .route("/_sim/faults", post(set_faults))
        .route(
            "/api/{method}",
            any(|sim, request| call(sim, Api::Slack, request)),
        )
        .route(
            "/openai/v1/chat/completions",
            any(|sim, request| call(sim, Api::Openai, request)),
        )
        .route(
            "/anthropic/v1/messages",
            any(|sim, request| call(sim, Api::Anthropic, request)),
        )
        .route(
            "/xai/v1/chat/completions",
            any(|sim, request| call(sim, Api::Xai, request)),
        )
        .route(
            "/hooks/{*path}",
            post(|sim, request| call(sim, Api::Http, request)),
        )
        .fallback(|sim, request| call(sim, Api::Github, request))
        .layer(DefaultBodyLimit::disable())
        .with_state(sim)
}

#[derive(Deserialize)]
struct ListQuery {
    id: Option<String>,
    limit: Option<usize>,
}

async fn list(State(sim): State<Arc<Sim>>, Query(query): Query<ListQuery>) -> Json<Vec<Call>> {
    Json(sim.calls(query.id.as_deref(), query.limit.unwrap_or(100).min(MAX_LISTED)))
}

async fn reset(State(sim): State<Arc<Sim>>) -> StatusCode {
    sim.reset();
    StatusCode::NO_CONTENT
}

async fn set_faults(State(sim): State<Arc<Sim>>, Json(faults): Json<Faults>) -> Response {
    if let Err(error) = faults.validate() {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": error.to_string()}))).into_response();
    }
    sim.set_faults(faults);
    StatusCode::NO_CONTENT.into_response()
}

async fn call(State(sim): State<Arc<Sim>>, api: Api, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let ask = Ask {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
    };
    let Decided { reply, draw, slot } = sim.decide(api, &ask);
    if !draw.delay.is_zero() {
        stop_or(&sim, tokio::time::sleep(draw.delay)).await;
    }
    if matches!(draw.fate, Fate::Hang | Fate::Swallow) {
        sim.stop.cancelled().await;
    }
    drop(slot);
    let mut response = if draw.fate == Fate::Cut {
        cut(reply)
    } else {
        send(reply)
    };
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(sim.clock.now().wall)) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

async fn stop_or(sim: &Sim, wait: impl Future<Output = ()>) {
    tokio::select! {
        () = sim.stop.cancelled() => {}
        () = wait => {}
    }
}

fn send(reply: Reply) -> Response {
    (reply.status, reply.headers, reply.body).into_response()
}

/// Tells the full length, sends half of it and drops the connection.
fn cut(reply: Reply) -> Response {
    let whole = if reply.body.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        reply.body
    };
    let half = whole.slice(..whole.len() / 2);
    let breaks = stream::once(async {
        // The pause lets the first half leave before the connection breaks.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(io::Error::other("cut by a fault of the simulated provider"))
    });
    let pieces = stream::iter([Ok(half)]).chain(breaks);
    let mut response = (reply.status, reply.headers, Body::from_stream(pieces)).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, whole.len().into());
    response
}
