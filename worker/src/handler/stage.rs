//! What tests of handlers stand on: an API that answers as it is told, and a turn to call it in.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "tests panic on failure"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use prometheus_client::registry::Registry;
use serde_json::Value;
use shared::config::Reader;
use shared::config::fleet::Streams;
use shared::event::{Data, Event, EventId};
use shared::limiter::Limiter;
use shared::servers::{Redis, RedisOptions};
use shared::subject::Service;
use tokio_util::task::TaskTracker;

use super::{Handler, Kind, Parts};
use crate::config::Config;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::outbound::fleet::Fleet;
use crate::outbound::upstreams::{self, Upstreams};
use crate::provider::Provider;
use crate::quota::away::Policy;
use crate::quota::{self, Quota, Turn};

/// A call as the API saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Seen {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header, empty without.
    pub fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }
}

/// A status, headers and a body.
pub type Told = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// A JSON answer.
pub fn told(status: u16, body: &Value) -> Told {
    let headers = vec![("content-type", "application/json".to_owned())];
    (status, headers, body.to_string().into_bytes())
}

/// An API, and what it has seen.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where it listens.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Api {
    /// One that answers like this.
    pub async fn new(answer: impl Fn(&Seen) -> Told + Clone + Send + Sync + 'static) -> Self {
        shared::lifecycle::install_tls();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let app = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let call = Seen {
                method,
                uri,
                headers,
                body,
            };
            kept.lock().unwrap().push(call.clone());
            let (status, headers, body) = answer(&call);
            let mut response: Response = body.into_response();
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().remove("content-type");
            for (name, value) in headers {
                response.headers_mut().append(name, value.parse().unwrap());
            }
            std::future::ready(response)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            axum::serve(listener, app.layer(axum::extract::DefaultBodyLimit::disable())).await
        });
        Self { url, seen }
    }

    /// All calls so far, which are forgotten with it.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// A handler made from settings, and what it calls.
pub struct Stage {
    /// The handler.
    pub handler: Arc<dyn Handler>,
    /// The limits that the settings give the service.
    pub limits: Limits,
    /// Its Redis, where it has one.
    pub redis: Option<Redis>,
    parts: Parts,
    registry: Registry,
    urls: Vec<String>,
    provider: Provider,
    _dir: Option<Box<dyn Send + Sync>>,
}

impl Stage {
    /// The handler of a kind with an API at this URL; settings are named without their prefix.
    pub fn new(kind: &'static Kind, url: &str, settings: &[(&str, &str)]) -> Self {
        Self::with(kind, url, settings, None, None)
    }

    /// The same with a Redis.
    pub async fn with_redis(kind: &'static Kind, url: &str, settings: &[(&str, &str)]) -> Self {
        let dir = shared::servers::scratch_dir().unwrap();
        let redis = Redis::start(RedisOptions::new(dir.path())).await.unwrap();
        Self::with(kind, url, settings, Some(redis), Some(Box::new(dir)))
    }

    /// The same with another's Redis.
    pub fn at_redis(kind: &'static Kind, url: &str, settings: &[(&str, &str)], redis_url: &str) -> Self {
        Self::on(kind, url, settings, redis_url, None, None)
    }

    fn with(
        kind: &'static Kind,
        url: &str,
        settings: &[(&str, &str)],
        redis: Option<Redis>,
        dir: Option<Box<dyn Send + Sync>>,
    ) -> Self {
        let nowhere = || "redis://127.0.0.1:1".to_owned();
        let redis_url = redis.as_ref().map_or_else(nowhere, Redis::url);
        Self::on(kind, url, settings, &redis_url, redis, dir)
    }

