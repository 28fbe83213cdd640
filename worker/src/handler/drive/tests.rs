mod batches;
mod reads;
mod uploads;

use super::*;
use crate::handler::stage::{Api, Seen, Stage, Told, event, named, told};
use crate::outbound::credential::tests::KEY_PKCS8;

const TOKEN: (&str, &str) = ("TOKEN", "ya29.x");

fn code(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Ok(done) => ("done", done.code.to_string()),
        Err(failure) => (failure.class(), failure.reason().code.to_string()),
    }
}

fn get(id: &str) -> Event {
    event("file.get", &json!({"id": id, "fields": "id"}))
}

fn error(status: u16, reason: &str) -> (u16, String) {
    let body = json!({"error": {"code": status, "message": "x", "errors": [{"reason": reason}]}});
    (status, body.to_string())
}

/// The answer to a batch: each part as `answer` says, by its request line and headers.
fn batch(seen: &Seen, answer: impl Fn(&str) -> Option<(u16, String)>) -> Told {
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    let mut body = String::new();
    for (at, part) in text.split("Content-ID: <item-").skip(1).enumerate() {
        if let Some((status, inner)) = answer(part) {
            let part = format!(
                "--b\r\nContent-Type: application/http\r\nContent-ID: <response-item-{at}>\r\n\r\n\
                 HTTP/1.1 {status} X\r\nETag: \"e{at}\"\r\n\r\n{inner}\r\n"
            );
            body += &part;
        }
    }
    let kind = vec![("content-type", "multipart/mixed; boundary=b".to_owned())];
    (200, kind, (body + "--b--\r\n").into_bytes())
}

