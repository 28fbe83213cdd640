//! `agent`: asks language models what an event asks for, and keeps what they answer. docs/agent.md says how events ask
//! and what it is set to.
//!
//! An event's work are steps, each of them one question. A step's answer is taken from where it is already (an earlier
//! delivery of the event, the same question of another event), or a model is called for it under limits of the model's
//! own, within budgets; and it is kept before the next step begins, so that no delivery pays for it again.

mod ask;
mod budget;
mod cache;
mod desk;
mod health;
mod kept;
pub mod metrics;
mod model;
mod modes;
pub mod money;
mod protocol;
mod purse;
mod settings;
mod sse;
mod work;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::live;

use super::{Completion, Handler, Kind};
use crate::effect::{Effect, Policy};
use crate::provider::Provider;
use crate::quota::Turn;
use desk::Desk;
use work::Work;

/// `agent`, as workers know it. Its models have limits of their own: those of the service are for events. A call whose
/// answer was lost is made again; whoever does not want that sets another policy.
pub const KIND: Kind = Kind {
    name: "agent",
    url: "https://api.openai.com/v1",
    types: &[],
    concurrency: 25,
    timeout: Duration::from_secs(60),
    provider: Provider::Other,
    unknown: Policy::Retry,
    charged_apart: &[],
    own_endpoint: false,
    caches: false,
    read: settings::Settings::read,
};

/// Events with several calls at a time, in one worker.
const ORCHESTRATIONS: usize = 50;

/// Asks the models of one service.
#[derive(Debug)]
struct Agent {
    desk: Arc<Desk>,
}

impl Agent {
    fn new(desk: Desk) -> Self {
        Self { desk: Arc::new(desk) }
    }

    async fn answer(&self, event: &Event) -> Result<Completion, Failure> {
        let ask = ask::read(event)?;
        let work = Arc::new(Work::begin(&self.desk, event, &ask).await?);
        let mut result = modes::answer(&self.desk, &work, &ask).await?;
        let cost = work.purse.sum().await?;
        let sum = work.sum().clone();
        result["cost"] = json!({"nano_usd": cost, "prices": sum.prices, "estimated": sum.usage.estimated});
        result["usage"] = json!({
            "input": sum.usage.input, "cached": sum.usage.cached, "output": sum.usage.output,
        });
        result["calls"] = json!(sum.calls);
        result["reused_answers"] = json!(sum.reused);
        Ok(Completion::with(
            if sum.calls > 0 { "answered" } else { "reused" },
            result,
        ))
    }
}

impl Handler for Agent {
    /// Whoever pays does not want to pay twice.
    fn effect(&self, _: &Event) -> Effect {
        Effect::Once
    }

    fn models(&self) -> live::Models {
        let models = self.desk.models.iter();
        models
            .map(|model| (model.name.clone(), model.in_force()))
            .collect()
    }

    fn budget(&self) -> Option<live::Budget> {
        self.desk.budget.in_force()
    }

    /// The turn is the event's; each call takes one of its model's own.
    fn handle<'a>(&'a self, event: &'a Event, _: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.answer(event).boxed()
    }
}

#[cfg(test)]
mod tests;
