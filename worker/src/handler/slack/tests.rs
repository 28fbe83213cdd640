use super::*;
use crate::handler::stage::{Api, Stage, event, told};

#[test]
fn events_describe_their_calls() {
    let reaction = json!({"event": {"type": "reaction_added", "item": {"channel": "C1", "ts": "1.2"}}});
    let call = describe(&event("reaction_added", &reaction)).unwrap().unwrap();
    assert_eq!(
        (call.method.as_str(), call.args["timestamp"].as_str()),
        ("reactions.get", Some("1.2"))
    );
    let removed = json!({"event": {"type": "app_uninstalled"}});
    assert_eq!(describe(&event("app_uninstalled", &removed)).unwrap(), None);
    let file = json!({"event": {"type": "reaction_added", "item": {"file": "F1"}}});
    assert_eq!(describe(&event("reaction_added", &file)).unwrap(), None);
}

#[test]
fn methods_that_would_leave_the_api_are_refused() {
    for method in ["", "..", "chat/../x", "a b", ".x", "x?y=1", "https://x"] {
        assert!(
            describe(&event("call", &json!({"method": method}))).is_err(),
            "{method:?}"
        );
    }
    assert!(describe(&event("call", &json!({"method": "auth.test", "args": [1]}))).is_err());
}

#[test]
fn refusals_have_their_failures() {
    let answer = |body: &Value| Answer {
        status: http::StatusCode::OK,
        headers: http::HeaderMap::new(),
        body: body.to_string().into(),
        cut: false,
    };
    let judged = |answer: &Answer| {
        judge(
            answer,
            &Provider::Slack.read(answer, SystemTime::now()),
            SystemTime::now(),
        )
    };
    let of = |error: &str| judged(&answer(&json!({"ok": false, "error": error})));
    assert_eq!(of("ratelimited").unwrap_err().class(), "throttled");
    assert_eq!(of("internal_error").unwrap_err().class(), "transient");
    assert_eq!(of("channel_not_found").unwrap_err().class(), "permanent");
    assert!(judged(&answer(&json!({"ok": true, "ts": "1"}))).is_ok());
    assert_eq!(
        judged(&answer(&json!("<html>"))).unwrap_err().class(),
        "permanent"
    );
}

#[tokio::test]
async fn what_slack_would_refuse_is_not_asked() {
    let api = Api::new(|_| told(200, &json!({"ok": true}))).await;
    let stage = Stage::new(&KIND, &api.url, &[("TOKEN", "xoxb-1")]);
    let args = json!({"channel": "C1", "blocks": vec![json!({"type": "divider"}); 51]});
    let post = event("call", &json!({"method": "chat.postMessage", "args": args}));
    let failure = stage.handle(&post).await.unwrap_err();
    assert_eq!(
        (failure.class(), &*failure.reason().code),
        ("permanent", "invalid_blocks")
    );
    assert!(api.seen().is_empty());
    for (method, args) in [
        (
            "chat.postEphemeral",
            json!({"channel": "C1", "user": "U1", "text": "x"}),
        ),
        (
            "chat.update",
            json!({"channel": "C1", "ts": "1712345678.123456", "text": "x"}),
        ),
        (
            "chat.postMessage",
            json!({"channel": "C1", "thread_ts": "1712345678.123456", "text": "x"}),
        ),
        (
            "reactions.add",
            json!({"channel": "C1", "timestamp": "1712345678.123456", "name": "eyes"}),
        ),
    ] {
        let call = event("call", &json!({"method": method, "args": args}));
        assert_eq!(stage.handle(&call).await.unwrap().code, "ok", "{method}");
        assert_eq!(api.seen()[0].uri.path(), format!("/{method}"));
    }
}

#[tokio::test]
async fn what_is_set_already_is_done() {
    let api = Api::new(|_| told(200, &json!({"ok": false, "error": "already_reacted"}))).await;
    let stage = Stage::new(&KIND, &api.url, &[("TOKEN", "xoxb-1")]);
    let call = |method: &str| event("call", &json!({"method": method, "args": {}}));
    assert_eq!(
        stage.handle(&call("reactions.add")).await.unwrap().code,
        "already_reacted"
    );
    assert!(stage.handle(&call("chat.postMessage")).await.is_err());
}

#[tokio::test]
async fn interactions_are_answered_where_slack_says_and_without_the_token() {
    let api = Api::new(|seen| match seen.uri.path() {
        "/used" => told(404, &json!({"ok": false, "error": "used_url"})),
        "/expired" => told(200, &json!({"ok": false, "error": "expired_url"})),
        "/busy" => (429, vec![("retry-after", "3".into())], vec![]),
        "/down" => (500, vec![], b"server_error".to_vec()),
        "/odd" => (200, vec![], b"\xff\xfe".to_vec()),
        _ => (200, vec![], b"ok".to_vec()),
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[("TOKEN", "xoxb-1")]);
    let respond = |path: &str| {
        let url = format!("{}{path}", api.url);
        event(
            "respond",
            &json!({"response_url": url, "body": {"text": "done", "replace_original": true}}),
        )
    };
    assert_eq!(
        stage.handle(&respond("/actions/T1/2/x")).await.unwrap().code,
        "ok"
    );
    let seen = api.seen();
    assert_eq!(seen[0].header("authorization"), "");
    assert_eq!(seen[0].json(), json!({"text": "done", "replace_original": true}));
    assert_eq!(stage.handler.effect(&respond("/x")), Effect::Once);
    for (path, class, code) in [
        ("/used", "permanent", "used_url"),
        ("/expired", "permanent", "expired_url"),
        ("/busy", "throttled", "http_429"),
        ("/down", "transient", "http_500"),
    ] {
        let failure = stage.handle(&respond(path)).await.unwrap_err();
        assert_eq!((failure.class(), &*failure.reason().code), (class, code));
    }
    assert!(
        stage.handle(&respond("/odd")).await.is_ok(),
        "the status says that it is done"
    );
    for bad in [
        json!({}),
        json!({"response_url": "https://evil.example/x", "body": {}}),
        json!({"response_url": format!("{}/x", api.url), "body": "x"}),
        json!({"response_url": format!("{}/x", api.url), "body": {"blocks": 7}}),
        json!({"response_url": format!("{}/x", api.url), "body": {}, "token": "x"}),
    ] {
        api.seen();
        assert_eq!(
            stage.handle(&event("respond", &bad)).await.unwrap_err().class(),
            "permanent",
            "{bad}"
        );
        assert!(api.seen().is_empty(), "{bad}");
    }
}