#[tokio::test]
async fn each_call_of_a_batch_has_its_own_outcome() {
    let api = Api::new(|seen| {
        batch(seen, |part| {
            let id = part
                .split("/files/")
                .nth(1)
                .and_then(|rest| rest.split([' ', '?']).next());
            match id.unwrap_or_default() {
                "gone" => Some(error(404, "notFound")),
                "secret" => Some(error(403, "insufficientFilePermissions")),
                "busy" => Some(error(403, "userRateLimitExceeded")),
                "broken" => Some(error(500, "backendError")),
                "mute" => None,
                id => Some((200, json!({"id": id}).to_string())),
            }
        })
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    let delete = |id: &str| {
        event(
            "call",
            &json!({"method": "DELETE", "path": format!("/files/{id}")}),
        )
    };
    let rename = event(
        "call",
        &json!({"method": "PATCH", "path": "/files/b", "body": {"name": "x"}}),
    );
    let events = [
        get("a"),
        get("gone"),
        get("secret"),
        get("busy"),
        get("broken"),
        get("mute"),
        get("a"),
        delete("gone"),
        rename,
    ];
    assert!(
        events
            .iter()
            .all(|event| stage.handler.group(event).as_deref() == Some("batch"))
    );
    let outcomes: Vec<_> = stage.handle_group(&events).await.into_iter().flatten().collect();
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    let expected = [
        ("done", "http_200"),
        ("permanent", "http_404"),
        ("permanent", "http_403"),
        ("throttled", "http_403"),
        ("transient", "http_500"),
        ("transient", "answer"),
        ("done", "http_200"),
        ("done", "http_404"),
        ("done", "http_200"),
    ];
    assert_eq!(codes, expected.map(|(class, code)| (class, code.to_owned())));
    let seen = api.seen();
    assert_eq!(
        (seen.len(), seen[0].uri.path(), &seen[0].method),
        (1, "/batch/drive/v3", &Method::POST)
    );
    assert_eq!(
        String::from_utf8_lossy(&seen[0].body).matches("HTTP/1.1").count(),
        8,
        "what is asked twice goes once"
    );
    let charges = stage
        .handler
        .group_charges(&events.iter().collect::<Vec<_>>(), &stage.limits);
    assert_eq!(named(&charges), [("requests".to_owned(), 8)]);
}

#[tokio::test]
async fn what_goes_alone() {
    let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[TOKEN]);
    let call = |method: &str, path: &str| event("call", &json!({"method": method, "path": path}));
    for alone in [
        call("POST", "/files"),
        call("GET", "/files/a?alt=media"),
        call("GET", "/files/a/export?mimeType=text/plain"),
        call("GET", &format!("/files?q={}", "x".repeat(8000))),
        call("GET", "/../x"),
        event(
            "call",
            &json!({"method": "PATCH", "path": "/files/a", "body": "x".repeat(70_000)}),
        ),
        event("file.create", &json!({"metadata": {}})),
        event("changes", &json!({})),
        event("something", &json!({})),
    ] {
        assert_eq!(stage.handler.group(&alone), None, "{alone:?}");
    }
    assert_eq!(stage.handler.effect(&call("POST", "/files")), Effect::Once);
    assert_eq!(
        stage
            .handler
            .effect(&event("file.create", &json!({"metadata": {}}))),
        Effect::Once
    );
    assert_eq!(
        stage.handler.effect(&call("PATCH", "/files/a")),
        Effect::Repeatable
    );
    let small = Stage::new(
        &KIND,
        "http://127.0.0.1:1",
        &[TOKEN, ("LIMIT", "60 per minute, burst 7")],
    );
    assert_eq!(
        small.handler.grouping().unwrap().most,
        7,
        "no more than may be called at once"
    );
}

#[tokio::test]
async fn changes_are_read_on_from_where_the_last_event_ended() {
    let api = Api::new(|seen| {
        let query = seen.uri.query().unwrap_or_default();
        match seen.uri.path() {
            "/drive/v3/changes/startPageToken" => told(200, &json!({"startPageToken": "10"})),
            "/drive/v3/changes" if query.contains("pageToken=10&") => {
                told(200, &json!({"changes": [{"fileId": "a"}], "nextPageToken": "11"}))
            }
            "/drive/v3/changes" if query.contains("pageToken=11&") => told(
                200,
                &json!({"changes": [{"fileId": "b", "removed": true}], "newStartPageToken": "12"}),
            ),
            "/drive/v3/changes" => told(200, &json!({"changes": [], "newStartPageToken": "12"})),
            _ => told(200, &json!({"id": "a"})),
        }
    })
    .await;
    let stage = Stage::with_redis(&KIND, &api.url, &[TOKEN]).await;
    let look = || event("changes", &json!({}));
    assert_eq!(stage.handle(&look()).await.unwrap().code, "started");
    let second = look();
    let done = stage.handle(&second).await.unwrap();
    assert_eq!(
        done.changed,
        ["drive-file:a", "drive-file:b"],
        "what was read of them is not used any more"
    );
    let done = done.result.unwrap();
    let expected = json!({"from": "10", "next": "12", "more": false,
        "changes": [{"fileId": "a"}, {"fileId": "b", "removed": true}]});
    assert_eq!(done, expected);
    let third = stage.handle(&look()).await.unwrap().result.unwrap();
    assert_eq!((&third["from"], &third["changes"]), (&json!("12"), &json!([])));
    // An event whose worker died reads again what it read.
    assert_eq!(stage.handle(&second).await.unwrap().result.unwrap(), expected);
    let from = event("changes", &json!({"page_token": "11", "drive_id": "0Axyz"}));
    api.seen();
    assert_eq!(stage.handle(&from).await.unwrap().result.unwrap()["from"], "11");
    assert!(api.seen()[0].uri.query().unwrap().contains("driveId=0Axyz"));
    assert_eq!(
        stage.charges(&look()),
        [("requests".to_owned(), changes::REQUESTS - 1)]
    );
}

#[tokio::test]
async fn changes_that_nobody_can_remember_are_not_read() {
    let api = Api::new(|_| told(200, &json!({}))).await;
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    let look = event("changes", &json!({}));
    assert_eq!(code(&stage.handle(&look).await), ("transient", "redis".into()));
    assert!(api.seen().is_empty());
    let endless = Api::new(|_| told(200, &json!({"changes": [{"fileId": "a"}], "nextPageToken": "1"}))).await;
    let stage = Stage::with_redis(&KIND, &endless.url, &[TOKEN]).await;
    let from = event("changes", &json!({"page_token": "1"}));
    let done = stage.handle(&from).await.unwrap().result.unwrap();
    assert_eq!((&done["more"], endless.seen().len()), (&json!(true), 4));
    for bad in [
        json!({"changes": []}),
        json!("x"),
        json!({"changes": [], "nextPageToken": 7}),
    ] {
        let api = Api::new(move |_| told(200, &bad)).await;
        let stage = Stage::with_redis(&KIND, &api.url, &[TOKEN]).await;
        assert_eq!(code(&stage.handle(&from).await), ("transient", "answer".into()));
    }
}

#[tokio::test]
async fn every_refusal_has_its_failure() {
    for (status, body, class) in [
        (403, error(403, "userRateLimitExceeded").1, "throttled"),
        (403, error(403, "rateLimitExceeded").1, "throttled"),
        (403, error(403, "dailyLimitExceeded").1, "throttled"),
        (403, error(403, "insufficientFilePermissions").1, "permanent"),
        (403, error(403, "storageQuotaExceeded").1, "permanent"),
        (403, "x".repeat(11 << 20), "permanent"),
        (429, error(429, "rateLimitExceeded").1, "throttled"),
        (400, error(400, "invalid").1, "permanent"),
        (401, error(401, "authError").1, "permanent"),
        (404, error(404, "notFound").1, "permanent"),
        (500, error(500, "internalError").1, "transient"),
        (503, String::new(), "transient"),
    ] {
        let api = Api::new(move |_| (status, vec![], body.clone().into_bytes())).await;
        let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
        let failure = stage.handle(&get("a")).await.unwrap_err();
        assert_eq!(
            (failure.class(), &*failure.reason().code),
            (class, &*format!("http_{status}"))
        );
    }
    for body in [&b"\xff\xfe"[..], b"{\"id\": ", b""] {
        let body = body.to_vec();
        let api = Api::new(move |_| (200, vec![], body.clone())).await;
        let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
        let done = stage.handle(&get("a")).await.unwrap();
        assert!(
            done.result.unwrap()["sha256"].is_string(),
            "what is no JSON is known by its hash"
        );
    }
}

#[tokio::test]
async fn events_that_describe_no_call() {
    let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[TOKEN]);
    for (kind, data) in [
        ("call", json!({})),
        ("call", json!({"path": "files"})),
        ("call", json!({"path": "/files/../../x"})),
        ("call", json!({"path": "/files", "method": "TRACE"})),
        ("call", json!({"path": "/files", "more": 1})),
        ("file.get", json!({"id": "a/b"})),
        ("file.get", json!({"id": ""})),
        ("file.get", json!({"id": "a", "fields": "id&x=y"})),
        ("file.get", json!({"id": "a", "fields": "id HTTP/1.1\r\n"})),
        ("file.create", json!({"metadata": "x"})),
        ("file.create", json!({"metadata": {"id": "../x"}})),
        ("file.create", json!({"metadata": {}, "content_base64": "!"})),
        (
            "file.create",
            json!({"metadata": {}, "content": "x", "content_base64": "eA=="}),
        ),
        (
            "file.create",
            json!({"metadata": {}, "content_type": "text/plain\r\nx: y"}),
        ),
        ("changes", json!({"drive_id": "a&b"})),
        ("changes", json!([])),
    ] {
        let outcome = stage.handle(&event(kind, &data)).await;
        assert_eq!(code(&outcome), ("permanent", "call".into()), "{kind} {data}");
    }
    assert_eq!(
        stage.handle(&event("ping", &json!({}))).await.unwrap().code,
        "nothing_to_do"
    );
}

#[tokio::test]
async fn a_service_account_calls_with_tokens_that_it_is_given() {
    let api = Api::new(|seen| match seen.uri.path() {
        "/token" => told(200, &json!({"access_token": "ya29.given", "expires_in": 3599})),
        _ => told(200, &json!({"id": "a"})),
    })
    .await;
    let account = json!({"type": "service_account", "private_key": KEY_PKCS8.as_str(), "client_email": "a@b",
        "token_uri": format!("{}/token", api.url)});
    let stage = Stage::new(&KIND, &api.url, &[("ACCOUNT", &account.to_string())]);
    for _ in 0..2 {
        stage.handle(&get("a")).await.unwrap();
    }
    let paths: Vec<_> = api
        .seen()
        .iter()
        .map(|seen| (seen.uri.path().to_owned(), seen.header("authorization")))
        .collect();
    let call = ("/drive/v3/files/a".to_owned(), "Bearer ya29.given".to_owned());
    assert_eq!(paths, [("/token".to_owned(), String::new()), call.clone(), call]);
}
