//! The scheduler's metrics. Depths are encoded from the board at every scrape, so that a series ends when nobody
//! knows its value any more instead of showing the last one for ever.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use shared::subject::Service;

use crate::board::{Board, Known};
use crate::figures::Figure;
use crate::leader::Leadership;
use crate::observe::{LaneDepth, Observation};
use crate::signal::Scaling;

/// Messages left to do, unacked ones included, by service and lane.
pub const DEPTH: &str = Figure::QueueDepth.name();
/// Messages delivered and not settled, by service and lane.
pub const UNACKED: &str = "weir_queue_unacked";
/// Unacked messages delivered more than once, by service and lane.
pub const REDELIVERED: &str = "weir_queue_redelivered";
/// Retries that wait for their time, by service.
pub const RETRYING: &str = "weir_queue_retrying";
/// Dead letters, by service.
pub const DEAD_LETTERS: &str = "weir_dead_letters";
/// Age of the oldest message that waits, by service; exposed with the suffix `_seconds`.
pub const OLDEST_AGE: &str = "weir_oldest_age";
/// Workers that a service can make use of, by service.
pub const DEMAND: &str = Figure::WorkerDemand.name();
/// Messages that come, by service: per second.
pub const ARRIVALS: &str = "weir_queue_arrivals_per_second";
/// What an attempt takes, by service; exposed with the suffix `_seconds`.
pub const SERVICE_TIME: &str = "weir_service_time";
/// Workers that Weir recommends where no autoscaler decides, by service.
pub const RECOMMENDED: &str = "weir_workers_recommended";
/// Age of the figures above, by service; exposed with the suffix `_seconds`.
pub const OBSERVATION_AGE: &str = "weir_observation_age";
/// 1 where this replica leads.
pub const LEADER: &str = "weir_scheduler_leader";
/// Messages that the backstop buried, by service; exposed with the suffix `_total`.
pub const BURIED: &str = "weir_backstop_buried";
/// Bodies of large events that nobody referred to and that were removed; exposed with the suffix `_total`.
pub const COLLECTED: &str = "weir_claims_collected";
/// Observations that failed; exposed with the suffix `_total`.
pub const UNKNOWN: &str = "weir_observation_failures";
/// Settings of streams and consumers that are not as this configuration says.
pub const DRIFT: &str = "weir_topology_drift";

/// What is counted as it happens.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// [`BURIED`].
    pub buried: Family<ServiceLabel, Counter>,
    /// [`COLLECTED`].
    pub collected: Counter,
    /// [`UNKNOWN`].
    pub unknown: Counter,
    /// [`DRIFT`].
    pub drift: Gauge,
}

/// The label `service`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServiceLabel {
    /// Name of the service.
    pub service: String,
}

impl Metrics {
    /// Registers everything that this replica shows.
    pub fn new(registry: &mut Registry, board: Arc<Board>, leadership: Leadership) -> Self {
        let metrics = Self::default();
        // A counter that begins at 1 has never grown, for whoever watches it.
        for service in board.services() {
            let service = service.to_string();
            drop(metrics.buried.get_or_create(&ServiceLabel { service }));
        }
        let buried = metrics.buried.clone();
        registry.register(
            BURIED,
            "Messages buried after too many deliveries without an outcome",
            buried,
        );
        let collected = metrics.collected.clone();
        registry.register(
            COLLECTED,
            "Bodies of large events that nobody referred to and that were removed",
            collected,
        );
        let unknown = metrics.unknown.clone();
        registry.register(UNKNOWN, "Observations of a service that failed", unknown);
        let drift = metrics.drift.clone();
        registry.register(
            DRIFT,
            "Settings of streams and consumers that differ from this configuration",
            drift,
        );
        registry.register_collector(Box::new(Depths { board, leadership }));
        metrics
    }
}

#[derive(Debug)]
struct Depths {
    board: Arc<Board>,
    leadership: Leadership,
}

impl Collector for Depths {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let leads = ConstGauge::new(i64::from(self.leadership.leads()));
        leads.encode(encoder.encode_descriptor(
            LEADER,
            "Whether this replica leads",
            None,
            MetricType::Gauge,
        )?)?;

