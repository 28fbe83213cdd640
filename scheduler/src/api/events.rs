//! What became of events: `GET /api/events`, `GET /api/events/{id}`, `GET /api/report`. For those who have a token, about the
//! services that it is for.

mod ask;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use shared::bearer::{NotAllowed, Token, Tokens};
use shared::event::EventId;
use shared::store::history::{self, HistoryError};
use shared::store::query_cache::QueryCache;
use shared::store::reads::Reads;
use shared::store::report::{self, Line};
use shared::subject::Service;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config;
use ask::{Hours, List};

/// Questions at once. Each has a connection of its own for as long as it takes.
const AT_ONCE: usize = 8;
/// How long a question waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(2);
/// Most reports that are kept.
const REPORTS: usize = 64;

/// What answers for the past.
#[derive(Debug)]
pub struct Past {
    /// `None` without Postgres.
    reads: Option<Reads>,
    tokens: Tokens,
    turns: Semaphore,
    reports: QueryCache<(u16, Vec<Service>), Vec<Line>>,
}

/// Why there is no answer.
enum Refusal {
    /// Who asks is not known, or not allowed.
    Who(NotAllowed),
    /// What is asked is wrong.
    What(String),
    /// There is none of that id.
    Nowhere(EventId),
    /// No Postgres, or no tokens.
    Off(&'static str),
    /// Postgres does not answer, or there are too many questions.
    Away(String),
}

impl From<NotAllowed> for Refusal {
    fn from(why: NotAllowed) -> Self {
        Self::Who(why)
    }
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Cursor(error) => Self::What(format!("cursor: {error}")),
            HistoryError::Postgres(error) => {
                tracing::warn!(%error, "a question about the past was not answered");
                Self::Away("Postgres does not answer".into())
            }
            other => Self::Away(other.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        use StatusCode as S;
        let (status, title, detail) = match self {
            Self::Who(why @ (NotAllowed::Missing | NotAllowed::Unknown)) => {
                (S::UNAUTHORIZED, "Token needed", why.to_string())
            }
            Self::Who(why @ NotAllowed::OtherService(..)) => {
                (S::FORBIDDEN, "Token not for this service", why.to_string())
            }
            Self::What(what) => (S::BAD_REQUEST, "Wrong question", what),
            Self::Nowhere(id) => {
                let detail = format!(
                    "nothing is recorded of {id}: it is still on its way, is not kept any more, or never came"
                );
                (S::NOT_FOUND, "Not found", detail)
            }
            Self::Off(what) => (S::NOT_IMPLEMENTED, "Not set up", what.to_owned()),
            Self::Away(what) => (S::SERVICE_UNAVAILABLE, "The past is not to be had", what),
        };
        let problem =
            json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        let headers = [
            (header::CONTENT_TYPE, "application/problem+json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let mut response = (status, headers, problem.to_string()).into_response();
        let more = match status {
            S::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            S::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "5")),
            _ => None,
        };
        if let Some((name, value)) = more {
            response
                .headers_mut()
                .insert(name, axum::http::HeaderValue::from_static(value));
        }
        response
    }
}

impl Past {
    /// From these pools, for those whom the settings name.
    pub fn new(reads: Option<Reads>, history: &config::History) -> Self {
        Self {
            reads,
            tokens: history.tokens.clone(),
            turns: Semaphore::new(AT_ONCE),
            reports: QueryCache::new(history.postgres.query_cache, REPORTS),
        }
    }

    /// Who asks, and where from the answer comes.
    fn admit(&self, headers: &HeaderMap) -> Result<(&Token, &Reads), Refusal> {
        let reads = self.reads.as_ref();
        let reads = reads.ok_or(Refusal::Off("the scheduler has no WEIR_POSTGRES_URL"))?;
        if self.tokens.is_empty() {
            return Err(Refusal::Off("nobody may ask: WEIR_SCHEDULER_TOKENS is not set"));
        }
        Ok((self.tokens.authenticate(headers)?, reads))
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        match tokio::time::timeout(TURN_WITHIN, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Refusal::Away(format!(
                "{AT_ONCE} questions are being answered already"
            ))),
        }
    }
}

/// The services that are asked about: those that are named if the token is for them, else all that it is for.
fn allowed(token: &Token, asked: Vec<Service>) -> Result<Vec<Service>, Refusal> {
    if asked.is_empty() {
        return Ok(token.services().to_vec());
    }
    asked.iter().try_for_each(|service| token.check(service))?;
    Ok(asked)
}

/// The routes.
pub fn routes(past: Past) -> Router {
    Router::new()
        .route("/api/events", get(list))
        .route("/api/events/{id}", get(one))
        .route("/api/report", get(hours))
        .with_state(Arc::new(past))
}

fn answer(value: &impl serde::Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

async fn list(
    State(past): State<Arc<Past>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (token, reads) = past.admit(&headers)?;
    let mut asked =
        List::read(query.as_deref().unwrap_or_default(), SystemTime::now()).map_err(Refusal::What)?;
    asked.filter.services = allowed(token, asked.filter.services)?;
    let _turn = past.turn().await?;
    let page = history::page(reads, &asked.filter, asked.cursor.as_deref(), asked.limit).await?;
    Ok(answer(&page))
}

async fn one(
    State(past): State<Arc<Past>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (token, reads) = past.admit(&headers)?;
    let id = EventId::new(id).map_err(|why| Refusal::What(format!("the id {why}")))?;
    let asked = ask::services(query.as_deref().unwrap_or_default()).map_err(Refusal::What)?;
    let services = allowed(token, asked)?;
    let services: Vec<String> = services.iter().map(Service::to_string).collect();
    let _turn = past.turn().await?;
    let story = history::story(reads, id.as_str(), &services).await?;
    if story.ends.is_empty() && story.failed.is_empty() {
        return Err(Refusal::Nowhere(id));
    }
    Ok(answer(&story))
}

async fn hours(
    State(past): State<Arc<Past>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (token, reads) = past.admit(&headers)?;
    let Hours { hours, services } =
        Hours::read(query.as_deref().unwrap_or_default()).map_err(Refusal::What)?;
    let mut services = allowed(token, services)?;
    services.sort();
    let question = (hours, services.clone());
    let ask = async || {
        let _turn = past.turn().await?;
        Ok::<_, Refusal>(report::report(reads, hours, &services).await?)
    };
    let (lines, age) = past.reports.get(&question, ask).await?;
    Ok(answer(
        &json!({ "hours": hours, "age_seconds": age.as_secs(), "lines": *lines }),
    ))
}
