//! The routes and what each of them does, in order: who is it, what is it, keep it, answer.

mod answer;
mod events;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, StatusCode, header, request::Parts};
use tracing::Instrument;

use crate::accept::{self, Accepted};
use crate::body::Bodies;
use crate::config::{Config, Source};
use crate::error::{Code, Refusal};
use crate::metrics::{Metrics, Route};
use crate::publish::{Outgoing, Publisher, Target};
use crate::tokens::Tokens;
use crate::{trace, verify};

/// The description of the routes for programs.
pub const OPENAPI: &str = include_str!("openapi.json");
/// Bodies above this many bytes are verified, encoded and compressed on a thread of their own: at about 100 MB/s
/// they would hold up everybody else for a millisecond and more.
const LARGE: usize = 128 * 1024;
/// Of a source's refused deliveries, and of all other refused requests, one is logged in so long: strangers choose how
/// often they ask.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    sources: HashMap<String, Arc<Door>>,
    targets: HashMap<Box<str>, Arc<Target>>,
    tokens: Tokens,
    bodies: Bodies,
    publisher: Publisher,
    metrics: Metrics,
    told: DefaultDirectRateLimiter,
}

/// A webhook source, where its events go and how many may come.
#[derive(Debug)]
struct Door {
    source: Source,
    target: Arc<Target>,
    limiter: Option<DefaultDirectRateLimiter>,
    told: DefaultDirectRateLimiter,
}

impl App {
    /// The handlers' state for this configuration.
    pub fn new(config: &Config, publisher: Publisher, metrics: Metrics) -> Self {
        let target = |service: &shared::subject::Service| Arc::new(Target::new(service.clone(), &metrics));
        let targets: HashMap<_, _> = config
            .fleet
            .services
            .iter()
            .map(|s| (Box::from(s.as_str()), target(s)))
            .collect();
        let door = |source: &Source| {
            // The configuration has checked that the service exists.
            let target = targets
                .get(source.service.as_str())
                .map_or_else(|| target(&source.service), Arc::clone);
            let limiter = source.limit.as_ref().and_then(quota).map(RateLimiter::direct);
            (
                source.name.clone(),
                Arc::new(Door {
                    source: source.clone(),
                    target,
                    limiter,
                    told: seldom(),
                }),
            )
        };
        let sources = config.sources.iter().map(door).collect();
        let bodies = Bodies::new(&config.bounds);
        Self {
            sources,
            targets,
            tokens: config.tokens.clone(),
            bodies,
            publisher,
            metrics,
            told: seldom(),
        }
    }

    fn target(&self, service: &str) -> Result<&Arc<Target>, Refusal> {
        self.targets.get(service).ok_or_else(|| {
            let name: String = service.chars().take(32).collect();
            Refusal::new(
                Code::UnknownService,
                format!("no service {name:?} belongs to this fleet (WEIR_SERVICES)"),
            )
        })
    }

    /// Runs one request in its span, and counts, logs and answers what it came to.
    async fn answer(
        &self,
        route: Route,
        parts: &Parts,
        work: impl Future<Output = Result<Response, Refusal>>,
    ) -> Response {
        let span = trace::server(route, &parts.method, parts.uri.path(), &parts.headers);
        let response = match work.instrument(span.clone()).await {
            Ok(response) => response,
            Err(refusal) => {
                self.metrics.refuse(refusal.code);
                span.in_scope(|| self.log(&refusal, parts.uri.path()));
                refusal.into_response()
            }
        };
        let status = response.status().as_u16();
        trace::answered(&span, status);
        self.metrics.request(route, status);
        response
    }

    fn log(&self, refusal: &Refusal, path: &str) {
        let door = path
            .strip_prefix("/webhooks/")
            .and_then(|name| self.sources.get(name));
        let told = door.map_or(&self.told, |door| &door.told);
        // Strangers choose the path.
        let path: String = path.chars().take(100).collect();
        let (code, detail) = (refusal.code.word(), &*refusal.detail);
        if refusal.code.status().is_server_error() {
            tracing::warn!(code, path, "refused: {detail}");
        } else if told.check().is_ok() {
            tracing::info!(code, path, "refused (one in {TOLD_EVERY:?} is told): {detail}");
        } else {
            tracing::debug!(code, path, "refused: {detail}");
        }
    }
}

/// A bucket of burst b that refills every i lets b + floor(T / i) through in any window of length T: refilled so that
/// this is what the limit says.
fn quota(limit: &shared::limiter::Limit) -> Option<Quota> {
    let burst = std::num::NonZeroU32::new(limit.burst())?;
    let interval = limit.period() / (limit.calls() - limit.burst() + 1);
    Some(Quota::with_period(interval)?.allow_burst(burst))
}

