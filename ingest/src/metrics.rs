//! The metrics of ingest. No label carries an id, a tenant or anything else that senders choose.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::error::Code;
use shared::subject::Service;

/// Requests by route and status.
pub const REQUESTS: &str = "weir_ingest_requests";
/// Refused requests, and refused events of batches, by reason.
pub const REFUSED: &str = "weir_ingest_refused";
/// Events that NATS has kept, by service and kind (webhook or api). Duplicates are not among them.
pub const ACCEPTED: &str = "weir_ingest_accepted";
/// Events that NATS had already, by service.
pub const DUPLICATES: &str = "weir_ingest_duplicates";
/// Time from publishing an event until NATS has acknowledged it, further tries included.
pub const PUBLISH: &str = "weir_ingest_publish";
/// Events that wait for NATS now.
pub const IN_FLIGHT: &str = "weir_ingest_in_flight";
/// Open connections.
pub const CONNECTIONS: &str = "weir_ingest_connections";

/// The routes that the metrics tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST /webhooks/{source}`
    Webhook,
    /// `POST /v1/events/{service}`
    Event,
    /// `POST /v1/events/{service}/batch`
    Batch,
    /// Anything else that is refused.
    Other,
}

impl Route {
    /// The route as it is written in the router, in metrics and in traces.
    pub fn template(self) -> &'static str {
        match self {
            Self::Webhook => "/webhooks/{source}",
            Self::Event => "/v1/events/{service}",
            Self::Batch => "/v1/events/{service}/batch",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteStatus {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Acceptance {
    service: Arc<str>,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: Arc<str>,
}

/// Where ingest counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RouteStatus, Counter>,
    /// One counter a [`Code`], in the order of its discriminants.
    refused: Arc<[Counter]>,
    accepted: Family<Acceptance, Counter>,
    duplicates: Family<ServiceLabel, Counter>,
    /// Seconds.
    pub publish: Histogram,
    /// Events that wait for NATS.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
}

/// The counters of one service, looked up once.
#[derive(Debug, Clone)]
pub struct ServiceMetrics {
    /// Accepted webhooks.
    pub webhooks: Counter,
    /// Accepted events of the API.
    pub api: Counter,
    /// Duplicates of both.
    pub duplicates: Counter,
}

impl Metrics {
    /// Metrics that show in this registry.
    pub fn register(registry: &mut Registry) -> Self {
        let refused = Family::<Reason, Counter>::default();
        let counters = Code::ALL
            .iter()
            .map(|code| refused.get_or_create_owned(&Reason { reason: code.word() }))
            .collect();
        let metrics = Self {
            requests: Family::default(),
            refused: counters,
            accepted: Family::default(),
            duplicates: Family::default(),
            // 0.25 ms to about 8 s: an fsync on a good disk to the longest patience.
            publish: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
                0.000_25, 2.0, 16,
            )),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
        };
        registry.register(REQUESTS, "Requests by route and status", metrics.requests.clone());
        registry.register(REFUSED, "Refused requests and events by reason", refused);
        registry.register(ACCEPTED, "Events kept by NATS", metrics.accepted.clone());
        registry.register(
            DUPLICATES,
            "Events that NATS had already",
            metrics.duplicates.clone(),
        );
        let help = "Time until NATS acknowledged an event";
        registry.register_with_unit(PUBLISH, help, Unit::Seconds, metrics.publish.clone());
        registry.register(IN_FLIGHT, "Events that wait for NATS", metrics.in_flight.clone());
        registry.register(CONNECTIONS, "Open connections", metrics.connections.clone());
        metrics
    }

    /// The counters of a service.
    pub fn service(&self, service: &Service) -> ServiceMetrics {
        let service: Arc<str> = service.as_str().into();
        let accepted = |kind| {
            self.accepted.get_or_create_owned(&Acceptance {
                service: Arc::clone(&service),
                kind,
            })
        };
        ServiceMetrics {
            webhooks: accepted("webhook"),
            api: accepted("api"),
            duplicates: self.duplicates.get_or_create_owned(&ServiceLabel {
                service: Arc::clone(&service),
            }),
        }
    }

    /// Counts an answered request.
    pub fn request(&self, route: Route, status: u16) {
        self.requests
            .get_or_create(&RouteStatus {
                route: route.template(),
                status,
            })
            .inc();
    }

    /// Counts a refusal.
    pub fn refuse(&self, code: Code) {
        if let Some(counter) = self.refused.get(code as usize) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_what_dashboards_ask_for() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.service(&Service::new("github").unwrap()).webhooks.inc();
        metrics.request(Route::Webhook, 202);
        metrics.refuse(Code::SignatureWrong);
        metrics.publish.observe(0.001);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "weir_ingest_requests_total{route=\"/webhooks/{source}\",status=\"202\"} 1",
            "weir_ingest_refused_total{reason=\"signature_wrong\"} 1",
            "weir_ingest_refused_total{reason=\"unavailable\"} 0",
            "weir_ingest_accepted_total{service=\"github\",kind=\"webhook\"} 1",
            "weir_ingest_accepted_total{service=\"github\",kind=\"api\"} 0",
            "weir_ingest_duplicates_total{service=\"github\"} 0",
            "weir_ingest_publish_seconds_count 1",
            "weir_ingest_in_flight 0",
            "weir_ingest_connections 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
