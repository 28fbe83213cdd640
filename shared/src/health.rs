//! Whether a service is alive and whether it can do its work, and its metrics: three routes, the same everywhere.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Readiness answers within 50 ms: for a dependency that takes longer than this to answer it says what is known of it.
pub const CHECK_TIMEOUT: Duration = Duration::from_millis(40);
/// For how long a dependency that answered counts as there while its next answer is late: longer than the usual ten
/// seconds between two probes. A machine that is short of time must not take all replicas out of service at once.
pub const GOOD_FOR: Duration = Duration::from_secs(15);
/// After so long a check is over without an answer, and the dependency counts as away.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);

type Answer = Result<(), String>;
type Ask = Box<dyn Fn() -> BoxFuture<'static, Answer> + Send + Sync>;

struct Check {
    name: &'static str,
    ask: Ask,
    /// The last answer, and when it came.
    last: watch::Sender<Option<(Instant, Answer)>>,
    /// One at a time: a dependency that does not answer is not asked ever more.
    turn: Arc<Semaphore>,
}

impl Check {
    async fn find(&self) -> Finding {
        let start = Instant::now();
        let answer = tokio::time::timeout(CHECK_TIMEOUT, self.next()).await;
        let error = match answer {
            Ok(answer) => answer.err(),
            Err(_) if self.was_good() => None,
            Err(_) => Some(format!("no answer within {} ms", CHECK_TIMEOUT.as_millis())),
        };
        Finding {
            ok: error.is_none(),
            latency_ms: (start.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            error,
        }
    }

    fn was_good(&self) -> bool {
        matches!(&*self.last.borrow(), Some((at, Ok(()))) if at.elapsed() < GOOD_FOR)
    }

    /// The next answer, which is noted however late it comes.
    async fn next(&self) -> Answer {
        let mut answers = self.last.subscribe();
        if let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() {
            let (asked, last) = ((self.ask)(), self.last.clone());
            tokio::spawn(async move {
                let answer = tokio::time::timeout(GIVEN_UP_AFTER, asked).await;
                let answer = answer.unwrap_or_else(|_| Err("no answer".into()));
                last.send_replace(Some((Instant::now(), answer)));
                drop(turn);
            });
        }
        // We hold a sender ourselves.
        let _ = answers.changed().await;
        let answer = answers.borrow().clone();
        answer.map_or_else(|| Err("no answer".into()), |(_, answer)| answer)
    }
}

/// The named checks behind `/health/ready`.
#[derive(Default)]
pub struct Health {
    checks: Vec<Check>,
    draining: CancellationToken,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|check| check.name))
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
        self.checks.push(Check {
            name,
            ask: Box::new(move || Box::pin(check())),
            last: watch::Sender::new(None),
            turn: Arc::new(Semaphore::new(1)),
        });
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
    let findings = health.checks.iter();
    let findings = findings.map(|check| async move { (check.name, check.find().await) });
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
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_counts_as_the_one_before_for_a_while_and_no_longer() {
        let takes = Arc::new(Mutex::new(Duration::from_millis(1)));
        let asked = Arc::clone(&takes);
        let health = Health::new(CancellationToken::new()).check("late", move || {
            let takes = *asked.lock().unwrap();
            async move {
                tokio::time::sleep(takes).await;
                Ok(())
            }
        });
        let check = &health.checks[0];
        let take = |millis| *takes.lock().unwrap() = Duration::from_millis(millis);
        take(60);
        assert!(!check.find().await.ok, "never answered yet");
        tokio::time::sleep(Duration::from_millis(30)).await;
        let (one, other) = tokio::join!(check.find(), check.find());
        assert!(
            one.ok && other.ok && one.latency_ms < 50.0,
            "the late answer was a good one"
        );
        take(60_000);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(check.find().await.ok, "just now it was there");
        tokio::time::sleep(GOOD_FOR).await;
        assert!(!check.find().await.ok, "for too long it has not been");
        tokio::time::sleep(GIVEN_UP_AFTER).await;
        take(1);
        assert!(check.find().await.ok, "asked anew");
    }

    #[tokio::test(start_paused = true)]
    async fn two_who_ask_at_once_get_one_answer_and_a_bad_one_counts_at_once() {
        let times = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&times);
        let health = Health::new(CancellationToken::new()).check("bad", move || {
            *counted.lock().unwrap() += 1;
            let good = *counted.lock().unwrap() == 1;
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if good { Ok(()) } else { Err("away".into()) }
            }
        });
        let check = &health.checks[0];
        let (one, other) = tokio::join!(check.find(), check.find());
        assert!(one.ok && other.ok);
        assert_eq!(*times.lock().unwrap(), 1);
        assert_eq!(check.find().await.error.as_deref(), Some("away"));
    }
}
