//! The worker's metrics. No ids or tenants in labels.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use shared::breaker::State;

use crate::follow::metrics::{FollowMetrics, RuleMetrics};
use crate::group::GroupMetrics;
use crate::handler::agent::metrics::AgentMetrics;
use crate::idle::{Idle, IdleMetrics};
use crate::outbound::reach::ReachMetrics;
use crate::outcome::Verdict;

/// Events by service and what became of them.
pub const SETTLED: &str = "weir_worker_settled";
/// From delivery to settlement, by service.
pub const TOOK: &str = "weir_worker_process_seconds";
/// From acceptance to the end, by service.
pub const ACCEPT_TO_DONE: &str = "weir_worker_accept_to_done_seconds";
/// Round trips to Redis for limits, by service.
pub const LIMITER_TRIPS: &str = "weir_worker_limiter_trips";
/// Calls booked with Redis, by service.
pub const LIMITER_CALLS: &str = "weir_worker_limiter_calls";
/// Calls that a limit in shadow would have held up, by service.
pub const LIMITER_OVER: &str = "weir_worker_limiter_shadow_over";
/// Refusals of providers that paused a key, by service.
pub const LIMITER_REFUSED: &str = "weir_worker_limiter_refused";
/// Headers about limits that made no sense, by service.
pub const LIMITER_ABSURD: &str = "weir_worker_limiter_absurd_headers";
/// Calls made under the local share while Redis was away, by service.
pub const LIMITER_SHARED: &str = "weir_worker_limiter_local_share";
/// Times that the limiter could not be asked.
pub const LIMITER_AWAY: &str = "weir_worker_limiter_away";
/// Whether an upstream is in service: 0 closed, 1 half-open, 2 open; by service and upstream.
pub const BREAKER_STATE: &str = "weir_worker_breaker_state";
/// Changes of that, by what it became.
pub const BREAKER_TRANSITIONS: &str = "weir_worker_breaker_transitions";
/// Whether an upstream can be reached: 0 healthy, 1 degraded, 2 unhealthy; by service and upstream.
pub const REACH: &str = "weir_worker_upstream_reach";
/// Milliseconds of the last connection made to find that out.
pub const CONNECT: &str = "weir_worker_upstream_connect_milliseconds";
/// Calls made for several events, by service.
pub const GROUPS: &str = "weir_worker_group_calls";
/// Events that went into them, by service.
pub const GROUPED: &str = "weir_worker_grouped_events";
/// Deliveries that were dropped without being settled: always a mistake in this code.
pub const DROPPED: &str = "weir_worker_dropped_unsettled";
/// Rows of a group commit.
pub const COMMIT_ROWS: &str = "weir_worker_commit_rows";
/// Time of a group commit.
pub const COMMIT_SECONDS: &str = "weir_worker_commit_seconds";

/// See [`DROPPED`]; process-wide, because a drop knows no registry.
pub static UNSETTLED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ServiceLabel {
    pub(crate) service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    service: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    service: String,
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransitionLabel {
    service: String,
    upstream: String,
    to: &'static str,
}

type Histograms = Family<ServiceLabel, Histogram, fn() -> Histogram>;

/// All metrics of a worker.
#[derive(Debug, Clone)]
pub struct Metrics {
    settled: Family<OutcomeLabel, Counter>,
    took: Histograms,
    accept_to_done: Histograms,
    limiter: [Family<ServiceLabel, Counter>; 7],
    breaker_state: Family<UpstreamLabel, Gauge>,
    breaker_transitions: Family<TransitionLabel, Counter>,
    /// Of rules.
    pub rules: RuleMetrics,
    idle: IdleMetrics,
    /// Of the store.
    pub store: StoreMetrics,
    reach: Family<UpstreamLabel, Gauge>,
    connect: Family<UpstreamLabel, Gauge>,
    groups: Family<ServiceLabel, Counter>,
    grouped: Family<ServiceLabel, Counter>,
    /// Of models.
    pub agent: AgentMetrics,
}

/// Metrics of the store.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    /// Rows of a commit.
    pub rows: Histogram,
    /// Seconds of a commit.
    pub seconds: Histogram,
}

