//! The handler as a whole, against an API that answers as it is told.

mod figures;
mod streams;
mod thrift;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use shared::event::{Event, Tenant};

use super::KIND;
use crate::handler::stage::{Api, Seen, Stage, Told, event, told};
use crate::handler::{Completion, Outcome};

const PRICE: &str = "in 1, out 10, version 2026-11";

/// An answer of OpenAI's with so many tokens read and written.
fn said(text: &str, input: u64, output: u64) -> Told {
    told(
        200,
        &json!({"model": "gpt-x-1", "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}}),
    )
}

fn failed(status: u16) -> Told {
    told(
        status,
        &json!({"error": {"message": "no", "type": "x", "code": null}}),
    )
}

/// The last message of a call.
fn last(seen: &Seen) -> String {
    let body = seen.json();
    let messages = body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"].as_str().unwrap().to_owned()
}

/// Settings of models without limits, all at this API, in this order.
fn settings(url: &str, models: &[&'static str], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all = vec![("MODELS".to_owned(), models.join(","))];
    for model in models {
        let own = format!("MODEL_{}", model.to_uppercase());
        all.push((own.clone(), format!("compatible:{model}")));
        all.push((format!("{own}_URL"), format!("{url}/v1")));
        all.push((format!("{own}_PRICE"), PRICE.to_owned()));
        all.push((format!("{own}_LIMIT"), "none".to_owned()));
        all.push((format!("{own}_LIMITS"), "none".to_owned()));
    }
    all.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    all
}

fn borrowed(all: &[(String, String)]) -> Vec<(&str, &str)> {
    all.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn stage(api: &Api, models: &[&'static str], more: &[(&str, &str)]) -> Stage {
    let all = settings(&api.url, models, more);
    Stage::new(&KIND, &api.url, &borrowed(&all))
}

async fn stage_with_redis(api: &Api, models: &[&'static str], more: &[(&str, &str)]) -> Stage {
    let all = settings(&api.url, models, more);
    Stage::with_redis(&KIND, &api.url, &borrowed(&all)).await
}

fn of_tenant(tenant: &str, data: &Value) -> Event {
    Event {
        tenant: Some(Tenant::new(tenant).unwrap()),
        ..event("ask", data)
    }
}

fn result(outcome: Outcome) -> (String, Value) {
    let Completion { code, result, .. } = outcome.unwrap();
    (code.into_owned(), result.unwrap())
}

/// Class and code of a failure.
fn failure(outcome: Outcome) -> (&'static str, String) {
    let failure = outcome.unwrap_err();
    (failure.class(), failure.reason().code.to_string())
}

#[tokio::test]
async fn an_answer_is_told_with_what_it_cost() {
    let api = Api::new(|_| said("Because.", 500, 50)).await;
    let stage = stage(&api, &["fast"], &[("MODEL_FAST_TOKEN", "hunter2")]);
    let asked = event(
        "ask",
        &json!({"prompt": "Why?", "system": "Be brief.", "max_tokens": 50}),
    );
    let (code, result) = result(stage.handle(&asked).await);
    assert_eq!(code, "answered");
    assert_eq!(result["text"], "Because.");
    assert_eq!(
        (&result["model"], &result["exact_model"]),
        (&json!("fast"), &json!("gpt-x-1"))
    );
    assert_eq!(
        result["cost"],
        json!({"nano_usd": 1_000_000, "prices": {"fast": "2026-11"}, "estimated": false})
    );
    assert_eq!(result["usage"], json!({"input": 500, "cached": 0, "output": 50}));
    assert_eq!(
        (&result["calls"], &result["reused_answers"]),
        (&json!(1), &json!(0))
    );
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].uri.path(), "/v1/chat/completions");
    assert_eq!(seen[0].header("authorization"), "Bearer hunter2");
    assert_eq!(seen[0].header("idempotency-key"), format!("{}/answer", asked.id));
    assert_eq!(seen[0].json()["max_tokens"], 50);
}

#[tokio::test]
async fn the_next_model_is_asked_only_where_it_may_know_better() {
    // The question says how the first model fails.
    let api = Api::new(|seen| match (seen.json()["model"].as_str(), last(seen).parse()) {
        (Some("first"), Ok(status)) => failed(status),
        _ => said("second", 1, 1),
    })
    .await;
    for (status, asked, code) in [
        (500, 2, None),
        (503, 2, None),
        (429, 2, None),
        (408, 2, None),
        (400, 1, Some("http_400")),
        (401, 1, Some("http_401")),
        (403, 1, Some("http_403")),
        (404, 1, Some("http_404")),
        (422, 1, Some("http_422")),
    ] {
        let stage = stage(&api, &["first", "second"], &[]);
        let outcome = stage
            .handle(&event("ask", &json!({"prompt": status.to_string()})))
            .await;
        match code {
            None => assert_eq!(result(outcome).1["text"], "second", "{status}"),
            Some(code) => assert_eq!(failure(outcome), ("permanent", code.to_owned())),
        }
        assert_eq!(api.seen().len(), asked, "{status}");
    }
}

#[tokio::test]
async fn an_event_may_name_its_models_and_no_others() {
    let api = Api::new(|seen| said(seen.json()["model"].as_str().unwrap(), 1, 1)).await;
    let stage = stage(&api, &["first", "second"], &[]);
    let (_, told) = result(
        stage
            .handle(&event("ask", &json!({"prompt": "x", "model": "second"})))
            .await,
    );
    assert_eq!(told["text"], "second");
    let unknown = stage
        .handle(&event("ask", &json!({"prompt": "x", "model": "third"})))
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("must be one of first, second"),
        "{unknown}"
    );
}

#[tokio::test]
async fn all_models_answer_and_one_joins_what_they_said() {
    let api = Api::new(|seen| {
        let model = seen.json()["model"].as_str().unwrap().to_owned();
        match (&*model, last(seen).contains("Answer 1:")) {
            (_, true) => said("joined", 10, 10),
            ("bad", _) => failed(500),
            _ => said(&format!("{model} says so"), 1, 1),
        }
    })
    .await;
    let stage = stage(&api, &["a", "b", "bad"], &[]);
    let ask = |data: Value| event("ask", &data);
    let (_, told) = result(
        stage
            .handle(&ask(json!({"prompt": "x", "mode": "all", "models": ["a", "b"]})))
            .await,
    );
    let texts: Vec<_> = told["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a says so", "b says so"]);
    assert_eq!((&told["calls"], told.get("text")), (&json!(2), None));
    let outcome = stage.handle(&ask(json!({"prompt": "x", "mode": "all"}))).await;
    assert_eq!(
        failure(outcome),
        ("transient", "http_500".into()),
        "all of them, unless fewer are enough"
    );
    let data = json!({"prompt": "x", "mode": "all", "need": 2, "join": {"model": "b"}});
    let (_, told) = result(stage.handle(&ask(data)).await);
    assert_eq!((&told["text"], &told["model"]), (&json!("joined"), &json!("b")));
    assert!(
        told["answers"][2]["error"]
            .as_str()
            .unwrap()
            .starts_with("http_500")
    );
    let joined = api.seen().pop().unwrap();
    assert!(last(&joined).contains("Question:\nx\n\nAnswer 1:\na says so\n\nAnswer 2:\nb says so"));
}

#[tokio::test]
async fn an_answer_is_refined_until_the_critic_is_content() {
    let round = Arc::new(AtomicU32::new(0));
    let api = Api::new(move |seen| {
        let last = last(seen);
        let critic = seen.json()["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("GOOD");
        if critic {
            said(
                if last.contains("draft 2") {
                    "\"Good.\""
                } else {
                    "Say more."
                },
                1,
                1,
            )
        } else {
            said(&format!("draft {}", round.fetch_add(1, Ordering::Relaxed)), 1, 1)
        }
    })
    .await;
    let stage = stage(&api, &["a"], &[]);
    let ask = |rounds: u32| event("ask", &json!({"prompt": "x", "mode": "refine", "rounds": rounds}));
    let (_, told) = result(stage.handle(&ask(5)).await);
    assert_eq!(
        (&told["text"], &told["ended"], &told["rounds"]),
        (&json!("draft 2"), &json!("good"), &json!(2))
    );
    assert_eq!(told["calls"], 6);
    assert!(
        last(&api.seen()[2]).ends_with("Say more."),
        "the critique is heard"
    );
    let (_, told) = result(stage.handle(&ask(1)).await);
    assert_eq!(
        (&told["ended"], &told["rounds"], &told["calls"]),
        (&json!("rounds"), &json!(1), &json!(3))
    );
}

#[tokio::test]
async fn json_that_is_none_is_a_dead_letter_and_not_kept() {
    let api = Api::new(|seen| said(&last(seen), 1, 1)).await;
    let stage = stage(&api, &["a"], &[]);
    let ask = |prompt: &str| event("ask", &json!({"prompt": prompt, "json": true}));
    let (_, told) = result(stage.handle(&ask(" {\"a\": 1} ")).await);
    assert_eq!(told["json"], json!({"a": 1}));
    assert_eq!(
        failure(stage.handle(&ask("{\"a\": ")).await),
        ("permanent", "not_json".into())
    );
}