fn seldom() -> DefaultDirectRateLimiter {
    let burst = Quota::with_period(TOLD_EVERY).unwrap_or(Quota::per_second(std::num::NonZeroU32::MIN));
    RateLimiter::direct(burst)
}

/// All routes; `health` brings `/health/*` and `/metrics`.
pub fn router(app: Arc<App>, health: Router) -> Router {
    let json = [(header::CONTENT_TYPE, "application/json")];
    Router::new()
        .route(Route::Webhook.template(), post(webhook))
        .route(Route::Event.template(), post(events::one))
        .route(Route::Batch.template(), post(events::many))
        .route("/openapi.json", get(move || async move { (json, OPENAPI) }))
        .route("/", get(|| async { answer::ABOUT }))
        .merge(health.with_state(()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

async fn not_found(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let refusal = Refusal::new(Code::NotFound, "no such route: see /openapi.json");
    app.answer(Route::Other, &parts, async { Err(refusal) }).await
}

async fn method_not_allowed(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let refusal = Refusal::new(
        Code::MethodNotAllowed,
        "this route has other methods: see /openapi.json",
    );
    app.answer(Route::Other, &parts, async { Err(refusal) }).await
}

/// `POST /webhooks/{source}`
async fn webhook(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path().strip_prefix("/webhooks/").unwrap_or_default();
    let work = async {
        let door = app.sources.get(name).ok_or_else(|| {
            let name: String = name.chars().take(32).collect();
            Refusal::new(
                Code::UnknownSource,
                format!("no webhook source {name:?} is configured (WEIR_SOURCES)"),
            )
        })?;
        let mut body = app.bodies.read(&parts.headers, body).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Gone once it is encoded; what is charged for it stands for the encoded event until that is published.
        let bytes = std::mem::take(&mut body.bytes);
        let prepared = if bytes.len() > LARGE {
            let (door, headers) = (Arc::clone(door), parts.headers.clone());
            aside(move || prepare(&door, &headers, bytes, now)).await?
        } else {
            prepare(door, &parts.headers, bytes, now)
        };
        match prepared? {
            Prepared::Event(event) => {
                let kept = app.publisher.publish(&event, &door.target).await?;
                if !kept.duplicate {
                    door.target.metrics.webhooks.inc();
                }
                Ok(answer::webhook(
                    &door.source.scheme,
                    &parts.headers,
                    &event,
                    &door.target,
                    kept,
                ))
            }
            Prepared::Answer(json) => Ok(answer::json(StatusCode::OK, json)),
        }
    };
    app.answer(Route::Webhook, &parts, work).await
}

enum Prepared {
    Event(Outgoing),
    Answer(bytes::Bytes),
}

/// Everything about a delivery that is computed: signature, fields, encoding.
fn prepare(door: &Door, headers: &HeaderMap, body: bytes::Bytes, now: Duration) -> Result<Prepared, Refusal> {
    let delivery = verify::verify(&door.source.scheme, headers, body, now)?;
    // After the signature: strangers must not use up the source's limit.
    if let Some(limiter) = &door.limiter {
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let name = &door.source.name;
            Refusal::new(
                Code::SourceLimited,
                format!("source {name} sends more than its LIMIT allows"),
            )
            .after(wait)
        })?;
    }
    Ok(match accept::webhook(&door.source, &delivery)? {
        Accepted::Event(event) => Prepared::Event(Outgoing::new(event, door.target.service(), None)),
        Accepted::Answer(json) => Prepared::Answer(json),
    })
}

/// Runs long computation off the threads that serve everybody.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Refusal::new(Code::Internal, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let openapi: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        for (path, method) in [
            (Route::Webhook.template(), "post"),
            (Route::Event.template(), "post"),
            (Route::Batch.template(), "post"),
            ("/health/live", "get"),
            ("/health/ready", "get"),
            ("/metrics", "get"),
            ("/openapi.json", "get"),
            ("/", "get"),
        ] {
            assert!(
                openapi["paths"][path][method]["responses"].is_object(),
                "{method} {path}"
            );
        }
        assert_eq!(openapi["paths"].as_object().unwrap().len(), 8);
        let codes = &openapi["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let codes: Vec<&str> = codes
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c.as_str().unwrap())
            .collect();
        assert_eq!(codes, Code::ALL.map(Code::word));
    }
}
