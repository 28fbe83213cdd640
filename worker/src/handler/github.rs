//! `github`: makes the call that an event describes.
//!
//! An event of type `call` says it outright: data `{"method": "POST", "path": "/repos/o/r/issues/1/comments",
//! "body": {…}}`. A webhook of GitHub describes one too: it is about a thing with an API URL, and what the thing is now
//! is asked of the API (a webhook may be old when it is worked off). Only the path of such a URL is used; the call goes
//! to the configured API. What was read before is kept, or asked for again by its tag. An event of type `graphql` is a request
//! to the GraphQL API, data `{"query": "…", "variables": {…}}`; several that read go in one.

mod call;
mod query;
mod types;
mod writing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode, header};
use reqwest::{RequestBuilder, Url};
use serde_json::json;
use shared::config::Reader;
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::Charge;

use super::graphql::{Call as Query, Cost};
use super::{Completion, Grouping, Handler, IDEMPOTENCY_KEY, Kind, Make, Outcome, Parts, Read, UNCHANGED};
use crate::config::ServiceConfig;
use crate::effect::{Earlier, Effect, Found, Policy};
use crate::limits::Limits;
use crate::outbound::credential::{self, Credential, Mint};
use crate::outbound::{Answer, Outbound};
use crate::provider::{Provider, github as provider};
use crate::quota::Turn;
use call::{bad, describe, reads, route};

pub use types::WEBHOOKS;

/// `github`, as workers know it. Comments and the like are found again by a mark.
pub const KIND: Kind = Kind {
    name: "github",
    url: "https://api.github.com",
    types: types::TYPES,
    concurrency: 20,
    timeout: Duration::from_secs(30),
    provider: Provider::Github,
    unknown: Policy::LookUp,
    charged_apart: &["content", "content-hour", "graphql", "graphql-minute"],
    own_endpoint: false,
    caches: true,
    read: Settings::read,
};

/// Most GraphQL queries in one request, and how long the first waits for others.
const GROUPING: Grouping = Grouping {
    most: 20,
    within: Duration::from_millis(100),
};
/// Complexity of a query that goes with others, so that one request stays quick.
const MOST_COMPLEX: u32 = 500;

/// `_APP_ID`, `_APP_INSTALLATION`, `_APP_KEY`: a GitHub App in place of a `_TOKEN`.
#[derive(Debug)]
struct Settings {
    app: Option<Arc<Mint>>,
}

impl Settings {
    fn read(reader: &mut Reader<'_>, prefix: &str) -> Arc<dyn Make> {
        let app = credential::app(reader, prefix).map(Arc::new);
        Arc::new(Self { app })
    }
}

impl Make for Settings {
    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        let credential = match (&self.app, &config.token) {
            (Some(_), Some(_)) => return Err("has a token and a GitHub App: one of them is enough".into()),
            (Some(app), None) => Credential::minted(Arc::clone(app)),
            (None, token) => Credential::fixed(token.clone()),
        };
        if credential.is_none() {
            tracing::warn!(service = %config.service, "no token: GitHub allows 60 calls an hour without one");
        }
        Ok(Arc::new(Github {
            credential,
            outbound: parts.outbound,
        }))
    }

    fn identity(&self) -> Option<String> {
        self.app.as_ref().map(|app| app.identity())
    }
}

/// Calls one GitHub API with one credential.
#[derive(Debug)]
struct Github {
    credential: Credential,
    outbound: Outbound,
}

impl Github {
    /// A request with what every call to GitHub carries, and the token in it.
    async fn request(
        &self,
        method: Method,
        url: Url,
        base: &str,
    ) -> Result<(RequestBuilder, Option<Arc<str>>), Failure> {
        let token = self.credential.token(&self.outbound, base).await?;
        let request = self
            .outbound
            .client()
            .request(method, url)
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28");
        let request = match &token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        Ok((request, token))
    }

    /// The judgement on an answer. A token that is asked for again may be taken where an old one was not.
    async fn judged(
        &self,
        judged: Result<(), Failure>,
        answer: &Answer,
        token: Option<Arc<str>>,
    ) -> Result<(), Failure> {
        match (judged, token) {
            (Err(failure), Some(token))
                if answer.status == StatusCode::UNAUTHORIZED && self.credential.refused(&token).await =>
            {
                Err(Failure::transient("http_401", failure.reason().detail.clone()))
            }
            (judged, _) => judged,
        }
    }