/// Metrics of one service, looked up once.
#[derive(Debug, Clone)]
pub struct ServiceMetrics {
    done: Counter,
    duplicate: Counter,
    retried: Counter,
    deferred: Counter,
    dead: Counter,
    /// Of the rules on its events.
    pub rules: FollowMetrics,
    /// Of its events that nothing is done with.
    pub idle: Idle,
    took: Histogram,
    /// From acceptance to the end.
    pub accept_to_done: Histogram,
}

/// Metrics of one service's limits.
#[derive(Debug, Clone, Default)]
pub struct QuotaMetrics {
    /// See [`LIMITER_TRIPS`].
    pub trips: Counter,
    /// See [`LIMITER_CALLS`].
    pub calls: Counter,
    /// See [`LIMITER_OVER`].
    pub over: Counter,
    /// See [`LIMITER_REFUSED`].
    pub refused: Counter,
    /// See [`LIMITER_ABSURD`].
    pub absurd: Counter,
    /// See [`LIMITER_SHARED`].
    pub shared: Counter,
    /// See [`LIMITER_AWAY`].
    pub away: Counter,
}

/// Metrics of one upstream's breaker.
#[derive(Debug, Clone, Default)]
pub struct BreakerMetrics {
    state: Gauge,
    closed: Counter,
    half_open: Counter,
    open: Counter,
}

impl BreakerMetrics {
    /// It became this.
    pub fn changed(&self, to: State) {
        let (value, counter) = match to {
            State::Closed => (0, &self.closed),
            State::HalfOpen => (1, &self.half_open),
            State::Open => (2, &self.open),
        };
        self.state.set(value);
        counter.inc();
    }
}

fn seconds() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        30.0, 120.0, 600.0,
    ])
}

