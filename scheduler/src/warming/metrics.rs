//! What warming does and is worth, for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use shared::subject::Service;

use crate::warm::judge::Judge;
use crate::warm::predict::Source;

/// Keys that were planned to be fetched, by service and source; exposed with the suffix `_total`.
pub const PLANNED: &str = "weir_warm_planned";
/// Requests to workers, by service; exposed with the suffix `_total`.
pub const REQUESTS: &str = "weir_warm_requests";
/// What became of the planned keys, by service and outcome; exposed with the suffix `_total`.
pub const KEYS: &str = "weir_warm_keys";
/// The share of a source's latest predictions that was right, by service and source.
pub const PRECISION: &str = "weir_warm_precision";
/// Whether a source's predictions may lead to calls, by service and source.
pub const LIVE: &str = "weir_warm_live";
/// Time of a plan over all keys.
pub const ROUND_SECONDS: &str = "weir_warm_round_seconds";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    service: String,
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    service: String,
    outcome: &'static str,
}

/// The metrics.
#[derive(Debug, Clone)]
pub struct WarmMetrics {
    planned: Family<SourceLabel, Counter>,
    requests: Family<ServiceLabel, Counter>,
    keys: Family<OutcomeLabel, Counter>,
    precision: Family<SourceLabel, Gauge<f64, AtomicU64>>,
    live: Family<SourceLabel, Gauge>,
    /// [`ROUND_SECONDS`].
    pub(super) rounds: Histogram,
}

impl WarmMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            planned: Family::default(),
            requests: Family::default(),
            keys: Family::default(),
            precision: Family::default(),
            live: Family::default(),
            rounds: Histogram::new(exponential_buckets(0.000_1, 4.0, 9)),
        };
        let Self {
            planned,
            requests,
            keys,
            precision,
            live,
            rounds,
        } = metrics.clone();
        registry.register(PLANNED, "Keys that were planned to be fetched ahead", planned);
        registry.register(REQUESTS, "Requests to workers to fetch keys ahead", requests);
        registry.register(KEYS, "What became of keys that were planned", keys);
        registry.register(
            PRECISION,
            "Share of the latest predictions that was right",
            precision,
        );
        registry.register(LIVE, "Whether predictions may lead to calls", live);
        registry.register(ROUND_SECONDS, "Time of a plan over all keys", rounds);
        metrics
    }

    pub(super) fn planned(&self, service: &Service, source: Source) {
        self.planned.get_or_create(&label(service, source)).inc();
    }

    pub(super) fn requested(&self, service: &Service) {
        let service = service.to_string();
        self.requests.get_or_create(&ServiceLabel { service }).inc();
    }

    pub(super) fn key(&self, service: &Service, outcome: &'static str) {
        let service = service.to_string();
        self.keys.get_or_create(&OutcomeLabel { service, outcome }).inc();
    }

    /// How the sources of a service stand.
    pub(super) fn judged(&self, service: &Service, judge: &Judge, now_ms: u64) {
        for source in Source::ALL {
            let label = label(service, source);
            let live = i64::from(judge.live(source, now_ms));
            self.live.get_or_create(&label).set(live);
            match judge.record(source).precision() {
                Some(precision) => drop(self.precision.get_or_create(&label).set(precision.into())),
                None => drop(self.precision.remove(&label)),
            }
        }
    }

    /// Another replica knows by now.
    pub(super) fn forget(&self) {
        self.precision.clear();
        self.live.clear();
    }
}

fn label(service: &Service, source: Source) -> SourceLabel {
    SourceLabel {
        service: service.to_string(),
        source: source.as_str(),
    }
}
