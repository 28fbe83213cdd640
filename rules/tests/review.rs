//! The flow that ships, step by step.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use rules::{Chain, FollowUp, HOPS, Input, Rules};
use serde_json::{Value, json};
use shared::event::{Event, EventId};
use shared::subject::Service;
use shared::wire;

const RULES: &str = include_str!("../../examples/rules/review.toml");
const SAMPLE: &str = include_str!("../../examples/rules/opened.json");

/// The one event that follows.
fn next(service: &str, event: &Event, chain: &Chain, result: &Value) -> FollowUp {
    let known = ["github", "analysis", "agent", "slack"].map(|name| Service::new(name).unwrap());
    let decided = Rules::read(RULES, Some(&known)).unwrap().decide(Input {
        service: &Service::new(service).unwrap(),
        event,
        code: Some("ok"),
        result: Some(result),
        chain,
        hops: HOPS,
    });
    assert_eq!(decided.failures, []);
    assert_eq!(decided.follow_ups.len(), 1, "{decided:?}");
    decided.follow_ups.into_iter().next().unwrap()
}

#[test]
fn a_pull_request_becomes_an_analysis_a_question_a_comment_and_a_message() {
    let mut sample: Value = serde_json::from_str(SAMPLE).unwrap();
    sample["event"]["v"] = 1.into();
    let opened = sample["event"].to_string().into_bytes();
    let opened = wire::decode(&opened.into(), EventId::generate).unwrap();
    let data = |made: &FollowUp| made.event.data.to_json().unwrap().unwrap();

    let first = next("github", &opened, &Chain::default(), &json!({}));
    assert_eq!(first.service.as_str(), "analysis");
    assert_eq!(
        data(&first),
        json!({
            "repository": "https://github.com/octocat/hello-world.git",
            "revision": "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d",
        })
    );
    let again = Event {
        id: EventId::generate(),
        kind: "pull_request.synchronize".into(),
        ..opened
    };
    let twice = next("github", &again, &Chain::default(), &json!({}));
    assert_eq!(twice.event.id, first.event.id, "one review a commit");

    let second = next(
        "analysis",
        &first.event,
        &first.chain,
        &json!({"totals": {"files": 3}}),
    );
    assert_eq!(second.service.as_str(), "agent");
    let prompt = data(&second)["prompt"].as_str().unwrap().to_owned();
    assert!(prompt.contains(r#"{"totals":{"files":3}}"#), "{prompt}");
    assert!(prompt.contains("Say hello in every language"), "{prompt}");

    let answer = json!({"text": "Mind the parser.", "model": "small"});
    let third = next("agent", &second.event, &second.chain, &answer);
    assert_eq!(
        (third.service.as_str(), third.event.kind.as_str()),
        ("github", "call")
    );
    assert_eq!(
        data(&third)["path"],
        "/repos/octocat/hello-world/issues/42/comments"
    );
    assert_eq!(
        data(&third)["body"]["body"],
        "Mind the parser.\n\n_small, commit 7fd1a60b01f9_"
    );

    let fourth = next("github", &third.event, &third.chain, &json!({}));
    assert_eq!(
        (fourth.service.as_str(), fourth.event.kind.as_str()),
        ("slack", "call")
    );
    assert_eq!(data(&fourth)["args"]["channel"], "C0REVIEWS");
    assert_eq!(
        fourth.chain.to_string(),
        "review-analyse,review-ask,review-comment,review-tell"
    );
}
