//! Events that are done with nothing done: of a type that the service does nothing with, or about nothing that its API
//! could be asked for. They are no failures, and where they were meant to do something nobody else would say so.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::handler::Completion;

/// How such an event is done.
pub const NOTHING_TO_DO: &str = "nothing_to_do";
/// Such events, by service and type.
pub const IDLE: &str = "weir_worker_nothing_to_do";
/// Most types of a service that are told by their names: whoever publishes chooses them.
pub const MOST: usize = 32;
/// What all others are called.
pub const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    service: String,
    r#type: String,
}

/// Metrics of all services.
#[derive(Debug, Clone)]
pub struct IdleMetrics(Family<TypeLabel, Counter>);

impl IdleMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let counts = Family::default();
        registry.register(IDLE, "Events that were done with nothing done", counts.clone());
        Self(counts)
    }

    /// What is told of one service.
    pub fn service(&self, service: &str) -> Idle {
        Idle {
            service: service.to_owned(),
            counts: self.0.clone(),
            told: Arc::default(),
        }
    }
}

/// What is told of one service's events that nothing is done with.
#[derive(Debug, Clone)]
pub struct Idle {
    service: String,
    counts: Family<TypeLabel, Counter>,
    told: Arc<Mutex<HashSet<String>>>,
}

impl Idle {
    /// Tells of an event, if nothing was done with it: its type's first one in the log, each in the metrics.
    pub fn done(&self, kind: &str, done: &Completion) {
        if done.code != NOTHING_TO_DO {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !told.contains(kind) && told.len() < MOST;
        if is_new {
            told.insert(kind.to_owned());
        }
        let name = if told.contains(kind) { kind } else { OTHER };
        let label = TypeLabel {
            service: self.service.clone(),
            r#type: name.to_owned(),
        };
        drop(told);
        self.counts.get_or_create(&label).inc();
        if is_new {
            let service = &self.service;
            tracing::warn!(
                service,
                r#type = kind,
                "nothing is done with events like this one (told once a type)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_counted_and_bounded() {
        let mut registry = Registry::default();
        let metrics = IdleMetrics::register(&mut registry);
        let (slack, http) = (metrics.service("slack"), metrics.service("http"));
        let nothing = Completion::new(NOTHING_TO_DO);
        slack.done("call", &Completion::new("ok"));
        slack.done("tell", &nothing);
        slack.done("tell", &nothing);
        http.done("tell", &nothing);
        for n in 0..100 {
            slack.done(&format!("type-{n}"), &nothing);
        }
        slack.done("tell", &nothing);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = |service, kind, n| format!("{IDLE}_total{{service=\"{service}\",type=\"{kind}\"}} {n}\n");
        for line in [
            line("slack", "tell", 3),
            line("http", "tell", 1),
            line("slack", "type-30", 1),
            line("slack", OTHER, 69),
        ] {
            assert!(text.contains(&line), "{line}{text}");
        }
        assert_eq!(
            text.lines().filter(|line| line.contains("slack")).count(),
            MOST + 1
        );
    }
}
