//! One step of an event's work: the answer to one question. It is taken from where it is already, or paid for once, by
//! one of the models in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use shared::failpoint;
use shared::failure::Failure;
use shared::subject::Service;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::ask::Request;
use super::budget::{Budget, Reserved};
use super::cache::{Cache, Lock, Question};
use super::kept::{Kept, Shelf};
use super::metrics::AgentMetrics;
use super::model::{Model, PATIENCE, Said, Unsaid};
use super::money::{Nano, OVER};
use super::protocol::{Finish, NO_MONEY};
use super::work::Work;
use crate::outbound::Outbound;

/// The code of an answer that was to be JSON and is not.
const NOT_JSON: &str = "not_json";
/// The code of a question that another worker asks at this moment.
const IN_FLIGHT: &str = "in_flight";
/// How often it is looked whether another has its answer.
const LOOK: Duration = Duration::from_millis(100);

/// A call under way, for all in this worker who want its answer.
type Flight = Shared<BoxFuture<'static, Result<Kept, Failure>>>;

/// What all events of a service share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) service: Service,
    pub(super) models: Vec<Arc<Model>>,
    pub(super) outbound: Outbound,
    pub(super) shelf: Shelf,
    pub(super) cache: Cache,
    pub(super) budget: Budget,
    pub(super) metrics: AgentMetrics,
    /// Longest time of one call.
    pub(super) longest: Duration,
    pub(super) flights: Mutex<HashMap<Question, Flight>>,
    pub(super) tasks: TaskTracker,
    /// Events with several calls at a time.
    pub(super) orchestrations: Semaphore,
}

/// Takes a flight off the list, whatever ends it.
struct Landing(Arc<Desk>, Question);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.flights().remove(&self.1);
    }
}

impl Desk {
    fn flights(&self) -> MutexGuard<'_, HashMap<Question, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to one question: the first of `models` is asked, and the next one when it cannot answer now. Never
    /// because of what was asked, or of a credential that is wrong.
    pub(super) async fn answer(
        self: &Arc<Self>,
        work: &Arc<Work>,
        step: &str,
        request: &Request,
        models: &[Arc<Model>],
    ) -> Result<Kept, Failure> {
        if let Some(kept) = work.kept.get(step) {
            self.metrics.reused(self.service.as_str(), "event");
            work.use_of(kept, false);
            return Ok(kept.clone());
        }
        let mut failures = Vec::new();
        for model in models {
            match self.by(work, step, request, model).await {
                Err(failure) if passes_on(&failure) => failures.push(failure),
                end => return end,
            }
        }
        Err(most_telling(failures))
    }

