//! What the metrics tell of rules.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Message;
use crate::metrics::ServiceLabel;

/// Events that rules emitted, by the service of the event that they follow from.
pub const FOLLOWED: &str = "weir_worker_follow_ups";
/// Events on which rules failed, by service.
pub const FAILED: &str = "weir_worker_rules_failed";
/// Rules in force.
pub const IN_FORCE: &str = "weir_worker_rules_in_force";
/// Whether the rules file as it is now could not be put in force (1), and older rules are.
pub const STALE: &str = "weir_worker_rules_stale";
/// Times that a changed rules file was put in force.
pub const CHANGED: &str = "weir_worker_rules_changed";

/// Metrics of rules.
#[derive(Debug, Clone)]
pub struct RuleMetrics {
    followed: Family<ServiceLabel, Counter>,
    failed: Family<ServiceLabel, Counter>,
    in_force: Gauge,
    stale: Gauge,
    changed: Counter,
}

/// Those of the rules on one service's events.
#[derive(Debug, Clone)]
pub struct FollowMetrics {
    followed: Counter,
    failed: Counter,
}

impl RuleMetrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            followed: Family::default(),
            failed: Family::default(),
            in_force: Gauge::default(),
            stale: Gauge::default(),
            changed: Counter::default(),
        };
        registry.register(FOLLOWED, "Events that rules emitted", metrics.followed.clone());
        registry.register(FAILED, "Events on which rules failed", metrics.failed.clone());
        registry.register(IN_FORCE, "Rules in force", metrics.in_force.clone());
        registry.register(
            STALE,
            "Whether the rules file cannot be put in force (1) and older rules are",
            metrics.stale.clone(),
        );
        registry.register(
            CHANGED,
            "Times that a changed rules file was put in force",
            metrics.changed.clone(),
        );
        metrics
    }

    /// Those of one service.
    pub(crate) fn service(&self, label: &ServiceLabel) -> FollowMetrics {
        FollowMetrics {
            followed: self.followed.get_or_create(label).clone(),
            failed: self.failed.get_or_create(label).clone(),
        }
    }

    /// So many rules are in force.
    pub(super) fn in_force(&self, rules: usize) {
        self.in_force.set(i64::try_from(rules).unwrap_or(i64::MAX));
    }

    /// Changed rules are in force.
    pub(super) fn changed(&self) {
        self.changed.inc();
    }

    /// Whether the file says something else than what is in force.
    pub(super) fn stale(&self, stale: bool) {
        self.stale.set(i64::from(stale));
    }
}

impl FollowMetrics {
    /// Counts a message that followed from an event.
    pub fn followed(&self, message: &Message) {
        if message.is_letter() {
            self.failed.inc();
        } else {
            self.followed.inc();
        }
    }
}
