mod groups;

use super::*;
use crate::handler::stage::{Api, Seen, Stage, event, named, told};

const KEY: (&str, &str) = ("TOKEN", "lin_api_x");

fn error(code: &str, kind: &str, path: &Value) -> Value {
    json!({"message": "Argument Validation Error", "path": path, "locations": [{"line": 1, "column": 1}],
        "extensions": {"code": code, "type": kind, "userError": true, "statusCode": 400}})
}

/// The keys at the top of a request, and its variables.
fn asked(seen: &Seen) -> (String, Value) {
    let body = seen.json();
    (
        body["query"].as_str().unwrap_or_default().to_owned(),
        body["variables"].clone(),
    )
}

#[tokio::test]
async fn an_issue_is_created_with_an_id_of_the_events() {
    let api = Api::new(|seen| {
        let id = seen.json()["variables"]["input"]["id"].clone();
        let issue = json!({"id": id, "identifier": "ENG-1", "url": "https://linear.app/x/issue/ENG-1"});
        let (status, mut headers, body) = told(
            200,
            &json!({"data": {"issueCreate": {"success": true, "issue": issue}}}),
        );
        headers.push(("x-complexity", "6".into()));
        (status, headers, body)
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let wanted = event("issue.create", &json!({"teamId": "t", "title": "A bug"}));
    let done = stage.handle(&wanted).await.unwrap();
    assert_eq!(done.code, "ok");
    stage.handle(&wanted).await.unwrap();
    let seen = api.seen();
    assert_eq!(
        seen[0].header("authorization"),
        "lin_api_x",
        "keys go without a word before them"
    );
    assert_eq!(seen[0].header("idempotency-key"), wanted.id.as_str());
    let ids: Vec<_> = seen
        .iter()
        .map(|seen| asked(seen).1["input"]["id"].clone())
        .collect();
    assert_eq!(ids[0], ids[1]);
    let id: uuid::Uuid = ids[0].as_str().unwrap().parse().unwrap();
    assert_eq!(
        (id.get_version_num(), id.get_variant()),
        (4, uuid::Variant::RFC4122)
    );
    assert_eq!(stage.handler.effect(&wanted), Effect::Repeatable);
    let other = event("issue.create", &json!({"teamId": "t", "title": "A bug"}));
    stage.handle(&other).await.unwrap();
    assert_ne!(asked(&api.seen()[0]).1["input"]["id"], ids[0]);
}

#[tokio::test]
async fn tokens_of_oauth_are_bearers() {
    let api = Api::new(|_| told(200, &json!({"data": {"viewer": {"id": "1"}}}))).await;
    let stage = Stage::new(&KIND, &api.url, &[("TOKEN", "lin_oauth_x")]);
    stage
        .handle(&event("call", &json!({"query": "{ viewer { id } }"})))
        .await
        .unwrap();
    assert_eq!(api.seen()[0].header("authorization"), "Bearer lin_oauth_x");
}

#[tokio::test]
async fn what_was_created_before_is_done() {
    let api = Api::new(|seen| {
        let (query, variables) = asked(seen);
        if query.starts_with("mutation") {
            return told(400, &json!({"data": null, "errors": [error("INPUT_ERROR", "invalid input", &json!(["issueCreate"]))]}));
        }
        let found = if variables["id"].is_string() { json!({"id": variables["id"]}) } else { Value::Null };
        told(200, &json!({"data": {"issue": found, "comment": found}}))
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let done = stage
        .handle(&event("issue.create", &json!({"teamId": "t", "title": "A"})))
        .await;
    assert_eq!(done.unwrap().code, "found");
    // An update is not looked for.
    let failure = stage
        .handle(&event("issue.update", &json!({"id": "ENG-1", "title": "B"})))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.class(), &*failure.reason().code),
        ("permanent", "input_error")
    );
}

#[tokio::test]
async fn what_is_refused_and_not_there_is_refused() {
    let api = Api::new(|seen| {
        let path = if asked(seen).0.starts_with("mutation") {
            "issueCreate"
        } else {
            "issue"
        };
        told(
            200,
            &json!({"data": null, "errors": [error("INPUT_ERROR", "invalid input", &json!([path]))]}),
        )
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let failure = stage
        .handle(&event("issue.create", &json!({"teamId": "t", "title": "A"})))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.class(), &*failure.reason().code),
        ("permanent", "input_error")
    );
    assert_eq!(api.seen().len(), 2);
}

#[tokio::test]
async fn every_refusal_has_its_failure() {
    let limited = json!({"errors": [{"message": "Rate limit exceeded", "extensions": {"type": "ratelimited", "code": "RATELIMITED"}}]});
    let one = |code: &str, kind: &str| {
        json!({"data": null, "errors": [error(code, kind, &json!(["viewer"]))]}).to_string()
    };
    let long = format!("{{\"data\": \"{}", "x".repeat(11 << 20));
    for (status, body, class, code) in [
        (400, limited.to_string(), "throttled", "ratelimited"),
        (429, String::new(), "throttled", "http_429"),
        (
            200,
            one("AUTHENTICATION_ERROR", "authentication error"),
            "permanent",
            "authentication_error",
        ),
        (400, one("FORBIDDEN", "forbidden"), "permanent", "forbidden"),
        (
            400,
            one("INPUT_ERROR", "invalid input"),
            "permanent",
            "input_error",
        ),
        (
            400,
            one("GRAPHQL_VALIDATION_FAILED", "graphql error"),
            "permanent",
            "graphql_validation_failed",
        ),
        (
            200,
            one("INTERNAL_SERVER_ERROR", "internal error"),
            "transient",
            "internal_server_error",
        ),
        (
            200,
            one("LOCK_TIMEOUT", "lock timeout"),
            "transient",
            "lock_timeout",
        ),
        (
            200,
            one("USAGE_LIMIT_EXCEEDED", "usage limit exceeded"),
            "permanent",
            "usage_limit_exceeded",
        ),
        (
            200,
            json!({"errors": [{"message": "x"}]}).to_string(),
            "permanent",
            "graphql_error",
        ),
        (
            200,
            json!({"data": {"viewer": {"success": false}}}).to_string(),
            "permanent",
            "unsuccessful",
        ),
        (
            401,
            one("AUTHENTICATION_ERROR", "authentication error"),
            "permanent",
            "http_401",
        ),
        (400, "<html>".into(), "permanent", "http_400"),
        (500, "{}".into(), "transient", "http_500"),
        (503, String::new(), "transient", "http_503"),
        (200, "<html>".into(), "transient", "answer"),
        (200, "{\"data\": ".into(), "transient", "answer"),
        (200, long, "permanent", "oversized"),
        (302, String::new(), "permanent", "http_302"),
    ] {
        let shown = body.chars().take(60).collect::<String>();
        let api = Api::new(move |_| (status, vec![], body.clone().into_bytes())).await;
        let stage = Stage::new(&KIND, &api.url, &[KEY]);
        let failure = stage
            .handle(&event("call", &json!({"query": "{ viewer { id } }"})))
            .await
            .unwrap_err();
        assert_eq!(
            (failure.class(), &*failure.reason().code),
            (class, code),
            "{status} {shown}"
        );
    }
    let api = Api::new(|_| (200, vec![], b"{\"data\": {\"viewer\": \"\xff\xfe\"}}".to_vec())).await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let failure = stage
        .handle(&event("call", &json!({"query": "{ viewer { id } }"})))
        .await
        .unwrap_err();
    assert_eq!(&*failure.reason().code, "answer");
}

#[tokio::test]
async fn an_error_within_what_is_there_is_told_and_does_not_undo_it() {
    let api = Api::new(|_| {
        let within = error("FORBIDDEN", "forbidden", &json!(["issue", "assignee"]));
        told(
            200,
            &json!({"data": {"issue": {"id": "1", "assignee": null}}, "errors": [within]}),
        )
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let done = stage
        .handle(&event(
            "call",
            &json!({"query": "{ issue(id: 1) { id assignee { id } } }"}),
        ))
        .await
        .unwrap();
    assert_eq!(done.code, "partial");
    assert_eq!(done.result.unwrap()["errors"][0], "Argument Validation Error");
}

#[tokio::test]
async fn what_goes_alone_and_what_it_costs() {
    let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[KEY]);
    let call = |query: &str| event("call", &json!({"query": query}));
    for alone in [
        call("{ ...F } fragment F on Query { viewer { id } }"),
        call("mutation { issueArchive(id: 1) { success } }"),
        call("{ issues(first: 100) { nodes { comments(first: 100) { nodes { id } } } } }"),
        event("call", &json!("x")),
        event(
            "Issue.remove",
            &json!({"type": "Issue", "action": "remove", "data": {"id": "1"}}),
        ),
    ] {
        assert_eq!(stage.handler.group(&alone), None);
    }
    assert_eq!(
        stage
            .handler
            .effect(&call("mutation { issueArchive(id: 1) { success } }")),
        Effect::Once
    );
    let list = call("{ issues(first: 10) { nodes { id title } } }");
    assert_eq!(stage.charges(&list), [("complexity".to_owned(), 13)]);
    let both = stage.handler.group_charges(&[&list, &list], &stage.limits);
    assert_eq!(named(&both), [("complexity".to_owned(), 26)]);
    let huge = call("{ issues(first: 250) { nodes { comments(first: 250) { nodes { id } } } } }");
    assert_eq!(stage.charges(&huge), [("complexity".to_owned(), MOST_COMPLEX)]);
}

#[tokio::test]
async fn webhooks_ask_for_what_they_are_about() {
    let api = Api::new(|_| told(200, &json!({"data": {"issue": {"id": "1"}}}))).await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let webhook = |data: Value| event("Issue.update", &data);
    stage
        .handle(&webhook(
            json!({"type": "Issue", "action": "update", "data": {"id": "1"}}),
        ))
        .await
        .unwrap();
    let (query, variables) = asked(&api.seen()[0]);
    assert!(query.starts_with("query") && variables == json!({"id": "1"}));
    for nothing in [
        json!({"type": "Issue", "action": "remove", "data": {"id": "1"}}),
        json!({"type": "Issue", "action": "update", "data": {}}),
        json!({"type": "Reaction", "action": "create", "data": {"id": "1"}}),
        json!([]),
    ] {
        assert_eq!(
            stage.handle(&webhook(nothing)).await.unwrap().code,
            "nothing_to_do"
        );
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn events_that_do_not_say_what_to_write() {
    let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[KEY]);
    for (kind, data) in [
        ("issue.create", json!({})),
        ("issue.create", json!({"teamId": "t"})),
        ("issue.create", json!({"teamId": "t", "title": "x", "id": 7})),
        // A webhook that was renamed.
        (
            "issue.create",
            json!({"type": "Issue", "action": "create", "data": {"teamId": "t", "title": "x"}}),
        ),
        ("comment.create", json!({"body": "x"})),
        ("comment.create", json!("x")),
        ("issue.update", json!({"title": "x"})),
        ("issue.update", json!({"id": "x"})),
        ("call", json!({"query": "subscription { x }"})),
        ("call", json!({"query": "{ x }", "variable": {}})),
        ("call", json!({"query": "{ x }", "variables": []})),
        ("call", json!({})),
    ] {
        let failure = stage.handle(&event(kind, &data)).await.unwrap_err();
        assert_eq!(
            (failure.class(), &*failure.reason().code),
            ("permanent", "call"),
            "{kind} {data}"
        );
    }
}
