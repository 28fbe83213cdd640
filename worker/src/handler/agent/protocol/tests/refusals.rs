//! Every refusal of every maker, and the failure that it is.

use std::time::{Duration, SystemTime};

use super::*;

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap()));
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.collect(),
        body: body.to_owned().into(),
        cut: false,
    }
}

fn failure(protocol: Protocol, answer: &Answer) -> (String, String, Option<u128>) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let reading = protocol.provider().read(answer, now);
    let failure = protocol.failure(answer, &reading, now);
    let wait = match &failure {
        Failure::Throttled { wait, .. } => Some(*wait),
        Failure::Transient { retry_after, .. } => *retry_after,
        Failure::Permanent { .. } => None,
    };
    let wait = wait.map(|wait| wait.as_millis());
    (
        failure.class().to_owned(),
        failure.reason().code.to_string(),
        wait,
    )
}

fn openai_error(kind: &str, code: &str, message: &str) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

fn anthropic_error(kind: &str, message: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}).to_string()
}

/// Every refusal, of every maker: its class, its code, and the wait in milliseconds.
#[test]
fn every_refusal_is_the_right_failure() {
    let http_date = "Fri, 15 Jan 2027 08:01:00 GMT";
    let plain = [
        (400, "permanent"),
        (401, "permanent"),
        (403, "permanent"),
        (404, "permanent"),
        (408, "transient"),
        (409, "transient"),
        (413, "permanent"),
        (422, "permanent"),
        (500, "transient"),
        (501, "permanent"),
        (502, "transient"),
        (503, "transient"),
        (504, "transient"),
        (529, "transient"),
        (302, "permanent"),
    ];
    for protocol in ALL {
        for (status, class) in plain {
            for body in [
                "",
                "<html>",
                r#"{"error":{"type":"x","message":"y"}}"#,
                r#"{"code":"x","error":"y"}"#,
            ] {
                let told = failure(protocol, &answer(status, &[], body));
                assert_eq!(
                    told,
                    (class.into(), format!("http_{status}"), None),
                    "{protocol:?} {body}"
                );
            }
        }
        for (headers, wait) in [
            (&[][..], 30_000),
            (&[("retry-after", "7")], 7_000),
            (&[("retry-after", "0.5")], 500),
            (&[("retry-after", http_date)], 60_000),
            (&[("retry-after-ms", "1898"), ("retry-after", "2")], 1_898),
            (&[("retry-after", "soon")], 30_000),
            (&[("retry-after", "-1")], 30_000),
        ] {
            let told = failure(protocol, &answer(429, headers, "slow down"));
            assert_eq!(
                told,
                ("throttled".into(), "http_429".into(), Some(wait)),
                "{protocol:?} {headers:?}"
            );
        }
        let busy = answer(503, &[("retry-after", "9")], "");
        assert_eq!(
            failure(protocol, &busy),
            ("transient".into(), "http_503".into(), Some(9_000))
        );
    }
    let permanent = |code: &str| ("permanent".to_owned(), code.to_owned(), None);
    let headers = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "6m0s"),
    ];
    let by_reset = failure(Protocol::Openai, &answer(429, &headers, ""));
    assert_eq!(by_reset, ("throttled".into(), "http_429".into(), Some(360_000)));
    let headers = [
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2027-01-15T08:00:10Z"),
    ];
    let body = anthropic_error("rate_limit_error", "x");
    let by_reset = failure(Protocol::Anthropic, &answer(429, &headers, &body));
    assert_eq!(
        by_reset,
        ("throttled".into(), "http_429".into(), Some(11_000)),
        "by its own clock"
    );
    for (protocol, status, body) in [
        (
            Protocol::Openai,
            429,
            openai_error(
                "insufficient_quota",
                "insufficient_quota",
                "You exceeded your quota",
            ),
        ),
        (
            Protocol::Openai,
            429,
            openai_error("insufficient_quota", "billing_hard_limit_reached", "x"),
        ),
        (Protocol::Anthropic, 402, anthropic_error("billing_error", "x")),
        (
            Protocol::Anthropic,
            429,
            json!({"type": "error", "error": {"type": "rate_limit_error", "message": "x",
            "details": {"error_code": "enforced_spend_limit_reached"}}})
            .to_string(),
        ),
        (
            Protocol::Xai,
            429,
            json!({"code": "x", "error": "Your team has either used all available credits or reached"})
                .to_string(),
        ),
        (
            Protocol::Xai,
            403,
            json!({"code": "x", "error": "Your team has either used all available credits or reached"})
                .to_string(),
        ),
    ] {
        assert_eq!(
            failure(protocol, &answer(status, &[], &body)),
            permanent(NO_MONEY),
            "{protocol:?} {body}"
        );
    }
    let too_large = openai_error(
        "tokens",
        "rate_limit_exceeded",
        "Request too large for gpt-x on tokens per min",
    );
    assert_eq!(
        failure(Protocol::Openai, &answer(429, &[], &too_large)),
        permanent("request_too_large")
    );
    for (protocol, status, body) in [
        (
            Protocol::Openai,
            400,
            openai_error("invalid_request_error", "content_policy_violation", "x"),
        ),
        (
            Protocol::Compatible,
            400,
            openai_error("x", "content_filter", "x"),
        ),
        (
            Protocol::Xai,
            403,
            json!({"code": "x", "error": "Content violates usage guidelines."}).to_string(),
        ),
        (
            Protocol::Anthropic,
            400,
            anthropic_error(
                "invalid_request_error",
                "Output blocked by content filtering policy",
            ),
        ),
    ] {
        assert_eq!(
            failure(protocol, &answer(status, &[], &body)),
            permanent(POLICY),
            "{protocol:?} {body}"
        );
    }
    // A success that is none of its own.
    assert_eq!(
        failure(Protocol::Openai, &answer(204, &[], "")).1,
        "malformed_answer"
    );
}

