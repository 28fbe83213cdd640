//! What is not paid for twice, and what may not be spent.

use std::time::Duration;

use futures_util::future::join_all;
use shared::failure::Failure;

use super::*;

async fn echo() -> Api {
    Api::new(|seen| said(&format!("says {}", last(seen)), 500, 100)).await
}

/// Nano-dollars of one call of [`echo`].
const COST: u64 = 1_500_000;

fn zero(prompt: &str) -> Value {
    json!({"prompt": prompt, "temperature": 0})
}

#[tokio::test]
async fn the_same_question_is_paid_for_once() {
    let api = echo().await;
    let stage = stage_with_redis(&api, &["a"], &[]).await;
    let (code, told) = result(stage.handle(&of_tenant("t1", &zero("x"))).await);
    assert_eq!((&*code, &told["cost"]["nano_usd"]), ("answered", &json!(COST)));
    let (code, told) = result(stage.handle(&of_tenant("t1", &zero("x"))).await);
    assert_eq!(
        (&*code, &told["cost"]["nano_usd"], &told["text"]),
        ("reused", &json!(0), &json!("says x"))
    );
    assert_eq!(told["usage"]["input"], 0);
    assert_eq!(api.seen().len(), 1);
    // Nothing of this is the same question.
    for other in [
        of_tenant("t2", &zero("x")),
        event("ask", &zero("x")),
        of_tenant("t1", &zero("y")),
        of_tenant("t1", &json!({"prompt": "x", "temperature": 0, "max_tokens": 9})),
        of_tenant(
            "t1",
            &json!({"prompt": "x", "temperature": 0, "prompt_version": "2"}),
        ),
        of_tenant("t1", &json!({"prompt": "x", "temperature": 0, "system": "s"})),
        of_tenant("t1", &json!({"prompt": "x", "temperature": 0, "cache": false})),
        of_tenant("t1", &json!({"prompt": "x"})),
        of_tenant("t1", &json!({"prompt": "x", "temperature": 0.5})),
    ] {
        assert_eq!(result(stage.handle(&other).await).0, "answered", "{other:?}");
    }
    assert_eq!(api.seen().len(), 9);
    // Who wishes it gets what is there at any temperature.
    let wished = json!({"prompt": "x", "temperature": 0.7, "cache": true});
    for code in ["answered", "reused"] {
        assert_eq!(result(stage.handle(&of_tenant("t1", &wished)).await).0, code);
    }
}

