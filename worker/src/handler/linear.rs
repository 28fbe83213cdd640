//! `linear`: makes the GraphQL request that an event describes.
//!
//! An event of type `call` says it outright: data `{"query": "…", "variables": {…}}`. `issue.create`, `comment.create`
//! and `issue.update` say what to write and nothing else: their data is the input as Linear names it. What they create
//! has an id made from the event's, so that it is created once however often it is tried. A webhook of Linear asks for
//! the issue, comment or project that it is about, as it is by now. Several go in one request.

mod answer;
mod wish;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{StatusCode, header};
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::Charge;

use super::graphql::{Call, Group, Part, merge, parts};
use super::{Completion, Grouping, Handler, IDEMPOTENCY_KEY, Kind, Make, Outcome, Parts};
use crate::config::ServiceConfig;
use crate::effect::{Effect, Policy};
use crate::limits::Limits;
use crate::outbound::{Answer, Outbound};
use crate::provider::Provider;
use crate::quota::Turn;
use wish::Wish;

/// `linear`, as workers know it. A mutation of the user's own can neither be repeated nor looked up.
pub const KIND: Kind = Kind {
    name: "linear",
    url: "https://api.linear.app/graphql",
    types: &[
        "call",
        "issue.create",
        "comment.create",
        "issue.update",
        "Issue.*",
        "Comment.*",
        "Project.*",
    ],
    concurrency: 15,
    timeout: Duration::from_secs(30),
    provider: Provider::Linear,
    unknown: Policy::Dead,
    charged_apart: &["complexity"],
    own_endpoint: false,
    caches: false,
    read: |_, _| Arc::new(Settings),
};

/// Most events in one request, and how long the first waits for others.
const GROUPING: Grouping = Grouping {
    most: 20,
    within: Duration::from_millis(100),
};
/// The most complex request that Linear takes. Source: Linear, rate limiting.
const MOST_COMPLEX: u32 = 10_000;

/// It has no settings of its own.
#[derive(Debug)]
struct Settings;

impl Make for Settings {
    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        if config.token.is_none() {
            tracing::warn!(service = %config.service, "no token: Linear refuses every call");
        }
        Ok(Arc::new(Linear {
            service: config.service.to_string(),
            token: config.token.clone(),
            outbound: parts.outbound,
        }))
    }
}

/// Calls one workspace's API with one token.
struct Linear {
    service: String,
    token: Option<String>,
    outbound: Outbound,
}

impl Linear {
    fn wish(&self, event: &Event) -> Result<Option<Wish>, Failure> {
        Wish::of(event, &self.service)
    }

    async fn make(&self, event: &Event, turn: &Turn) -> Outcome {
        let Some(wish) = self.wish(event)? else {
            return Ok(Completion::nothing_to_do());
        };
        let answer = self.ask(&wish.call.body(), Some(event), turn).await;
        let repeatable = wish.effect() == Effect::Repeatable;
        let part = read(answer, 1, repeatable, turn)?.pop().unwrap_or_default();
        match answer::judge(&part) {
            Err(failure) if wish.creates.is_some() && answer::may_be_there(&failure) => {
                let found = self.there(&[&wish], turn).await?;
                found.into_iter().next().flatten().ok_or(failure)
            }
            outcome => outcome,
        }
    }

    async fn make_all(&self, events: &[&Event], turn: &Turn) -> Vec<Option<Outcome>> {
        let wishes: Vec<_> = events.iter().map(|event| self.wish(event)).collect();
        let calls = wishes
            .iter()
            .map(|wish| wish.as_ref().map(|wish| wish.as_ref().map(|wish| &wish.call)));
        let group = Group::of(calls);
        let firsts = group.firsts.iter().filter_map(|at| wishes[*at].as_ref().ok());
        let unique: Vec<&Wish> = firsts.flatten().collect();
        let outcomes = match group.body() {
            None => Ok(Vec::new()),
            Some(body) => self.together(&body, &unique, turn).await,
        };
        group.spread(&outcomes)
    }

    /// One request for all of these; `None` for what is to be tried alone.
    async fn together(
        &self,
        body: &Value,
        wishes: &[&Wish],
        turn: &Turn,
    ) -> Result<Vec<Option<Outcome>>, Failure> {
        let answer = self.ask(body, None, turn).await;
        let parts = read(answer, wishes.len(), true, turn)?;
        let judged = |part: &Part| part.is_told().then(|| answer::judge(part));
        let mut outcomes: Vec<Option<Outcome>> = parts.iter().map(judged).collect();
        let refused = |(at, outcome): (usize, &Option<Outcome>)| {
            let may = matches!(outcome, Some(Err(failure)) if answer::may_be_there(failure));
            (may && wishes[at].creates.is_some()).then_some(at)
        };
        let refused: Vec<usize> = outcomes.iter().enumerate().filter_map(refused).collect();
        if !refused.is_empty() {
            let asked: Vec<&Wish> = refused.iter().map(|at| wishes[*at]).collect();
            for (at, found) in refused.into_iter().zip(self.there(&asked, turn).await?) {
                if let Some(done) = found {
                    outcomes[at] = Some(Ok(done));
                }
            }
        }
        Ok(outcomes)
    }

