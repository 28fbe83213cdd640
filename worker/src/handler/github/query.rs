//! GitHub's GraphQL API: one request, or several queries in one.

use std::time::SystemTime;

use reqwest::Url;
use serde_json::Value;
use shared::event::Event;
use shared::failure::Failure;

use super::Github;
use crate::handler::graphql::{Call, Group, Part, judge, parts};
use crate::handler::{IDEMPOTENCY_KEY, Outcome};
use crate::outbound::Answer;
use crate::provider::Provider;
use crate::quota::Turn;

/// The type of events that are GraphQL requests.
pub(super) const KIND: &str = "graphql";

/// Makes one event's request.
pub(super) async fn one(github: &Github, event: &Event, turn: &Turn) -> Outcome {
    let call = Call::of(event)?;
    let answer = ask(github, &call.body(), Some(event), turn).await?;
    let mut parts = read(&answer, 1, call.reads())?;
    judge(&parts.pop().unwrap_or_default(), failure)
}

/// Makes one request for all of these events.
pub(super) async fn all(github: &Github, events: &[&Event], turn: &Turn) -> Vec<Option<Outcome>> {
    let calls: Vec<_> = events.iter().map(|event| Call::of(event).map(Some)).collect();
    let group = Group::of(calls.iter().map(|call| call.as_ref().map(Option::as_ref)));
    let outcomes = match group.body() {
        None => Ok(Vec::new()),
        Some(body) => {
            let answer = ask(github, &body, None, turn).await;
            // Only what reads goes together.
            let parts = answer.and_then(|answer| read(&answer, group.len(), true));
            let told = |part: &Part| part.is_told().then(|| judge(part, failure));
            parts.map(|parts| parts.iter().map(told).collect())
        }
    };
    group.spread(&outcomes)
}

async fn ask(github: &Github, body: &Value, event: Option<&Event>, turn: &Turn) -> Result<Answer, Failure> {
    let base = &turn.upstream()?.base;
    let url = Url::parse(&endpoint(base)).map_err(|e| Failure::permanent("call", e))?;
    let (request, token) = github.request(http::Method::POST, url, base).await?;
    let request = match event {
        Some(event) => request.header(IDEMPOTENCY_KEY, event.id.as_str()),
        None => request,
    };
    let request = request
        .json(body)
        .build()
        .map_err(|e| Failure::permanent("request", e))?;
    let answer = github.outbound.call(request, "/graphql").await?;
    let reading = turn.answered(&answer);
    let judged = Provider::Github.failure(&answer, &reading, SystemTime::now());
    github.judged(judged, &answer, token).await?;
    Ok(answer)
}

fn read(answer: &Answer, calls: usize, reads: bool) -> Result<Vec<Part>, Failure> {
    parts(answer, calls).ok_or_else(|| answer.unreadable("answer of GraphQL", reads))
}

/// Where GraphQL is: beside REST, on an Enterprise server too.
fn endpoint(base: &str) -> String {
    match base.strip_suffix("/api/v3") {
        Some(server) => format!("{server}/api/graphql"),
        None => format!("{base}/graphql"),
    }
}

/// What an error of GraphQL means. Those without a type are GitHub's own trouble («Something went wrong while executing
/// your query») or tell that a request is none.
fn failure(error: &Value) -> Failure {
    let said = error["message"].as_str().unwrap_or("no message");
    let typed = error["type"].as_str().or(error["extensions"]["code"].as_str());
    match typed {
        Some(kind @ ("INTERNAL" | "SERVICE_UNAVAILABLE" | "TIMEOUT")) => {
            Failure::unknown(kind.to_ascii_lowercase(), said)
        }
        Some(kind) => Failure::permanent(kind.to_ascii_lowercase(), said),
        None if said.starts_with("Something went wrong") || said.contains("timeout") => {
            Failure::unknown("internal", said)
        }
        None => Failure::permanent("graphql_error", said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_lies_beside_rest() {
        assert_eq!(
            endpoint("https://api.github.com"),
            "https://api.github.com/graphql"
        );
        assert_eq!(
            endpoint("https://ghe.example/api/v3"),
            "https://ghe.example/api/graphql"
        );
    }
}
