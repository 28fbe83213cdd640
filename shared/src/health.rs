//! Whether a service is alive and whether it can do its work, and its metrics: three routes, the same everywhere.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::{BoxFuture, join_all};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio_util::sync::CancellationToken;

/// A dependency that takes longer than this to answer counts as away: readiness answers within 50 ms.
pub const CHECK_TIMEOUT: Duration = Duration::from_millis(40);

type Check = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The named checks behind `/health/ready`.
#[derive(Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
    draining: CancellationToken,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|(name, _)| name))
            .finish()
    }
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Finding {
    ok: bool,
    latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Health {
    /// No checks yet; not ready any more as soon as `draining` is cancelled.
    pub fn new(draining: CancellationToken) -> Self {
        Self {
            checks: Vec::new(),
            draining,
        }
    }

    /// Adds a dependency without which the service cannot do its work.
    #[must_use]
    pub fn check<F, Fut>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push((name, Box::new(move || Box::pin(check()))));
        self
    }

    /// Adds the service's own start: not ready before `started` is cancelled.
    #[must_use]
    pub fn started(self, started: CancellationToken) -> Self {
        self.check("started", move || {
            let started = started.is_cancelled();
            async move {
                if started {
                    Ok(())
                } else {
                    Err("still starting".into())
                }
            }
        })
    }

    /// Adds NATS: connected, and JetStream answers.
    #[must_use]
    pub fn nats(self, client: async_nats::Client) -> Self {
        self.check("nats", move || {
            let client = client.clone();
            async move {
                if client.connection_state() != async_nats::connection::State::Connected {
                    return Err("not connected".into());
                }
                client
                    .request("$JS.API.INFO", "".into())
                    .await
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            }
        })
    }

    /// Adds Redis: answers a PING.
    #[must_use]
    pub fn redis(self, connection: redis::aio::ConnectionManager) -> Self {
        self.check("redis", move || {
            let mut connection = connection.clone();
            async move {
                redis::cmd("PING")
                    .exec_async(&mut connection)
                    .await
                    .map_err(|e| e.to_string())
            }
        })
    }

    /// The routes `/health/live`, `/health/ready` and `/metrics`.
    pub fn routes(self, mut registry: Registry) -> Router {
        registry.register_collector(Box::new(ProcessMetrics::default()));
        Router::new()
            .route(
                "/health/live",
                get(|| async { Json(serde_json::json!({"status": "live"})) }),
            )
            .route("/health/ready", get(ready))
            .with_state(Arc::new(self))
            .route("/metrics", get(metrics).with_state(Arc::new(registry)))
    }
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let findings = health.checks.iter().map(|(name, check)| async move {
        let start = Instant::now();
        let result = tokio::time::timeout(CHECK_TIMEOUT, check()).await;
        let error = match result {
            Ok(result) => result.err(),
            Err(_) => Some(format!("no answer within {} ms", CHECK_TIMEOUT.as_millis())),
        };
        let latency_ms = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        (
            *name,
            Finding {
                ok: error.is_none(),
                latency_ms,
                error,
            },
        )
    });
    let checks: std::collections::BTreeMap<_, _> = join_all(findings).await.into_iter().collect();
    let (code, status) = if health.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if checks.values().all(|finding| finding.ok) {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    (
        code,
        Json(serde_json::json!({"status": status, "checks": checks})),
    )
        .into_response()
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Memory and CPU of this process, read when somebody asks.
struct ProcessMetrics {
    /// `None` where the platform tells nothing about processes.
    system: Mutex<Option<System>>,
    pid: Pid,
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self {
            system: Mutex::new(System::new().ok()),
            pid: Pid::from_u32(std::process::id()),
        }
    }
}

impl fmt::Debug for ProcessMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessMetrics({})", self.pid)
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut system = self
            .system
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(system) = system.as_mut() else {
            return Ok(());
        };
        let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), true, what);
        let Some(process) = system.process(self.pid) else {
            return Ok(());
        };
        let memory = ConstGauge::new(process.memory() as i64);
        let help = "Resident memory of this process.";
        memory.encode(encoder.encode_descriptor(
            "process_resident_memory",
            help,
            Some(&Unit::Bytes),
            memory.metric_type(),
        )?)?;
        let cpu = ConstCounter::new(process.accumulated_cpu_time() as f64 / 1000.0);
        let help = "CPU time this process has used.";
        cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?)
    }
}