    /// Which of what was to be created is there already: Linear refuses to create it again, in words that it does not
    /// document.
    async fn there(&self, wishes: &[&Wish], turn: &Turn) -> Result<Vec<Option<Completion>>, Failure> {
        let lookups: Result<Vec<Call>, Failure> = wishes.iter().filter_map(|wish| wish.look_up()).collect();
        let lookups = lookups?;
        let calls: Vec<&Call> = lookups.iter().collect();
        let body = match calls.as_slice() {
            [one] => one.body(),
            several => merge(several),
        };
        let answer = self.ask(&body, None, turn).await;
        let parts = read(answer, calls.len(), true, turn)?;
        let found = wishes.iter().zip(&parts).map(|(wish, part)| {
            let thing = part.data.as_ref()?.values().next()?;
            (thing["id"].as_str()? == wish.creates.as_ref()?.id)
                .then(|| Completion::with("found", json!({"data": thing})))
        });
        Ok(found.collect())
    }

    async fn ask(&self, body: &Value, event: Option<&Event>, turn: &Turn) -> Result<Answer, Failure> {
        let url = turn.upstream()?.url.clone();
        let mut request = self.outbound.client().post(url).json(body);
        if let Some(event) = event {
            request = request.header(IDEMPOTENCY_KEY, event.id.as_str());
        }
        if let Some(token) = &self.token {
            request = match token.strip_prefix("lin_api_") {
                // Linear takes keys as they are, and tokens of OAuth as tokens.
                Some(_) => request.header(header::AUTHORIZATION, token),
                None => request.bearer_auth(token),
            };
        }
        let request = request.build().map_err(|e| Failure::permanent("request", e))?;
        self.outbound.call(request, "/graphql").await
    }
}

/// The parts of an answer to so many calls, which may be made again or not. Linear answers what is wrong with a request
/// by 400, or by 200.
fn read(
    answer: Result<Answer, Failure>,
    calls: usize,
    repeatable: bool,
    turn: &Turn,
) -> Result<Vec<Part>, Failure> {
    let answer = answer?;
    let reading = turn.answered(&answer);
    let now = SystemTime::now();
    let judged = Provider::Linear.failure(&answer, &reading, now);
    let is_graphql = matches!(answer.status, StatusCode::OK | StatusCode::BAD_REQUEST);
    if is_graphql
        && reading.refusal.is_none()
        && let Some(parts) = parts(&answer, calls)
    {
        return Ok(parts);
    }
    judged?;
    Err(answer.unreadable("answer of GraphQL", repeatable))
}

impl Handler for Linear {
    fn charges(&self, event: &Event, limits: &Limits) -> Vec<Charge> {
        self.group_charges(&[event], limits)
    }

    fn effect(&self, event: &Event) -> Effect {
        match self.wish(event) {
            Ok(Some(wish)) => wish.effect(),
            _ => Effect::Repeatable,
        }
    }

    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Outcome> {
        self.make(event, turn).boxed()
    }

    fn grouping(&self) -> Option<Grouping> {
        Some(GROUPING)
    }

    fn group(&self, event: &Event) -> Option<String> {
        let wish = self.wish(event).ok().flatten()?;
        let share = MOST_COMPLEX / GROUPING.most as u32;
        let fits = wish.call.document.can_be_merged() && wish.call.cost().complexity() <= share;
        let word = if wish.call.reads() { "query" } else { "mutation" };
        (fits && wish.effect() == Effect::Repeatable).then(|| word.into())
    }

    /// What a request costs is known afterwards; what is reserved follows the rules that Linear publishes.
    fn group_charges(&self, events: &[&Event], limits: &Limits) -> Vec<Charge> {
        let wishes = events.iter().filter_map(|event| self.wish(event).ok().flatten());
        let cost = wishes.map(|wish| wish.call.cost()).sum::<super::graphql::Cost>();
        limits
            .charge("complexity", cost.complexity().min(MOST_COMPLEX))
            .into_iter()
            .collect()
    }

    fn handle_group<'a>(
        &'a self,
        events: Vec<&'a Event>,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Vec<Option<Outcome>>> {
        async move { self.make_all(&events, turn).await }.boxed()
    }
}

#[cfg(test)]
mod tests;
