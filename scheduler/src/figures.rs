//! What autoscalers may read of a service: three figures of one moment, or which of them are not known. Every way out (the
//! external metrics API, the KEDA scaler, Prometheus) reads them here, so that all of them say the same.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::subject::Service;

use crate::board::{Board, Known};

/// What autoscalers may read of one service, all of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Runnable messages: waiting in lanes and unacked; parked ones left out.
    pub queue_depth: u64,
    /// Age of the oldest runnable message; zero when none waits.
    pub oldest_age: Duration,
    /// Useful workers, in thousandths; or why they cannot be told, while the others are known.
    pub worker_demand_milli: Result<u64, Unknown>,
    /// When they were read.
    pub at: SystemTime,
}

/// One of the figures, by the name under which autoscalers ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Figure {
    /// [`Figures::queue_depth`], in messages.
    QueueDepth,
    /// [`Figures::oldest_age`], in seconds.
    OldestAge,
    /// [`Figures::worker_demand_milli`], in workers.
    WorkerDemand,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::QueueDepth, Self::OldestAge, Self::WorkerDemand];

    /// The name of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueDepth => "weir_queue_depth",
            Self::OldestAge => "weir_oldest_age_seconds",
            Self::WorkerDemand => "weir_worker_demand",
        }
    }

    /// The figure whose metric has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|figure| figure.name() == name)
    }
}

impl Figures {
    /// A figure in thousandths of its unit.
    ///
    /// # Errors
    /// It is not known.
    pub fn milli(&self, figure: Figure) -> Result<u64, Unknown> {
        match figure {
            Figure::QueueDepth => Ok(self.queue_depth.saturating_mul(1_000)),
            Figure::OldestAge => Ok(u64::try_from(self.oldest_age.as_millis()).unwrap_or(u64::MAX)),
            Figure::WorkerDemand => self.worker_demand_milli.clone(),
        }
    }
}

/// Figures are not known: not observed yet, or too long ago. Not the same as zero.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the figures of {service} are not known: {why}")]
pub struct Unknown {
    service: Service,
    why: String,
}

impl Board {
    /// The figures of a service as they were within the last three intervals; `None` when the fleet has no such service.
    pub fn figures(&self, service: &Service) -> Option<Result<Figures, Unknown>> {
        let unknown = |why: String| Unknown {
            service: service.clone(),
            why,
        };
        let (known, scaling) = self.known(service)?;
        Some(match (known, scaling) {
            (Known::Fresh(observation, _), scaling) => {
                let queue_depth = observation.sum(|lane| lane.waiting);
                let oldest = observation.oldest_age().filter(|_| queue_depth > 0);
                Ok(Figures {
                    queue_depth,
                    oldest_age: oldest.unwrap_or_default(),
                    worker_demand_milli: scaling.map(|scaling| scaling.demand.milli).map_err(unknown),
                    at: UNIX_EPOCH + Duration::from_millis(observation.observed_at),
                })
            }
            (Known::Stale(_, age), _) => Err(unknown(format!("last observed {} s ago", age.as_secs()))),
            (Known::Never, _) => Err(unknown("never observed".to_owned())),
        })
    }

    /// All services of the fleet, by name.
    pub fn services(&self) -> Vec<Service> {
        self.all().into_iter().map(|(service, _)| service).collect()
    }
}