impl Metrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            settled: Family::default(),
            took: Family::new_with_constructor(seconds),
            accept_to_done: Family::new_with_constructor(seconds),
            limiter: Default::default(),
            breaker_state: Family::default(),
            breaker_transitions: Family::default(),
            rules: RuleMetrics::register(registry),
            idle: IdleMetrics::register(registry),
            store: StoreMetrics {
                rows: Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]),
                seconds: seconds(),
            },
            reach: Family::default(),
            connect: Family::default(),
            groups: Family::default(),
            grouped: Family::default(),
            agent: AgentMetrics::register(registry),
        };
        registry.register(SETTLED, "Events settled, by outcome", metrics.settled.clone());
        registry.register(TOOK, "From delivery to settlement", metrics.took.clone());
        registry.register(
            ACCEPT_TO_DONE,
            "From acceptance to done",
            metrics.accept_to_done.clone(),
        );
        let names = [
            (LIMITER_TRIPS, "Round trips to Redis for limits"),
            (LIMITER_CALLS, "Calls booked with Redis"),
            (LIMITER_OVER, "Calls that a limit in shadow would have held up"),
            (LIMITER_REFUSED, "Refusals that paused a key"),
            (LIMITER_ABSURD, "Headers about limits that made no sense"),
            (LIMITER_SHARED, "Calls under the local share while Redis was away"),
            (LIMITER_AWAY, "Times the limiter could not be asked"),
        ];
        for ((name, help), family) in names.into_iter().zip(&metrics.limiter) {
            registry.register(name, help, family.clone());
        }
        registry.register(
            BREAKER_STATE,
            "Upstreams in service (0), probed (1) or out of service (2)",
            metrics.breaker_state.clone(),
        );
        registry.register(
            BREAKER_TRANSITIONS,
            "Changes of an upstream's breaker, by what it became",
            metrics.breaker_transitions.clone(),
        );
        registry.register(
            REACH,
            "Upstreams that can be reached (0), slowly (1) or not (2)",
            metrics.reach.clone(),
        );
        registry.register(
            CONNECT,
            "Time of the last connection to an upstream, to see whether it can be reached",
            metrics.connect.clone(),
        );
        registry.register(
            GROUPS,
            "Calls that were made for several events",
            metrics.groups.clone(),
        );
        registry.register(
            GROUPED,
            "Events that shared a call with others",
            metrics.grouped.clone(),
        );
        registry.register(COMMIT_ROWS, "Rows of a group commit", metrics.store.rows.clone());
        registry.register(
            COMMIT_SECONDS,
            "Time of a group commit",
            metrics.store.seconds.clone(),
        );
        registry.register_collector(Box::new(Dropped));
        metrics
    }

    /// Those of one service.
    pub fn service(&self, service: &str) -> ServiceMetrics {
        let label = ServiceLabel {
            service: service.to_owned(),
        };
        let settled = |outcome| {
            self.settled
                .get_or_create(&OutcomeLabel {
                    service: service.to_owned(),
                    outcome,
                })
                .clone()
        };
        ServiceMetrics {
            done: settled("done"),
            duplicate: settled("duplicate"),
            retried: settled("retried"),
            deferred: settled("deferred"),
            dead: settled("dead"),
            rules: self.rules.service(&label),
            idle: self.idle.service(service),
            took: self.took.get_or_create(&label).clone(),
            accept_to_done: self.accept_to_done.get_or_create(&label).clone(),
        }
    }

    /// Whether one upstream can be reached.
    pub fn reach(&self, service: &str, upstream: &str) -> ReachMetrics {
        let label = UpstreamLabel {
            service: service.to_owned(),
            upstream: upstream.to_owned(),
        };
        ReachMetrics {
            state: self.reach.get_or_create(&label).clone(),
            millis: self.connect.get_or_create(&label).clone(),
        }
    }

    /// Those of one service's groups.
    pub fn groups(&self, service: &str) -> GroupMetrics {
        let label = ServiceLabel {
            service: service.to_owned(),
        };
        GroupMetrics {
            calls: self.groups.get_or_create(&label).clone(),
            events: self.grouped.get_or_create(&label).clone(),
        }
    }

    /// Those of one upstream's breaker.
    pub fn breaker(&self, service: &str, upstream: &str) -> BreakerMetrics {
        let label = UpstreamLabel {
            service: service.to_owned(),
            upstream: upstream.to_owned(),
        };
        let transition = |to| {
            let UpstreamLabel { service, upstream } = label.clone();
            let label = TransitionLabel {
                service,
                upstream,
                to,
            };
            self.breaker_transitions.get_or_create(&label).clone()
        };
        BreakerMetrics {
            state: self.breaker_state.get_or_create(&label).clone(),
            closed: transition("closed"),
            half_open: transition("half_open"),
            open: transition("open"),
        }
    }

    /// Those of one service's limits.
    pub fn quota(&self, service: &str) -> QuotaMetrics {
        let label = ServiceLabel {
            service: service.to_owned(),
        };
        let [trips, calls, over, refused, absurd, shared, away] = self
            .limiter
            .each_ref()
            .map(|family| family.get_or_create(&label).clone());
        QuotaMetrics {
            trips,
            calls,
            over,
            refused,
            absurd,
            shared,
            away,
        }
    }
}

impl ServiceMetrics {
    /// Counts a settled delivery.
    pub fn settled(&self, verdict: &Verdict, took: Duration) {
        match verdict {
            Verdict::Done(_) => &self.done,
            Verdict::Duplicate => &self.duplicate,
            Verdict::Retry { .. } => &self.retried,
            Verdict::Defer { .. } => &self.deferred,
            Verdict::Dead { .. } => &self.dead,
        }
        .inc();
        self.took.observe(took.as_secs_f64());
    }
}

#[derive(Debug)]
struct Dropped;

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let counter = ConstCounter::new(UNSETTLED.load(std::sync::atomic::Ordering::Relaxed));
        let help = "Deliveries dropped without being settled";
        counter.encode(encoder.encode_descriptor(DROPPED, help, None, counter.metric_type())?)
    }
}