/// Errors in the midst of a stream are what they would have been as a status.
#[test]
fn errors_in_a_stream_are_the_failure_of_their_status() {
    let told = |protocol: Protocol, body: &str| {
        let mut gather = Gather::default();
        let event = sse::Event {
            name: "error".into(),
            data: body.into(),
        };
        match protocol.event(&mut gather, &event).unwrap_err() {
            Trouble::Error(status, body) => {
                failure(protocol, &answer(status.as_u16(), &[], &body.to_string())).1
            }
            other => panic!("{other:?}"),
        }
    };
    for (kind, code) in [
        ("overloaded_error", "http_529"),
        ("api_error", "http_500"),
        ("rate_limit_error", "http_429"),
        ("invalid_request_error", "http_400"),
        ("authentication_error", "http_401"),
        ("permission_error", "http_403"),
        ("not_found_error", "http_404"),
        ("request_too_large", "http_413"),
        ("timeout_error", "http_504"),
        ("billing_error", NO_MONEY),
        ("something_new", "http_500"),
    ] {
        assert_eq!(
            told(Protocol::Anthropic, &anthropic_error(kind, "x")),
            code,
            "{kind}"
        );
    }
    for protocol in [Protocol::Openai, Protocol::Compatible, Protocol::Xai] {
        assert_eq!(
            told(protocol, &openai_error("server_error", "server_error", "x")),
            "http_500"
        );
        assert_eq!(
            told(protocol, &openai_error("tokens", "rate_limit_exceeded", "x")),
            "http_429"
        );
        assert_eq!(
            told(
                protocol,
                &openai_error("invalid_request_error", "context_length_exceeded", "x")
            ),
            "http_400"
        );
    }
    assert_eq!(
        told(
            Protocol::Openai,
            &openai_error("insufficient_quota", "insufficient_quota", "x")
        ),
        NO_MONEY
    );
}
