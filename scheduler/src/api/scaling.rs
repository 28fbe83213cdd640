//! How many workers a service calls for, and why.

use serde::{Deserialize, Serialize};
use shared::telemetry::propagation::rfc3339;

use crate::board::Board;
use crate::figures::Figures;
use crate::signal::Scaling;

/// One service in the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScalingView {
    /// Its name.
    pub service: String,
    /// Why nothing is known of it; `None` when the figures can be relied on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// The figures; `None` when they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none", flatten)]
    pub known: Option<ScalingFigures>,
}

/// What a service calls for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScalingFigures {
    /// How many workers to run: a count that is left alone while the load lies between the thresholds. Each replica
    /// keeps its own; ask the same one, or take the larger.
    pub recommended_workers: u32,
    /// What so many workers are loaded with: 1 is all that they can do.
    pub load: f64,
    /// Workers that are of use this moment.
    pub worker_demand: f64,
    /// What bounds that: `load`, `quota`, `unacked`, `floor` or `unmeasured`.
    pub bound: String,
    /// Messages that come per second, retries whose time has come included.
    pub arrivals_per_second: f64,
    /// Time that one attempt takes; `None` while none was seen to end.
    pub service_time_seconds: Option<f64>,
    /// Messages left to do, those that workers hold included.
    pub queue_depth: u64,
    /// Age of the oldest of them, 0 when there is none.
    pub oldest_age_seconds: f64,
    /// When all this was read, RFC 3339.
    pub observed_at: String,
}

impl ScalingView {
    /// Every service as the board knows it.
    pub fn all(board: &Board) -> Vec<Self> {
        let services = board.services().into_iter();
        let views = services.filter_map(|service| {
            let (_, scaling) = board.known(&service)?;
            let (unknown, known) = match (board.figures(&service)?, scaling) {
                (Ok(figures), Ok(scaling)) => (None, Some(ScalingFigures::new(&figures, &scaling))),
                (Ok(figures), Err(why)) => {
                    let unknown = figures.worker_demand_milli.err();
                    (Some(unknown.map_or(why, |unknown| unknown.to_string())), None)
                }
                (Err(unknown), _) => (Some(unknown.to_string()), None),
            };
            Some(Self {
                service: service.to_string(),
                unknown,
                known,
            })
        });
        views.collect()
    }
}

impl ScalingFigures {
    fn new(figures: &Figures, scaling: &Scaling) -> Self {
        let load = scaling.demand.load;
        Self {
            recommended_workers: scaling.advice.workers,
            load: scaling.advice.load,
            worker_demand: scaling.demand.milli as f64 / 1_000.0,
            bound: scaling.demand.bound.as_str().to_owned(),
            arrivals_per_second: load.arrivals,
            service_time_seconds: load.service_time,
            queue_depth: figures.queue_depth,
            oldest_age_seconds: super::seconds(figures.oldest_age),
            observed_at: rfc3339(figures.at),
        }
    }
}