    async fn make(&self, event: &Event, turn: &Turn) -> Outcome {
        if event.kind == query::KIND {
            return query::one(self, event, turn).await;
        }
        let Some(call) = describe(event)? else {
            return Ok(Completion::nothing_to_do());
        };
        let method: Method = call.method.parse().map_err(|_| bad("method is none"))?;
        let base = &turn.upstream()?.base;
        let url = Url::parse(&format!("{base}{}", call.path)).map_err(|e| bad(&e.to_string()))?;
        let known = turn.knows(&event.id);
        let (request, token) = self.request(method, url, base).await?;
        let mut request = request.header(IDEMPOTENCY_KEY, event.id.as_str());
        if let Some(etag) = known {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(body) = &call.body {
            request = match writing::marked(&call, event, self.credential.lasting()) {
                Some(marked) => request.json(&marked),
                None => request.json(body),
            };
        }
        let request = request.build().map_err(|e| Failure::permanent("request", e))?;
        let answer = self.outbound.fetch(request, route(&call.path)).await?;
        let reading = turn.answered(&answer);
        if answer.status == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Completion::new(UNCHANGED));
        }
        let judged = Provider::Github.failure(&answer, &reading, SystemTime::now());
        self.judged(judged, &answer, token).await?;
        Ok(completion(&answer))
    }

    /// A query of GraphQL that goes together with others.
    fn query(event: &Event) -> Option<Query> {
        let query = Query::of(event).ok().filter(|_| event.kind == query::KIND)?;
        let fits = query.reads() && query.document.can_be_merged();
        (fits && query.cost().complexity() <= MOST_COMPLEX).then_some(query)
    }
}

impl Handler for Github {
    /// A write costs more points than the one that every call costs, and creates content.
    fn charges(&self, event: &Event, limits: &Limits) -> Vec<Charge> {
        if event.kind == query::KIND {
            return self.group_charges(&[event], limits);
        }
        let method = describe(event)
            .ok()
            .flatten()
            .and_then(|call| call.method.parse::<Method>().ok());
        let points = method.as_ref().map_or(1, provider::points);
        if points == 1 {
            return Vec::new();
        }
        let charges = [("points", points - 1), ("content", 1), ("content-hour", 1)];
        charges
            .into_iter()
            .filter_map(|(name, cost)| limits.charge(name, cost))
            .collect()
    }

    fn effect(&self, event: &Event) -> Effect {
        if event.kind == query::KIND {
            let reads = Query::of(event).is_ok_and(|query| query.reads());
            return if reads { Effect::Repeatable } else { Effect::Once };
        }
        match describe(event) {
            Ok(Some(call)) if matches!(&*call.method, "POST" | "PATCH") => Effect::Once,
            _ => Effect::Repeatable,
        }
    }

    fn look_up<'a>(
        &'a self,
        event: &'a Event,
        earlier: Earlier,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Result<Found, Failure>> {
        writing::look_up(self, event, earlier, turn).boxed()
    }

    fn read(&self, event: &Event) -> Option<Read> {
        reads(event)
    }

    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Outcome> {
        self.make(event, turn).boxed()
    }

    fn grouping(&self) -> Option<Grouping> {
        Some(GROUPING)
    }

    fn group(&self, event: &Event) -> Option<String> {
        Self::query(event).map(|_| query::KIND.into())
    }

    /// GraphQL has points of its own for an hour, and for a minute; what writes creates content.
    fn group_charges(&self, events: &[&Event], limits: &Limits) -> Vec<Charge> {
        let queries: Vec<Query> = events.iter().filter_map(|event| Query::of(event).ok()).collect();
        let points = queries.iter().map(Query::cost).sum::<Cost>().points();
        let mut charges = vec![("graphql", points)];
        if queries.iter().all(Query::reads) {
            charges.push(("graphql-minute", 1));
        } else {
            charges.extend([("graphql-minute", 5), ("content", 1), ("content-hour", 1)]);
        }
        charges
            .into_iter()
            .filter_map(|(name, cost)| limits.charge(name, cost))
            .collect()
    }

    fn handle_group<'a>(
        &'a self,
        events: Vec<&'a Event>,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Vec<Option<Outcome>>> {
        async move { query::all(self, &events, turn).await }.boxed()
    }
}

fn completion(answer: &Answer) -> Completion {
    let text = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok());
    let result = json!({
        "status": answer.status.as_u16(),
        "etag": text("etag"),
        "bytes": answer.body.len(),
        "ratelimit_remaining": text("x-ratelimit-remaining"),
        "request_id": text("x-github-request-id"),
    });
    Completion {
        etag: text("etag").map(str::to_owned),
        ..Completion::with(format!("http_{}", answer.status.as_u16()), result)
    }
}

#[cfg(test)]
mod tests;
