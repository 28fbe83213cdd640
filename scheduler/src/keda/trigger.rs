//! What a trigger's metadata asks for.

use std::collections::HashMap;

use shared::subject::Service;
use tonic::Status;

use crate::figures::Figure;

/// Most that a target may be.
const MOST_TARGET: f64 = 1e12;

/// What a trigger asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trigger {
    /// Of which service.
    pub(super) service: Service,
    /// Which figure; `metric`, by default the workers' demand.
    pub(super) figure: Figure,
    /// How much of it one replica is for; `target`, by default one worker.
    pub(super) target: f64,
}

impl Trigger {
    /// Reads `service`, `metric` and `target`. Other keys are KEDA's own, except those that look like a misspelt one of
    /// these.
    pub(super) fn read(metadata: &HashMap<String, String>) -> Result<Self, Status> {
        let bad = |what: String| Status::invalid_argument(what);
        let get = |key: &str| {
            metadata
                .get(key)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        for key in metadata.keys() {
            let near = |ours: &&&str| (1..=2).contains(&strsim::levenshtein(ours, key));
            if let Some(ours) = ["service", "metric", "target"].iter().find(near) {
                return Err(bad(format!("{key} is no key of a trigger: did you mean {ours}?")));
            }
        }
        let service = get("service").ok_or_else(|| {
            bad("service is missing from the trigger's metadata: which service is scaled".into())
        })?;
        let service = Service::new(service).map_err(|what| bad(format!("service {what}")))?;
        let figure = match get("metric") {
            None => Figure::WorkerDemand,
            Some(name) => Figure::named(name).ok_or_else(|| {
                let names = Figure::ALL.map(Figure::name).join(", ");
                bad(format!("metric is none of ours: must be one of {names}"))
            })?,
        };
        let target = match (get("target"), figure) {
            (Some(target), _) => target
                .parse()
                .ok()
                // KEDA counts in thousandths.
                .filter(|target| (0.001..=MOST_TARGET).contains(target))
                .ok_or_else(|| bad(format!("target must be a number from 0.001 to {MOST_TARGET}")))?,
            (None, Figure::WorkerDemand) => 1.0,
            (None, figure) => {
                return Err(bad(format!(
                    "target is missing from the trigger's metadata: how much of {} one replica is for",
                    figure.name()
                )));
            }
        };
        Ok(Self {
            service,
            figure,
            target,
        })
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Trigger, Status> {
        let metadata = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Trigger::read(&metadata.collect())
    }

    #[test]
    fn a_service_alone_is_scaled_by_its_demand() {
        let trigger = read(&[("service", "github"), ("scalerAddress", "weir-scheduler:9090")]).unwrap();
        assert_eq!((trigger.figure, trigger.target), (Figure::WorkerDemand, 1.0));
        let depth = [
            ("service", "github"),
            ("metric", "weir_queue_depth"),
            ("target", "50.5"),
        ];
        let trigger = read(&depth).unwrap();
        assert_eq!((trigger.figure, trigger.target), (Figure::QueueDepth, 50.5));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (pairs, says) in [
            (&[][..], "service is missing"),
            (&[("service", "Git Hub")], "service must be"),
            (&[("services", "github")], "did you mean service?"),
            (
                &[("service", "github"), ("Metric", "weir_queue_depth")],
                "did you mean metric?",
            ),
            (&[("service", "github"), ("traget", "5")], "did you mean target?"),
            (
                &[("service", "github"), ("metric", "depth")],
                "metric is none of ours",
            ),
            (
                &[("service", "github"), ("metric", "weir_queue_depth")],
                "target is missing",
            ),
            (&[("service", "github"), ("target", "0")], "target must be"),
            (&[("service", "github"), ("target", "-1")], "target must be"),
            (&[("service", "github"), ("target", "NaN")], "target must be"),
            (&[("service", "github"), ("target", "inf")], "target must be"),
            (&[("service", "github"), ("target", "one")], "target must be"),
        ] {
            let status = read(pairs).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(says), "{pairs:?}: {status}");
        }
    }
}