    /// The answer of one model.
    async fn by(
        self: &Arc<Self>,
        work: &Arc<Work>,
        step: &str,
        request: &Request,
        model: &Arc<Model>,
    ) -> Result<Kept, Failure> {
        let shares = work.shares(request) && self.cache.is_on();
        let question = if shares {
            Question::shared(&work.tenant, model, request, &work.prompt_version)
        } else {
            Question::own(&work.event, step, model)
        };
        loop {
            let (flight, ours) = self.fly(question, || {
                let (desk, work) = (Arc::clone(self), Arc::clone(work));
                let (step, request, model) = (step.to_owned(), request.clone(), Arc::clone(model));
                async move { desk.fetch(&work, &step, &request, &model, question, shares).await }.boxed()
            });
            match flight.await {
                // Of another event's budget.
                Err(failure) if !ours && failure.reason().code == OVER => {}
                Ok(kept) if !ours => {
                    let kept = Kept {
                        cost: 0,
                        reused: true,
                        ..kept
                    };
                    self.metrics.reused(self.service.as_str(), "flight");
                    self.shelf.keep(&work.event, step, &kept, None).await;
                    work.use_of(&kept, false);
                    return Ok(kept);
                }
                Ok(kept) => {
                    work.use_of(&kept, !kept.reused);
                    return Ok(kept);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The call under way for a question, begun by us if there is none. It goes on whoever stops waiting for it: it is
    /// paid for.
    fn fly(
        self: &Arc<Self>,
        question: Question,
        begin: impl FnOnce() -> BoxFuture<'static, Result<Kept, Failure>>,
    ) -> (Flight, bool) {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&question) {
            return (flight.clone(), false);
        }
        let (landing, call) = (Landing(Arc::clone(self), question), begin());
        let call = async move {
            let _landing = landing;
            call.await
        };
        let task = self.tasks.spawn(call.in_current_span());
        let flight = async move {
            task.await.unwrap_or_else(|_| {
                Err(Failure::permanent(
                    crate::outcome::PANIC,
                    "a call to a model panicked",
                ))
            })
        };
        let flight = flight.boxed().shared();
        flights.insert(question, flight.clone());
        (flight, true)
    }

    /// The answer from where the fleet has it, or for money.
    async fn fetch(
        &self,
        work: &Arc<Work>,
        step: &str,
        request: &Request,
        model: &Model,
        question: Question,
        shares: bool,
    ) -> Result<Kept, Failure> {
        let until = Instant::now() + PATIENCE;
        let fence = loop {
            match self.cache.lock(&question).await {
                Lock::Ours(fence) => break Some(fence),
                Lock::Unknown => break None,
                Lock::Theirs => {}
            }
            if let Some(kept) = self.there(work, step, &question, shares).await? {
                return Ok(kept);
            }
            if Instant::now() > until {
                let detail = "another worker is asking the same, or has died of it a moment ago";
                return Err(Failure::throttled(IN_FLIGHT, detail, Duration::from_secs(1)));
            }
            tokio::time::sleep(LOOK).await;
        };
        let answering = async {
            // Only who holds the lock can know that nobody has paid for it meanwhile.
            match self.there(work, step, &question, shares).await? {
                Some(kept) => Ok(kept),
                None => self.pay(work, step, request, model).await,
            }
        };
        let Some(fence) = fence else {
            return answering.await;
        };
        let answered = tokio::select! {
            answered = answering => answered,
            never = self.cache.hold(&question, &fence) => match never {},
        };
        if let Ok(kept) = &answered
            && shares
            && !kept.reused
            && kept.finish == Finish::Stop
        {
            self.cache.put(&question, &fence, kept).await;
        }
        self.cache.unlock(&question, &fence).await;
        answered
    }

    /// The answer that is there: everybody's, or one that another delivery of the event has paid for.
    async fn there(
        &self,
        work: &Work,
        step: &str,
        question: &Question,
        shares: bool,
    ) -> Result<Option<Kept>, Failure> {
        if !shares {
            let kept = self.shelf.of(&work.event).await?.remove(step);
            return Ok(kept.map(|kept| Kept { reused: true, ..kept }));
        }
        let Some(found) = self.cache.get(question).await else {
            return Ok(None);
        };
        let kept = Kept {
            cost: 0,
            reused: true,
            ..found
        };
        self.metrics.reused(self.service.as_str(), "cache");
        self.shelf.keep(&work.event, step, &kept, None).await;
        Ok(Some(kept))
    }

    /// Makes the call, and keeps its answer before anybody goes on with it.
    async fn pay(
        &self,
        work: &Arc<Work>,
        step: &str,
        request: &Request,
        model: &Model,
    ) -> Result<Kept, Failure> {
        let service = self.service.as_str();
        let letter = model.letter(request);
        let most = model.price.of(letter.most);
        let call = format!("{step}/{:016x}", rand::random::<u64>());
        let reserved = self.reserve(work, &call, most).await.inspect_err(|failure| {
            if failure.reason().code == OVER {
                self.metrics.over(service);
            }
        })?;
        let key = format!("{}/{step}", work.event);
        let said = model
            .ask(&self.outbound, request, &letter, &key, self.longest)
            .await;
        let said = said.and_then(|said| usable(said, request));
        let usage = match &said {
            Ok(said) => Some(said.usage),
            Err(unsaid) => unsaid.usage,
        };
        let cost = usage.map_or(0, |usage| model.price.of(usage));
        let outcome = said
            .as_ref()
            .map_or_else(|unsaid| unsaid.failure.class(), |_| "answered");
        self.metrics.called(service, &model.name, outcome);
        let kept = match said {
            Ok(said) => {
                failpoint::hit("agent.paid");
                let kept = Kept {
                    text: said.text,
                    finish: said.finish,
                    usage: said.usage,
                    model: model.name.clone(),
                    exact: said.exact,
                    cost,
                    price: model.price.version.clone(),
                    reused: false,
                };
                work.purse.keep(&call, step, &kept).await;
                failpoint::hit("agent.kept");
                Ok(kept)
            }
            Err(unsaid) => {
                work.purse.settle(&call, most, cost).await;
                Err(unsaid.failure)
            }
        };
        if let Some(usage) = usage {
            self.metrics.paid(service, &model.name, usage, cost);
        }
        self.budget.settle(&work.tenant, reserved, cost).await;
        kept
    }

    /// Reserves what a call may cost, of the event's budget and of the day's.
    async fn reserve(&self, work: &Arc<Work>, call: &str, most: Nano) -> Result<Reserved, Failure> {
        if let Err(failure) = work.purse.reserve(call, most).await {
            if failure.reason().code != OVER {
                // It may be reserved all the same. Who takes it back waits for Postgres, which the event need not.
                let (work, call) = (Arc::clone(work), call.to_owned());
                self.tasks
                    .spawn(async move { work.purse.settle(&call, most, 0).await });
            }
            return Err(failure);
        }
        let reserved = self.budget.reserve(&work.tenant, most).await;
        if reserved.is_err() {
            work.purse.settle(call, most, 0).await;
        }
        reserved
    }
}

/// An answer that can be used; one that cannot is not kept, so that a replay asks anew.
fn usable(said: Said, request: &Request) -> Result<Said, Unsaid> {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(said.text.trim()).is_ok();
    if request.json.is_some() && !is_json {
        let detail = format!("the answer was to be JSON and is not: {}", said.text);
        return Err(Unsaid {
            failure: Failure::permanent(NOT_JSON, detail),
            usage: Some(said.usage),
        });
    }
    Ok(said)
}

/// Whether another model may know better.
fn passes_on(failure: &Failure) -> bool {
    match failure {
        Failure::Transient { .. } => true,
        Failure::Throttled { reason, .. } => {
            !matches!(&*reason.code, IN_FLIGHT | "budget_unknown" | "postgres")
        }
        Failure::Permanent { reason } => reason.code == NO_MONEY,
    }
}

/// The failure of several: one that may pass and uses up an attempt, else the shortest wait, else the last.
pub(super) fn most_telling(failures: Vec<Failure>) -> Failure {
    let rank = |failure: &Failure| match failure {
        Failure::Transient { .. } => (0, Duration::ZERO),
        Failure::Throttled { wait, .. } => (1, *wait),
        Failure::Permanent { .. } => (2, Duration::ZERO),
    };
    let told = failures.into_iter().min_by_key(rank);
    told.unwrap_or_else(|| Failure::permanent("models", "there is no model to be asked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_is_asked_only_where_it_may_know_better() {
        let wait = Duration::from_secs(1);
        for (failure, next) in [
            (Failure::transient("http_500", ""), true),
            (Failure::unknown("timeout", ""), true),
            (Failure::throttled("http_429", "", wait), true),
            (Failure::throttled("breaker", "", wait), true),
            (Failure::throttled(IN_FLIGHT, "", wait), false),
            (Failure::throttled("budget_unknown", "", wait), false),
            (Failure::permanent(NO_MONEY, ""), true),
            (Failure::permanent("http_400", ""), false),
            (Failure::permanent("http_401", ""), false),
            (Failure::permanent("http_403", ""), false),
            (Failure::permanent("content_policy", ""), false),
            (Failure::permanent(OVER, ""), false),
        ] {
            assert_eq!(passes_on(&failure), next, "{failure}");
        }
    }

    #[test]
    fn of_several_failures_the_most_telling_one_is_told() {
        let throttled = |seconds| Failure::throttled("http_429", "", Duration::from_secs(seconds));
        let told = |failures: &[Failure]| most_telling(failures.to_vec());
        assert_eq!(
            told(&[throttled(9), throttled(3), Failure::permanent(NO_MONEY, "")]),
            throttled(3)
        );
        assert_eq!(
            told(&[throttled(9), Failure::transient("http_500", "")]).class(),
            "transient"
        );
        assert_eq!(told(&[]).class(), "permanent");
    }
}