#[tokio::test]
async fn answers_without_an_end_are_not_shared() {
    let api = Api::new(|_| {
        let choice = json!({"message": {"content": "x"}, "finish_reason": "length"});
        told(
            200,
            &json!({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
        )
    })
    .await;
    let stage = stage_with_redis(&api, &["a"], &[]).await;
    for _ in 0..2 {
        assert_eq!(
            result(stage.handle(&event("ask", &zero("x"))).await).1["finish"],
            "length"
        );
    }
    assert_eq!(api.seen().len(), 2);
}

#[tokio::test]
async fn questions_at_the_same_time_are_one_call_even_between_workers() {
    let api = echo().await;
    let one = stage_with_redis(&api, &["a"], &[]).await;
    let url = one.redis.as_ref().unwrap().url();
    let other = {
        let all = settings(&api.url, &["a"], &[]);
        Stage::at_redis(&KIND, &api.url, &borrowed(&all), &url)
    };
    let events: Vec<_> = (0..20).map(|_| event("ask", &zero("x"))).collect();
    let asked = events.iter().enumerate().map(|(n, event)| {
        let stage = if n % 2 == 0 { &one } else { &other };
        stage.handle(event)
    });
    let answered: Vec<_> = join_all(asked)
        .await
        .into_iter()
        .map(|outcome| result(outcome).0)
        .collect();
    assert_eq!(api.seen().len(), 1);
    assert_eq!(answered.iter().filter(|code| *code == "answered").count(), 1);
}

#[tokio::test]
async fn without_redis_every_question_is_asked() {
    let api = echo().await;
    let stage = stage(&api, &["a"], &[]);
    for _ in 0..2 {
        assert_eq!(
            result(stage.handle(&event("ask", &zero("x"))).await).0,
            "answered"
        );
    }
    assert_eq!(api.seen().len(), 2);
}

#[tokio::test]
async fn the_answers_together_are_bounded() {
    let api = Api::new(|seen| said(&format!("{}{}", last(seen), "x".repeat(1_000)), 1, 1)).await;
    let stage = stage_with_redis(&api, &["a"], &[("CACHE_BYTES", "8KB")]).await;
    for n in 0..20 {
        let _ = stage.handle(&event("ask", &zero(&n.to_string()))).await;
    }
    let mut redis = shared::connect::redis(&stage.redis.as_ref().unwrap().url()).unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("weir:{agent:answers}:answer:*")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!((4..8).contains(&keys.len()), "{keys:?}");
    let mut bytes = 0;
    for key in &keys {
        let len: u64 = redis::cmd("STRLEN")
            .arg(key)
            .query_async(&mut redis)
            .await
            .unwrap();
        bytes += len;
    }
    let sizes = "weir:{agent:answers}:sizes";
    let total: u64 = redis::cmd("HGET")
        .arg(sizes)
        .arg("total")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(bytes < total && total <= 8 << 10, "{bytes} {total}");
    let locks: Vec<String> = redis::cmd("KEYS")
        .arg("weir:{agent:answers}:lock:*")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(locks.is_empty(), "{locks:?}");
    api.seen();
    assert_eq!(
        result(stage.handle(&event("ask", &zero("19"))).await).0,
        "reused",
        "the newest are kept"
    );
    assert_eq!(
        result(stage.handle(&event("ask", &zero("0"))).await).0,
        "answered"
    );
}

fn waits(outcome: Outcome) -> (String, Duration) {
    match outcome.unwrap_err() {
        Failure::Throttled { reason, wait } => (reason.code.to_string(), wait),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tenants_day_ends_when_its_money_does_and_no_other_tenants() {
    let api = echo().await;
    // Three fit, and what may be written is reserved for the next.
    let bounds = [("BUDGET_TENANT", "0.0055")];
    let stage = stage_with_redis(&api, &["a"], &bounds).await;
    let ask = |tenant: &str| of_tenant(tenant, &json!({"prompt": "x", "max_tokens": 100}));
    for _ in 0..3 {
        assert_eq!(result(stage.handle(&ask("t1")).await).0, "answered");
    }
    let (code, wait) = waits(stage.handle(&ask("t1")).await);
    assert_eq!(code, "over_budget");
    assert!(wait <= Duration::from_secs(86_400), "{wait:?}");
    assert_eq!(result(stage.handle(&ask("t2")).await).0, "answered");
    assert_eq!(api.seen().len(), 4);
    let mut redis = shared::connect::redis(&stage.redis.as_ref().unwrap().url()).unwrap();
    for (key, spent) in [("tenant:t1", 3 * COST), ("tenant:t2", COST), ("day", 4 * COST)] {
        let key = format!("weir:{{agent:spend}}:{key}");
        let counted: u64 = redis::cmd("HGET")
            .arg(&key)
            .arg("spent")
            .query_async(&mut redis)
            .await
            .unwrap();
        assert_eq!(counted, spent, "{key}");
    }
    // Another day.
    let key = "weir:{agent:spend}:tenant:t1";
    for key in [key, "weir:{agent:spend}:day"] {
        let _: i64 = redis::cmd("HINCRBY")
            .arg(key)
            .arg("day")
            .arg(-1)
            .query_async(&mut redis)
            .await
            .unwrap();
    }
    assert_eq!(result(stage.handle(&ask("t1")).await).0, "answered");
}

#[tokio::test]
async fn what_is_reserved_counts_until_it_is_known_better() {
    let api = echo().await;
    // Two thousand tokens may be written for 20 thousandths of a cent each: room for one such call at a time only.
    let bounds = [("BUDGET_DAY", "0.03"), ("BUDGET_OVER", "refuse")];
    let stage = stage_with_redis(&api, &["a"], &bounds).await;
    let ask = |n: u32| event("ask", &json!({"prompt": n.to_string(), "max_tokens": 2_000}));
    let events = [ask(1), ask(2)];
    let ends = join_all(events.iter().map(|event| stage.handle(event))).await;
    let refused: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].class(), &*refused[0].reason().code),
        ("permanent", "over_budget")
    );
    assert_eq!(
        result(stage.handle(&ask(3)).await).0,
        "answered",
        "the rest was given back"
    );
    assert_eq!(api.seen().len(), 2);
}

/// Whatever a question is written in, and whatever comes with it: the maker that counts a token for each byte of it
/// finds no more than was reserved.
#[tokio::test]
async fn no_call_begins_that_could_cost_more_than_is_left() {
    let api = Api::new(|seen| said("{}", seen.body.len() as u64, 9)).await;
    let schema = json!({"type": "object", "description": "x".repeat(9_000)});
    for data in [
        json!({"prompt": "為什麼".repeat(1_000), "max_tokens": 9}),
        json!({"prompt": "c29tZSBiYXNlNjQ=\n{[(\"\\\"".repeat(300), "max_tokens": 9}),
        json!({"prompt": "x", "json": schema, "max_tokens": 9}),
        json!({"messages": vec![json!({"role": "user", "content": "x"}); 200], "max_tokens": 9}),
    ] {
        let free = stage(&api, &["a"], &[]);
        let (_, told) = result(free.handle(&event("ask", &data)).await);
        let cost = told["cost"]["nano_usd"].as_u64().unwrap();
        api.seen();
        let bound = super::super::money::show(cost - 1);
        let bounds = [("BUDGET_DAY", bound.as_str()), ("BUDGET_OVER", "refuse")];
        let stage = stage_with_redis(&api, &["a"], &bounds).await;
        assert_eq!(
            failure(stage.handle(&event("ask", &data)).await),
            ("permanent", "over_budget".into())
        );
        assert!(api.seen().is_empty());
    }
}

#[tokio::test]
async fn calls_that_were_refused_cost_nothing() {
    let api = Api::new(|_| failed(500)).await;
    let stage = stage_with_redis(&api, &["a"], &[("BUDGET_DAY", "1")]).await;
    assert_eq!(
        failure(stage.handle(&event("ask", &zero("x"))).await),
        ("transient", "http_500".into())
    );
    let mut redis = shared::connect::redis(&stage.redis.as_ref().unwrap().url()).unwrap();
    let spent: u64 = redis::cmd("HGET")
        .arg("weir:{agent:spend}:day")
        .arg("spent")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(spent, 0);
}

#[tokio::test]
async fn an_event_has_its_own_bound_and_keeps_what_it_has() {
    let api = Api::new(|seen| {
        let critic = seen.json()["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("GOOD");
        said(if critic { "More." } else { "draft" }, 500, 100)
    })
    .await;
    let stage = stage_with_redis(&api, &["a"], &[("BUDGET_EVENT", "0.004")]).await;
    let data = json!({"prompt": "x", "mode": "refine", "rounds": 5, "max_tokens": 100});
    let (_, told) = result(stage.handle(&event("ask", &data)).await);
    assert_eq!(
        (&told["text"], &told["ended"], &told["calls"]),
        (&json!("draft"), &json!("budget"), &json!(2))
    );
    let dear = json!({"prompt": "x", "max_tokens": 1_000});
    assert_eq!(
        failure(stage.handle(&event("ask", &dear)).await),
        ("permanent", "over_budget".into())
    );
}

#[tokio::test]
async fn a_budget_that_nobody_can_ask_for_lets_nothing_through() {
    let api = echo().await;
    let stage = stage(&api, &["a"], &[("BUDGET_DAY", "100")]);
    assert_eq!(
        waits(stage.handle(&event("ask", &zero("x"))).await).0,
        "budget_unknown"
    );
    assert!(api.seen().is_empty());
}
