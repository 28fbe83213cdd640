#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use serde_json::json;

use super::super::{clock::Clock, exchange::ask, limits::Limits};
use super::*;

fn question(api: Api, body: &Value) -> Ask {
    let headers = match api {
        Api::Anthropic => vec![("x-api-key", "k"), ("anthropic-version", "2023-06-01")],
        _ => vec![("authorization", "Bearer k")],
    };
    ask(Method::POST, "/v1", &headers, &body.to_string())
}

fn plain(api: Api, text: &str) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
    if api == Api::Anthropic {
        body["max_tokens"] = json!(100);
    }
    body
}

const ALL: [Api; 3] = [Api::Openai, Api::Anthropic, Api::Xai];

fn served(api: Api, body: &Value) -> Reply {
    served_by(&LlmLimits::default(), api, body)
}

fn served_by(makers: &LlmLimits, api: Api, body: &Value) -> Reply {
    let ask = question(api, body);
    assert!(refuse_wrong(makers, api, &ask).is_none());
    let now = Clock::new(0).now();
    let mut limits = Limits::new(std::time::Duration::ZERO);
    let admission = limits
        .admit(now.since_start, &demands(makers, api, &ask))
        .unwrap();
    serve(makers, api, &ask, &admission, now)
}

fn text(api: Api, reply: &Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    let text = match api {
        Api::Anthropic => &body["content"][0]["text"],
        _ => &body["choices"][0]["message"]["content"],
    };
    text.as_str().unwrap().to_owned()
}

#[test]
fn the_same_question_has_the_same_answer_and_wishes_are_heard() {
    for api in ALL {
        let of = |question: &str| text(api, &served(api, &plain(api, question)));
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_eq!(of("hm [[say:GOOD]]"), "GOOD");
        let makers = LlmLimits {
            says: Some("Always this.".into()),
            ..LlmLimits::default()
        };
        let of = |question: &str| text(api, &served_by(&makers, api, &plain(api, question)));
        assert_eq!(
            (of("a"), of("[[say:GOOD]]")),
            ("Always this.".into(), "GOOD".into())
        );
        let reply = served(api, &plain(api, "a"));
        let header = if api == Api::Anthropic {
            "anthropic-ratelimit-requests-remaining"
        } else {
            "x-ratelimit-remaining-requests"
        };
        assert_eq!(reply.headers[header], "499");
    }
}

#[test]
fn streams_have_the_text_of_the_whole_answer_and_its_use() {
    for api in ALL {
        let mut body = plain(api, "why");
        let whole = text(api, &served(api, &body));
        body["stream"] = json!(true);
        let reply = served(api, &body);
        let stream = String::from_utf8(reply.body.to_vec()).unwrap();
        let mut said = String::new();
        for data in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let Ok(event) = serde_json::from_str::<Value>(data) else {
                continue;
            };
            let piece = event["choices"][0]["delta"]["content"]
                .as_str()
                .or_else(|| event["delta"]["text"].as_str());
            said.push_str(piece.unwrap_or_default());
        }
        assert_eq!(said, whole);
        assert!(stream.contains(if api == Api::Anthropic {
            "message_stop"
        } else {
            "[DONE]"
        }));
        let overloaded = served(api, &{
            let mut body = body.clone();
            body["messages"][0]["content"] = json!("[[overload]]");
            body
        });
        assert!(
            String::from_utf8(overloaded.body.to_vec())
                .unwrap()
                .contains("\"error\"")
        );
    }
}

#[test]
fn what_is_wrong_is_refused_as_the_makers_do() {
    for api in ALL {
        let status = |body: &Value| {
            refuse_wrong(&LlmLimits::default(), api, &question(api, body)).map(|reply| reply.status.as_u16())
        };
        assert_eq!(status(&plain(api, "a")), None);
        assert_eq!(status(&json!({"model": "m"})), Some(400));
        assert_eq!(status(&json!({"messages": []})), Some(400));
        let mut missing = plain(api, "a");
        missing["model"] = json!("missing-model");
        assert_eq!(status(&missing), Some(404));
        let policy = if api == Api::Xai { 403 } else { 400 };
        assert_eq!(status(&plain(api, "[[refuse]]")), Some(policy));
        let stranger = ask(Method::POST, "/v1", &[], &plain(api, "a").to_string());
        assert_eq!(
            refuse_wrong(&LlmLimits::default(), api, &stranger)
                .unwrap()
                .status
                .as_u16(),
            401
        );
    }
    let mut old = plain(Api::Openai, "a");
    old["max_tokens"] = json!(9);
    assert!(refuse_wrong(&LlmLimits::default(), Api::Openai, &question(Api::Openai, &old)).is_some());
}
