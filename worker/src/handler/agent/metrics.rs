//! Counts of models: calls, tokens, money, and what was not paid for twice.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::money::{Nano, Usage};

/// Calls to models by service, model and outcome.
pub const CALLS: &str = "weir_worker_agent_calls";
/// Tokens by service, model and kind: input, cached, output.
pub const TOKENS: &str = "weir_worker_agent_tokens";
/// Nano-dollars by service and model.
pub const COST: &str = "weir_worker_agent_cost_nanodollars";
/// Answers that were not paid for, by service and where they were: event, cache, flight.
pub const REUSED: &str = "weir_worker_agent_answers_reused";
/// Calls whose maker told of more than they can have used, by service and model.
pub const DOUBTED: &str = "weir_worker_agent_usage_doubted";
/// Calls that a budget did not allow, by service.
pub const OVER_BUDGET: &str = "weir_worker_agent_over_budget";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    service: String,
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    service: String,
    model: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabel {
    service: String,
    model: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReuseLabel {
    service: String,
    from: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct AgentMetrics {
    calls: Family<CallLabel, Counter>,
    tokens: Family<TokenLabel, Counter>,
    cost: Family<Label, Counter>,
    doubted: Family<Label, Counter>,
    reused: Family<ReuseLabel, Counter>,
    over: Family<ServiceLabel, Counter>,
}

impl AgentMetrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(CALLS, "Calls to models, by outcome", metrics.calls.clone());
        registry.register(
            TOKENS,
            "Tokens that models read and wrote",
            metrics.tokens.clone(),
        );
        registry.register(COST, "What models cost, in nano-dollars", metrics.cost.clone());
        registry.register(
            REUSED,
            "Answers that were not paid for again",
            metrics.reused.clone(),
        );
        registry.register(
            DOUBTED,
            "Calls whose maker told of more than they can have used",
            metrics.doubted.clone(),
        );
        registry.register(
            OVER_BUDGET,
            "Calls that a budget did not allow",
            metrics.over.clone(),
        );
        metrics
    }

    /// A call came to an end: `answered`, or the class of its failure.
    pub fn called(&self, service: &str, model: &str, outcome: &'static str) {
        let (service, model) = (service.to_owned(), model.to_owned());
        self.calls
            .get_or_create(&CallLabel {
                service,
                model,
                outcome,
            })
            .inc();
    }

    /// Something was paid.
    pub fn paid(&self, service: &str, model: &str, usage: Usage, cost: Nano) {
        let kinds = [
            ("input", usage.input),
            ("cached", usage.cached),
            ("output", usage.output),
        ];
        for (kind, tokens) in kinds {
            let (service, model) = (service.to_owned(), model.to_owned());
            self.tokens
                .get_or_create(&TokenLabel { service, model, kind })
                .inc_by(tokens);
        }
        let (service, model) = (service.to_owned(), model.to_owned());
        self.cost.get_or_create(&Label { service, model }).inc_by(cost);
    }

    /// Where it is counted that a maker tells of more than its call can have used.
    pub fn doubted(&self, service: &str, model: &str) -> Counter {
        let (service, model) = (service.to_owned(), model.to_owned());
        self.doubted.get_or_create(&Label { service, model }).clone()
    }

    /// An answer was there already.
    pub fn reused(&self, service: &str, from: &'static str) {
        let service = service.to_owned();
        self.reused.get_or_create(&ReuseLabel { service, from }).inc();
    }

    /// A budget did not allow a call.
    pub fn over(&self, service: &str) {
        let service = service.to_owned();
        self.over.get_or_create(&ServiceLabel { service }).inc();
    }
}
