#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use super::*;
use crate::provider::{clock::Clock, exchange::ask};

fn post(query: &str, variables: &Value) -> Ask {
    let body = json!({"query": query, "variables": variables}).to_string();
    ask(Method::POST, PATH, &[("authorization", "lin_api_x")], &body)
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn free() -> Admission {
    let standing = Standing {
        limit: 9,
        used: 1,
        resets_at: std::time::Duration::from_secs(9),
        room_at: std::time::Duration::ZERO,
    };
    Admission {
        breached: None,
        standings: vec![standing; 2],
    }
}

const CREATE: &str = "mutation($i: In!) { issueCreate(input: $i) { success issue { id } } }";

#[test]
fn what_is_there_is_not_created_again_and_is_found() {
    let mut created = Created::default();
    let now = Clock::new(0).now();
    let id = "0b8f6a52-3a53-4d8e-9c5c-0d5ad0d9d2aa";
    let create = post(CREATE, &json!({"i": {"id": id}}));
    let look = post(
        "query($id: String!) { issue(id: $id) { id } }",
        &json!({"id": id}),
    );
    let there = |created: &Created| body(&serve(&look, &free(), now, created))["data"]["issue"]["id"] == id;
    assert!(!there(&created));
    let reply = serve(&create, &free(), now, &created);
    assert_eq!(body(&reply)["data"]["issueCreate"]["issue"]["id"], id);
    assert_eq!(reply.headers["x-ratelimit-requests-remaining"], "8");
    assert_eq!(reply.headers["x-complexity"], "3");
    created.keep(&create);
    let again = body(&serve(&create, &free(), now, &created));
    assert_eq!(
        (&again["data"], &again["errors"][0]["path"][0]),
        (&Value::Null, &json!("issueCreate"))
    );
    assert!(there(&created) && created.len() == 1);
}

#[test]
fn one_that_fails_takes_the_others_with_it() {
    let both = post(
        "{ a: issue(id: \"x\") { id } b: issue(id: \"missing\") { id } }",
        &Value::Null,
    );
    let reply = body(&serve(&both, &free(), Clock::new(0).now(), &Created::default()));
    assert_eq!(
        (&reply["data"], &reply["errors"][0]["path"]),
        (&Value::Null, &json!(["b"]))
    );
}

#[test]
fn requests_and_complexity_are_counted_for_a_key() {
    let limits = LinearLimits::default();
    let demands = demands(
        &limits,
        &post("{ a: issue(id: 1) { id } b: issue(id: 2) { id } }", &Value::Null),
    );
    let costs: Vec<_> = demands
        .iter()
        .map(|demand| (&*demand.limit, demand.cost))
        .collect();
    assert_eq!(costs, [("linear requests", 1), ("linear complexity", 3)]);
    let reply = refuse(&free(), Clock::new(0).now());
    assert_eq!((reply.status, reply.effect), (StatusCode::BAD_REQUEST, false));
    assert_eq!(body(&reply)["errors"][0]["extensions"]["code"], "RATELIMITED");
}

#[test]
fn calls_that_are_wrong() {
    let code = |ask: &Ask| body(&refuse_wrong(ask).unwrap())["errors"][0]["extensions"]["code"].clone();
    let stranger = ask(Method::POST, PATH, &[], "{\"query\": \"{ a }\"}");
    assert_eq!(code(&stranger), "AUTHENTICATION_ERROR");
    assert_eq!(code(&post("{", &Value::Null)), "GRAPHQL_PARSE_FAILED");
    let huge = format!("{{ {} }}", "a { b } ".repeat(10_000));
    assert_eq!(code(&post(&huge, &Value::Null)), "INPUT_ERROR");
    assert!(refuse_wrong(&post("{ a }", &Value::Null)).is_none());
}