        let all = self.board.all();
        let ages: Vec<_> = all
            .iter()
            .filter_map(|(service, known)| match known {
                Known::Fresh(_, age) | Known::Stale(_, age) => Some((service.as_str(), age.as_secs_f64())),
                Known::Never => None,
            })
            .collect();
        per_service(
            &mut encoder,
            OBSERVATION_AGE,
            "Age of a service's figures",
            Some(&Unit::Seconds),
            &ages,
        )?;

        let fresh: Vec<_> = all
            .iter()
            .filter_map(|(service, known)| match known {
                Known::Fresh(observation, _) => Some((service, observation)),
                Known::Stale(..) | Known::Never => None,
            })
            .collect();
        let help = "Messages left to do, those that workers hold included";
        per_lane(&mut encoder, DEPTH, help, &fresh, |lane| lane.waiting)?;
        per_lane(
            &mut encoder,
            UNACKED,
            "Messages that workers hold",
            &fresh,
            |lane| lane.unacked,
        )?;
        let help = "Messages that workers hold for the second time or more";
        per_lane(&mut encoder, REDELIVERED, help, &fresh, |lane| lane.redelivered)?;
        let each = |figure: fn(&Observation) -> f64| {
            fresh
                .iter()
                .map(|(service, seen)| (service.as_str(), figure(seen)))
                .collect::<Vec<_>>()
        };
        let counted = |count: fn(&Observation) -> Option<u64>| {
            fresh
                .iter()
                .filter_map(|(service, seen)| Some((service.as_str(), count(seen)? as f64)))
                .collect::<Vec<_>>()
        };
        let retrying = counted(|seen| seen.retrying);
        per_service(
            &mut encoder,
            RETRYING,
            "Retries that wait for their time",
            None,
            &retrying,
        )?;
        per_service(
            &mut encoder,
            DEAD_LETTERS,
            "Dead letters",
            None,
            &counted(|seen| seen.dead),
        )?;
        let oldest = each(|seen| seen.oldest_age().unwrap_or_default().as_secs_f64());
        let help = "Age of the oldest message that waits, 0 when none does";
        per_service(&mut encoder, OLDEST_AGE, help, Some(&Unit::Seconds), &oldest)?;
        self.scaling(&mut encoder, &fresh)
    }
}

impl Depths {
    fn scaling(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        fresh: &[(&Service, &Observation)],
    ) -> fmt::Result {
        let scaling: Vec<_> = fresh
            .iter()
            .filter_map(|(service, _)| {
                let (known, scaling) = self.board.known(service)?;
                matches!(known, Known::Fresh(..)).then_some((service.as_str(), scaling.ok()?))
            })
            .collect();
        let each = |figure: fn(&Scaling) -> Option<f64>| {
            let values = scaling
                .iter()
                .filter_map(|(service, scaling)| Some((*service, figure(scaling)?)));
            values.collect::<Vec<_>>()
        };
        let demand = each(|scaling| Some(scaling.demand.milli as f64 / 1_000.0));
        per_service(encoder, DEMAND, "Workers that can be made use of", None, &demand)?;
        let arrivals = each(|scaling| Some(scaling.demand.load.arrivals));
        let help = "Messages that come per second, retries whose time has come included";
        per_service(encoder, ARRIVALS, help, None, &arrivals)?;
        let times = each(|scaling| scaling.demand.load.service_time);
        let help = "Time that one attempt takes, of late";
        per_service(encoder, SERVICE_TIME, help, Some(&Unit::Seconds), &times)?;
        let recommended = each(|scaling| Some(f64::from(scaling.advice.workers)));
        let help = "Workers that are recommended where no autoscaler decides";
        per_service(encoder, RECOMMENDED, help, None, &recommended)
    }
}

fn per_lane(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    fresh: &[(&Service, &Observation)],
    figure: fn(&LaneDepth) -> u64,
) -> fmt::Result {
    if fresh.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (service, observation) in fresh {
        for lane in &observation.lanes {
            let labels = [("service", service.as_str()), ("lane", lane.lane.as_str())];
            ConstGauge::new(figure(lane) as i64).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn per_service(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: &[(&str, f64)],
) -> fmt::Result {
    if values.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (service, value) in values {
        ConstGauge::new(*value).encode(metric.encode_family(&[("service", *service)])?)?;
    }
    Ok(())
}