    fn on(
        kind: &'static Kind,
        url: &str,
        settings: &[(&str, &str)],
        redis_url: &str,
        redis: Option<Redis>,
        dir: Option<Box<dyn Send + Sync>>,
    ) -> Self {
        shared::lifecycle::install_tls();
        let prefix = format!("WEIR_SERVICE_{}", kind.name.to_ascii_uppercase());
        let mut all = BTreeMap::from([
            ("WEIR_SERVICES".to_owned(), kind.name.to_owned()),
            ("WEIR_POSTGRES_URL".to_owned(), "postgres://u@h/db".to_owned()),
            (format!("{prefix}_URL"), url.to_owned()),
        ]);
        let own = settings
            .iter()
            .map(|(name, value)| (format!("{prefix}_{name}"), (*value).to_owned()));
        all.extend(own);
        let mut reader = Reader::new(&all);
        let config = Config::read_for(&mut reader, &[kind]);
        let (config, _) = reader.finish(&crate::config::OWN, config).unwrap();
        let service = &config.services[0];
        let mut registry = Registry::default();
        let parts = Parts {
            outbound: Outbound::new(4, false, config.egress(service)).unwrap(),
            redis: shared::connect::redis(redis_url).unwrap(),
            limiter: Limiter::new(shared::connect::redis(redis_url).unwrap(), "test", true),
            metrics: Metrics::register(&mut registry),
            database: None,
            dead_max_age: config.fleet.streams.dead_max_age,
            background: TaskTracker::new(),
        };
        let handler = service.own.make(service, parts.clone()).unwrap();
        Self {
            handler,
            limits: Limits::new("{x}".into(), kind.charged_apart, service.limits.clone()),
            redis,
            parts,
            registry,
            urls: service.urls.clone(),
            provider: service.provider,
            _dir: dir,
        }
    }

    /// A turn to make a call in; nothing is limited.
    pub async fn turn(&self) -> Turn {
        let metrics = Metrics::register(&mut Registry::default());
        let service = Service::new("x").unwrap();
        let client = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connect("127.0.0.1:1")
            .await
            .unwrap();
        let js = async_nats::jetstream::new(client.clone());
        let upstreams = Upstreams::start(
            &self.parts.background,
            upstreams::Parts {
                service: &service,
                urls: &self.urls,
                looked_at: false,
                rule: None,
                timeout: Duration::from_secs(5),
                worker: "test",
                metrics: &metrics,
                fleet: Fleet::new(&client, &js, &Streams::default(), &service),
            },
        )
        .unwrap();
        let quota = Quota::start(
            &self.parts.background,
            quota::Parts {
                limiter: Limiter::new(self.parts.redis.clone(), "test", true),
                limits: Arc::new(Limits::new("{x}".into(), &[], crate::limits::Table::new())),
                provider: self.provider,
                away: Policy::default(),
                ahead: Duration::ZERO,
                metrics: metrics.quota("x"),
            },
        );
        let lease = upstreams.choose(None, false).await.unwrap();
        let turn = quota.turn(None, Vec::new(), Duration::ZERO, false).await.unwrap();
        turn.to(lease.bound())
    }

    /// What it has counted, as it is scraped.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// What becomes of an event.
    pub async fn handle(&self, event: &Event) -> super::Outcome {
        self.handler.handle(event, &self.turn().await).await
    }

    /// What becomes of events that go together.
    pub async fn handle_group(&self, events: &[Event]) -> Vec<Option<super::Outcome>> {
        self.handle_knowing(events, &[]).await
    }

    /// The same, of which answers are known by their tags, by the place of the event.
    pub async fn handle_knowing(
        &self,
        events: &[Event],
        known: &[(usize, &str)],
    ) -> Vec<Option<super::Outcome>> {
        let known = known
            .iter()
            .map(|(at, etag)| (events[*at].id.clone(), (*etag).to_owned()));
        let turn = self.turn().await.knowing(known.collect());
        self.handler.handle_group(events.iter().collect(), &turn).await
    }

    /// The limits that an event's call falls under: what is limited, and what it costs.
    pub fn charges(&self, event: &Event) -> Vec<(String, u32)> {
        let charges = self.handler.charges(event, &self.limits);
        named(&charges)
    }
}

/// Charges by what is limited.
pub fn named(charges: &[shared::limiter::Charge]) -> Vec<(String, u32)> {
    let named = charges
        .iter()
        .map(|charge| (crate::limits::dimension(&charge.key).to_owned(), charge.cost));
    named.collect()
}

/// An event with this payload.
pub fn event(kind: &str, data: &Value) -> Event {
    Event {
        data: Data::json(data.to_string()),
        ..Event::new(EventId::generate(), kind)
    }
}
