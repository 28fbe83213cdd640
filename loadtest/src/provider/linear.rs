//! Linear's API as far as limits, ids and errors go: requests and complexity an hour, told by headers; over them an HTTP
//! 400; an error in one field takes the others' data with it.
//!
//! Source: Linear's "Rate limiting". Things whose id begins with `missing` are not there.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    clock::Moment,
    exchange::{Ask, Reply},
    graphql::{Field, Query},
    limits::{Admission, Demand, Shape, Standing},
    window::Window,
};

/// Path of the API.
pub const PATH: &str = "/linear/graphql";
/// The most complex request.
const MOST_COMPLEX: u32 = 10_000;

/// What Linear allows one credential.
#[derive(Clone, Debug)]
pub struct LinearLimits {
    /// Requests.
    pub requests: Window,
    /// Complexity.
    pub complexity: Window,
    /// How both are counted.
    pub shape: Shape,
}

impl Default for LinearLimits {
    /// An API key's: 2,500 requests and a million of complexity an hour (Linear allows three; counters here hold one).
    fn default() -> Self {
        Self {
            requests: Window::per_hour(2_500),
            complexity: Window::per_hour(1_000_000),
            shape: Shape::bucket(0),
        }
    }
}

/// What was created, by id.
#[derive(Debug, Default)]
pub(super) struct Created(BTreeSet<String>);

impl Created {
    /// Keeps what an accepted call has created, as far as it is not there.
    pub(super) fn keep(&mut self, ask: &Ask) {
        for field in Query::read(&ask.body).iter().flat_map(|query| &query.fields) {
            if let Some(id) = creates(field) {
                self.0.insert(id.to_owned());
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn creates(field: &Field) -> Option<&str> {
    let creates = matches!(field.name.as_str(), "issueCreate" | "commentCreate");
    field.arguments.get("input")?["id"].as_str().filter(|_| creates)
}

/// The answer to a call that is wrong in itself, `None` when it is not.
pub(super) fn refuse_wrong(ask: &Ask) -> Option<Reply> {
    let wrong = |code: &str, kind: &str, message: &str| {
        let error = error(code, kind, message, None);
        Some(Reply::json(StatusCode::BAD_REQUEST, &json!({"errors": [error]})).rejected())
    };
    let known = ask.header("authorization").is_some_and(|key| !key.is_empty());
    if ask.method != Method::POST || !known {
        return wrong(
            "AUTHENTICATION_ERROR",
            "authentication error",
            "Authentication required",
        );
    }
    match Query::read(&ask.body) {
        None => wrong("GRAPHQL_PARSE_FAILED", "graphql error", "Syntax Error"),
        Some(query) if complexity(&query) > MOST_COMPLEX => {
            wrong("INPUT_ERROR", "invalid input", "Query too complex")
        }
        Some(_) => None,
    }
}

/// The limits that a call has to pass.
pub(super) fn demands(limits: &LinearLimits, ask: &Ask) -> Vec<Demand> {
    let scope = scope(ask);
    let cost = Query::read(&ask.body).map_or(1, |query| complexity(&query));
    vec![
        Demand::new("linear requests", scope, limits.requests, limits.shape),
        Demand {
            cost,
            ..Demand::new("linear complexity", scope, limits.complexity, limits.shape)
        },
    ]
}

/// Keys come as they are, tokens behind a word.
fn scope(ask: &Ask) -> u64 {
    super::ledger::fingerprint(ask.header("authorization").unwrap_or_default())
}

fn complexity(query: &Query) -> u32 {
    (10 * query.objects + query.properties).div_ceil(10)
}

/// Whether a call changes something.
pub(super) fn is_write(ask: &Ask) -> bool {
    Query::read(&ask.body).is_some_and(|query| query.writes)
}

/// The answer to a call within its limits.
pub(super) fn serve(ask: &Ask, admission: &Admission, now: Moment, created: &Created) -> Reply {
    let Some(query) = Query::read(&ask.body) else {
        return Reply::empty(StatusCode::BAD_REQUEST).rejected();
    };
    let (mut data, mut errors) = (Map::new(), Vec::new());
    for field in &query.fields {
        match resolve(field, created) {
            Ok(value) => {
                data.insert(field.key.clone(), value);
            }
            Err(message) => errors.push(error("INPUT_ERROR", "invalid input", message, Some(&field.key))),
        }
    }
    let reply = if errors.is_empty() {
        Reply::json(StatusCode::OK, &json!({"data": data}))
    } else {
        // No field of the schema's top may be null.
        Reply::json(StatusCode::BAD_REQUEST, &json!({"data": null, "errors": errors}))
    };
    told(reply, admission, now).with("x-complexity", complexity(&query))
}

fn resolve(field: &Field, created: &Created) -> Result<Value, &'static str> {
    let id = field.arguments.get("id").and_then(Value::as_str);
    let made = |payload: &str, id: &str| {
        let thing = json!({"id": id, "identifier": "ENG-1", "url": format!("https://linear.example/{id}")});
        json!({"success": true, payload: thing})
    };
    match field.name.as_str() {
        "issueCreate" | "commentCreate" => match creates(field) {
            Some(id) if created.0.contains(id) => Err("Entity already exists"),
            Some(id) if field.name == "issueCreate" => Ok(made("issue", id)),
            Some(id) => Ok(made("comment", id)),
            None => Err("Argument Validation Error"),
        },
        "issueUpdate" => id.map(|id| made("issue", id)).ok_or("Argument Validation Error"),
        "issue" | "comment" | "project" => match id {
            Some(id) if !id.starts_with("missing") && (created.0.contains(id) || id.len() != 36) => {
                Ok(json!({"id": id, "identifier": "ENG-1", "title": "An issue"}))
            }
            _ => Err("Entity not found"),
        },
        _ => Ok(json!({"id": "1", "nodes": []})),
    }
}

/// The answer to a call over a limit.
pub(super) fn refuse(admission: &Admission, now: Moment) -> Reply {
    let error = error("RATELIMITED", "ratelimited", "Rate limit exceeded", None);
    let reply = Reply::json(StatusCode::BAD_REQUEST, &json!({"errors": [error]})).rejected();
    told(reply, admission, now)
}

fn told(reply: Reply, admission: &Admission, now: Moment) -> Reply {
    const REQUESTS: [&str; 3] = [
        "x-ratelimit-requests-limit",
        "x-ratelimit-requests-remaining",
        "x-ratelimit-requests-reset",
    ];
    const COMPLEXITY: [&str; 3] = [
        "x-ratelimit-complexity-limit",
        "x-ratelimit-complexity-remaining",
        "x-ratelimit-complexity-reset",
    ];
    let with = |reply: Reply, names: [&'static str; 3], standing: Option<&Standing>| match standing {
        None => reply,
        Some(standing) => reply
            .with(names[0], standing.limit)
            .with(names[1], standing.remaining())
            .with(names[2], now.epoch_seconds(standing.resets_at) * 1000),
    };
    let reply = with(reply, REQUESTS, admission.standings.first());
    with(reply, COMPLEXITY, admission.standings.get(1))
}

fn error(code: &str, kind: &str, message: &str, key: Option<&str>) -> Value {
    let mut error = json!({"message": message,
        "extensions": {"code": code, "type": kind, "userError": true, "userPresentableMessage": message}});
    if let Some(key) = key {
        error["path"] = json!([key]);
    }
    error
}

#[cfg(test)]
mod tests;
