//! What people and tools ask: `GET /api/services`, `GET /api/scaling`, `GET /api/warm`; of the past
//! `GET /api/events`, `GET /api/report`.

pub mod events;
mod scaling;
pub mod warm;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use shared::telemetry::propagation::rfc3339;

pub use scaling::{ScalingFigures, ScalingView};

use crate::board::{Board, Known};
use crate::observe::{LaneDepth, Observation};

/// One service in the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub service: String,
    /// Whether the figures can be relied on.
    pub state: Freshness,
    /// When the figures were read, RFC 3339; `None` when they never were.
    pub observed_at: Option<String>,
    /// How long ago that was.
    pub observation_age_seconds: Option<f64>,
    /// Most urgent first; empty when unknown.
    pub lanes: Vec<LaneDepth>,
    /// All lanes together; `None` when unknown.
    pub totals: Option<Totals>,
}

/// How far figures can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// Observed within the last three intervals.
    Fresh,
    /// Older than that: what was, not what is.
    Stale,
    /// Never observed.
    Unknown,
}

/// Figures of a service as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Messages that no worker has got yet.
    pub pending: u64,
    /// Messages that a worker has got and not settled.
    pub unacked: u64,
    /// `pending` and `unacked`.
    pub waiting: u64,
    /// Of the unacked ones, those that were delivered more than once.
    pub redelivered: u64,
    /// Retries that wait for their time; `None` when they could not be counted.
    pub retrying: Option<u64>,
    /// Dead letters; `None` when they could not be counted.
    pub dead: Option<u64>,
    /// Age of the oldest message that waited when this was read; `None` when none did.
    pub oldest_age_seconds: Option<f64>,
}

impl ServiceView {
    /// A service as it is known.
    pub fn new(service: String, known: Known) -> Self {
        let (state, observation, age) = match known {
            Known::Fresh(observation, age) => (Freshness::Fresh, observation, age),
            Known::Stale(observation, age) => (Freshness::Stale, observation, age),
            Known::Never => {
                return Self {
                    service,
                    state: Freshness::Unknown,
                    observed_at: None,
                    observation_age_seconds: None,
                    lanes: Vec::new(),
                    totals: None,
                };
            }
        };
        Self {
            service,
            state,
            observed_at: Some(rfc3339(
                UNIX_EPOCH + Duration::from_millis(observation.observed_at),
            )),
            observation_age_seconds: Some(seconds(age)),
            totals: Some(Totals::of(&observation)),
            lanes: observation.lanes,
        }
    }
}

impl Totals {
    fn of(observation: &Observation) -> Self {
        Self {
            pending: observation.sum(|lane| lane.pending),
            unacked: observation.sum(|lane| lane.unacked),
            waiting: observation.sum(|lane| lane.waiting),
            redelivered: observation.sum(|lane| lane.redelivered),
            retrying: observation.retrying,
            dead: observation.dead,
            oldest_age_seconds: observation.oldest_age().map(seconds),
        }
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

/// The routes.
pub fn routes(board: Arc<Board>) -> Router {
    Router::new()
        .route("/api/services", get(services))
        .route("/api/scaling", get(scaled))
        .with_state(board)
}

async fn services(State(board): State<Arc<Board>>) -> Response {
    let views: Vec<_> = board
        .all()
        .into_iter()
        .map(|(service, known)| ServiceView::new(service.to_string(), known))
        .collect();
    if views.iter().any(|view| view.state == Freshness::Fresh) {
        return Json(views).into_response();
    }
    // Nothing of it is current: an error is harder to mistake for an answer than old figures are.
    unavailable(&serde_json::json!({
        "type": "about:blank",
        "title": "Depths are unknown",
        "status": 503,
        "detail": board.fresh().err().unwrap_or_default(),
        "last_known": views,
    }))
}

async fn scaled(State(board): State<Arc<Board>>) -> Response {
    let views = ScalingView::all(&board);
    if views.iter().any(|view| view.unknown.is_none()) {
        return Json(views).into_response();
    }
    let why: Vec<_> = views.into_iter().filter_map(|view| view.unknown).collect();
    unavailable(&serde_json::json!({
        "type": "about:blank",
        "title": "How many workers are of use is unknown",
        "status": 503,
        "detail": why.join("; "),
    }))
}

fn unavailable(problem: &serde_json::Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::RETRY_AFTER, "5"),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, problem.to_string()).into_response()
}
