//! Fetches what the leader of the schedulers expects to be asked for: one request at a time for each service, and only while
//! nobody needs the worker, its API or its limits for anything else. Who cannot at once says so at once.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use shared::subject::WARM_GROUP;
use shared::warm::{Answer, Item, Outcome, Request, Skipped};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::pool::Pool;
use crate::response::{self, Ahead};

/// What became of keys that were to be fetched ahead, by service; `unreadable_request` for messages that are none.
pub const WARMED: &str = "weir_worker_warmed";
/// No call of a request begins later than so long after it came; the leader waits longer.
const WITHIN: Duration = Duration::from_secs(20);
/// So long after that the last one has ended.
const END_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WarmLabel {
    service: String,
    outcome: &'static str,
}

/// Counts.
#[derive(Debug, Clone, Default)]
pub struct WarmMetrics(Family<WarmLabel, Counter>);

impl WarmMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(WARMED, "Keys that were to be fetched ahead", metrics.0.clone());
        metrics
    }

    fn count(&self, pool: &Pool, outcome: &'static str) {
        let service = pool.config.service.to_string();
        self.0.get_or_create(&WarmLabel { service, outcome }).inc();
    }
}

/// Answers requests to warm a service's cache, for ever.
///
/// # Errors
/// NATS did not take the subscription. Another call takes up where this one ended.
pub async fn serve(pool: Arc<Pool>, metrics: WarmMetrics) -> Result<(), async_nats::SubscribeError> {
    let group = WARM_GROUP.to_owned();
    let mut requests = pool
        .client
        .queue_subscribe(pool.config.service.warm(), group)
        .await?;
    let mut at_work = JoinSet::new();
    while let Some(message) = requests.next().await {
        while at_work.try_join_next().is_some() {}
        let request = match Request::decode(&message.payload) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(service = %pool.config.service, %error, "a request to warm cannot be read");
                metrics.count(&pool, "unreadable_request");
                continue;
            }
        };
        if at_work.is_empty() {
            let (pool, metrics) = (Arc::clone(&pool), metrics.clone());
            at_work.spawn(async move {
                let outcomes = fetch(&request, &pool).await;
                answer(message, outcomes, &pool, &metrics).await;
            });
        } else {
            let outcomes = all(&request, Outcome::Skipped(Skipped::Busy));
            answer(message, outcomes, &pool, &metrics).await;
        }
    }
    Ok(())
}

fn all(request: &Request, outcome: Outcome) -> Vec<(u64, Outcome)> {
    request.items.iter().map(|item| (item.key, outcome)).collect()
}

async fn answer(message: Message, outcomes: Vec<(u64, Outcome)>, pool: &Pool, metrics: &WarmMetrics) {
    for (_, outcome) in &outcomes {
        metrics.count(pool, word(*outcome));
    }
    let refused = pool.quota.refused_ago();
    let answer = Answer {
        worker: pool.worker.to_string(),
        outcomes,
        refused_ago_ms: refused.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
    };
    // Without an address nobody wants to know.
    let Some(reply) = message.reply else { return };
    if let Err(error) = pool.client.publish(reply, answer.encode()).await {
        tracing::debug!(%error, "what was warmed could not be told");
    }
}

/// Fetches one key after the other, until the time is up or the API refuses one.
async fn fetch(request: &Request, pool: &Pool) -> Vec<(u64, Outcome)> {
    let until = Instant::now() + WITHIN;
    let mut refused = false;
    let mut outcomes = Vec::with_capacity(request.items.len());
    for item in &request.items {
        let outcome = if refused {
            Outcome::Skipped(Skipped::Quota)
        } else if Instant::now() >= until {
            Outcome::Skipped(Skipped::Late)
        } else {
            one(item, until + END_WITHIN, pool).await
        };
        refused |= outcome == Outcome::Refused;
        outcomes.push((item.key, outcome));
    }
    outcomes
}

async fn one(item: &Item, until: Instant, pool: &Pool) -> Outcome {
    let event = match item.event() {
        Ok(event) => event,
        Err(error) => {
            tracing::debug!(service = %pool.config.service, key = item.key, error, "what is to be warmed cannot be read");
            return Outcome::Skipped(Skipped::Unreadable);
        }
    };
    // Places are taken while messages are waited for: what counts is who is in them.
    if pool.tasks.len() > pool.config.concurrency / 2 {
        return Outcome::Skipped(Skipped::Busy);
    }
    match timeout_at(until, response::ahead(&event, pool)).await {
        Ok(Ahead::Fetched(_)) => Outcome::Fetched,
        Ok(Ahead::Fresh) => Outcome::Fresh,
        Ok(Ahead::NotARead) => Outcome::Skipped(Skipped::NotARead),
        Ok(Ahead::NoQuota) => Outcome::Skipped(Skipped::Quota),
        Ok(Ahead::Refused(error)) => {
            tracing::info!(service = %pool.config.service, %error, "the API refuses to warm a cache");
            Outcome::Refused
        }
        Ok(Ahead::Failed(error)) => {
            tracing::debug!(service = %pool.config.service, event = %event.id, %error, "not warmed");
            Outcome::Failed
        }
        Err(_) => Outcome::Failed,
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fetched => "fetched",
        Outcome::Fresh => "fresh",
        Outcome::Skipped(why) => why.as_str(),
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
    }
}
