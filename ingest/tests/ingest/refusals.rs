//! Everything that senders can do wrong: its status, its problem document and its counter.

use reqwest::Method;

use super::running::{Answer, Running, mac};

/// Status, code, part of the detail; path, headers and body of the request.
type Case<'a> = (u16, &'a str, &'a str, &'a str, Vec<(&'a str, &'a str)>, &'a str);

/// The problem document of a refusal, and that it was counted once since `before`.
pub(super) async fn refused(
    running: &Running,
    before: f64,
    answer: &Answer,
    status: u16,
    code: &str,
    detail: &str,
) {
    let problem = answer.json();
    assert_eq!(answer.status, status, "{problem}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{problem}"
    );
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["type"], format!("urn:weir:problem:{code}"), "{problem}");
    assert!(problem["title"].is_string(), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    assert!(
        (running.refused(code).await - before - 1.0).abs() < f64::EPSILON,
        "{code} is counted once"
    );
}

#[tokio::test]
async fn every_wrong_request_gets_its_problem() {
    let running = Running::start(&[("WEIR_INGEST_MAX_BODY", "1MB")]).await;
    let signed = |body: &[u8]| format!("sha256={}", mac(&[body]));
    let json = ("content-type", "application/json");
    let ops = ("authorization", "Bearer ops-token");
    let (delivery, event) = (("x-github-delivery", "1"), ("x-github-event", "push"));
    let (good, broken) = (signed(b"{}"), signed(b"{\n  oops}"));
    let large = "x".repeat((1 << 20) + 1);
    let many = format!("[{}]", vec!["{}"; 1001].join(","));
    let wrong = format!("sha256={}", "0".repeat(64));
    let cases: Vec<Case<'_>> = vec![
        (404, "not_found", "no such route", "/nowhere", vec![], ""),
        (
            404,
            "unknown_source",
            "\"gitlab\"",
            "/webhooks/gitlab",
            vec![],
            "{}",
        ),
        (
            401,
            "signature_missing",
            "x-hub-signature-256",
            "/webhooks/github",
            vec![json, delivery, event],
            "{}",
        ),
        (
            401,
            "signature_wrong",
            "any active secret",
            "/webhooks/github",
            vec![json, delivery, event, ("x-hub-signature-256", &wrong)],
            "{}",
        ),
        (
            401,
            "signature_wrong",
            "any active secret",
            "/webhooks/github",
            vec![json, delivery, event, ("x-hub-signature-256", &good)],
            "{ }",
        ),
        (
            401,
            "signature_missing",
            "x-acme-signature",
            "/webhooks/acme",
            vec![],
            "{}",
        ),
        (
            401,
            "timestamp_invalid",
            "is missing",
            "/webhooks/slack",
            vec![("x-slack-signature", "v0=0")],
            "{}",
        ),
        (
            401,
            "timestamp_stale",
            "s old, at most 300 s",
            "/webhooks/slack",
            vec![
                ("x-slack-signature", "v0=0"),
                ("x-slack-request-timestamp", "1531420618"),
            ],
            "{}",
        ),
        (
            400,
            "malformed",
            "line 2 column 3",
            "/webhooks/github",
            vec![json, delivery, event, ("x-hub-signature-256", &broken)],
            "{\n  oops}",
        ),
        (
            400,
            "header_invalid",
            "x-github-delivery is missing",
            "/webhooks/github",
            vec![json, event, ("x-hub-signature-256", &good)],
            "{}",
        ),
        (
            413,
            "body_too_large",
            "1048576 bytes",
            "/webhooks/github",
            vec![json, delivery, event, ("x-hub-signature-256", &good)],
            &large,
        ),
        (
            401,
            "token_missing",
            "Authorization",
            "/v1/events/http",
            vec![json],
            "{}",
        ),
        (
            401,
            "token_missing",
            "Authorization",
            "/v1/events/nowhere",
            vec![json],
            "{}",
        ),
        (
            401,
            "token_unknown",
            "not known",
            "/v1/events/http",
            vec![json, ("authorization", "Bearer nobody")],
            "{}",
        ),
        (
            403,
            "service_not_allowed",
            "\"ci\" is not for service http",
            "/v1/events/http",
            vec![json, ("authorization", "Bearer ci-token")],
            "{}",
        ),
        (
            404,
            "unknown_service",
            "\"nowhere\"",
            "/v1/events/nowhere",
            vec![json, ops],
            "{}",
        ),
        (
            415,
            "media_type",
            "application/json",
            "/v1/events/http",
            vec![ops],
            "{}",
        ),
        (
            415,
            "media_type",
            "application/json",
            "/v1/events/http",
            vec![ops, ("content-type", "text/plain")],
            "{}",
        ),
        (
            415,
            "media_type",
            "gzip",
            "/v1/events/http",
            vec![ops, json, ("content-encoding", "gzip")],
            "{}",
        ),
        (
            400,
            "malformed",
            "\"v\" is missing",
            "/v1/events/http",
            vec![ops, json],
            "{}",
        ),
        (
            400,
            "malformed",
            "line 1 column",
            "/v1/events/http",
            vec![ops, json],
            "{\"v\":1,",
        ),
        (
            400,
            "malformed",
            "neither a msgpack map nor a JSON object",
            "/v1/events/http",
            vec![ops, json],
            "[]",
        ),
        (
            400,
            "malformed",
            "byte",
            "/v1/events/http",
            vec![ops, ("content-type", "application/msgpack")],
            "\u{1}",
        ),
        (
            400,
            "malformed",
            "both name the event",
            "/v1/events/http",
            vec![ops, json, ("idempotency-key", "k")],
            r#"{"v":1,"type":"t","id":"x"}"#,
        ),
        (
            400,
            "header_invalid",
            "idempotency-key",
            "/v1/events/http",
            vec![ops, json, ("idempotency-key", "a b")],
            "{}",
        ),
        (
            400,
            "header_invalid",
            "weir-deliver-at",
            "/v1/events/http",
            vec![ops, json, ("weir-deliver-at", "tomorrow")],
            "{}",
        ),
        (
            400,
            "header_invalid",
            "weir-priority",
            "/v1/events/http",
            vec![ops, json, ("weir-priority", "11")],
            "{}",
        ),
        (
            413,
            "body_too_large",
            "1048576 bytes",
            "/v1/events/http",
            vec![ops, json],
            &large,
        ),
        (
            413,
            "batch_too_large",
            "1000",
            "/v1/events/http/batch",
            vec![ops, json],
            &many,
        ),
        (
            400,
            "malformed",
            "line 1 column",
            "/v1/events/http/batch",
            vec![ops, json],
            "[{]",
        ),
        (
            401,
            "token_missing",
            "Authorization",
            "/v1/events/http/batch",
            vec![json],
            "[]",
        ),
        (
            415,
            "media_type",
            "x-ndjson",
            "/v1/events/http/batch",
            vec![ops],
            "[]",
        ),
    ];
    for (status, code, detail, path, headers, body) in cases {
        let before = running.refused(code).await;
        let answer = running.post(path, &headers, body.to_owned()).await;
        refused(&running, before, &answer, status, code, detail).await;
        assert_eq!(
            answer.header("www-authenticate").is_some(),
            status == 401 && code.starts_with("token"),
            "{code}"
        );
    }
    for service in ["github", "slack", "http"] {
        assert_eq!(running.waiting(service).await, 0, "nothing refused is kept");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn other_methods_are_told_which_ones_there_are() {
    let running = Running::start(&[]).await;
    for (method, path, allow) in [
        (Method::GET, "/webhooks/github", "POST"),
        (Method::PUT, "/v1/events/http", "POST"),
        (Method::POST, "/openapi.json", "GET,HEAD"),
        (Method::POST, "/health/ready", "GET,HEAD"),
    ] {
        let before = running.refused("method_not_allowed").await;
        let answer = running.call(method, path, &[], "").await;
        refused(
            &running,
            before,
            &answer,
            405,
            "method_not_allowed",
            "/openapi.json",
        )
        .await;
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
    }
    assert!(
        running
            .metric("weir_ingest_requests_total{route=\"other\",status=\"405\"}")
            .await
            > 3.0
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn without_tokens_nobody_publishes() {
    let running = Running::start(&[("WEIR_TOKENS", "")]).await;
    let answer = running.event("http", &[], "{}").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (401, Some("token_unknown"))
    );
    running.stop().await.unwrap();
}
