//! What makers tell of an answer, where it cannot be true.

use super::*;

/// What is reserved for the question of [`small`]: 512 tokens and one for each byte, and what may be written.
const WRITTEN: u64 = 9;

fn small() -> Event {
    event("ask", &json!({"prompt": "x", "max_tokens": WRITTEN}))
}

/// An answer with this use.
fn with(usage: &Value) -> Told {
    let choice = json!({"message": {"content": "x"}, "finish_reason": "stop"});
    told(200, &json!({"model": "m", "choices": [choice], "usage": usage}))
}

#[tokio::test]
async fn no_call_costs_more_than_was_reserved_for_it_whatever_its_maker_tells() {
    let usage = |tokens: u64| {
        json!({"prompt_tokens": tokens, "completion_tokens": tokens,
            "prompt_tokens_details": {"cached_tokens": 7}})
    };
    for tokens in [1_000_000_000, u64::MAX] {
        let api = Api::new(move |_| with(&usage(tokens))).await;
        let settings = [
            ("MODEL_A_PRICE", "in 1000, out 1000, version 1"),
            ("BUDGET_DAY", "100"),
        ];
        let stage = stage_with_redis(&api, &["a"], &settings).await;
        let (_, result) = result(stage.handle(&small()).await);
        let read = api.seen()[0].body.len() as u64 + 512;
        assert_eq!(
            result["usage"],
            json!({"input": read - 7, "cached": 7, "output": WRITTEN})
        );
        let most = (read + WRITTEN) * 1_000_000;
        assert_eq!(
            (&result["cost"]["nano_usd"], &result["cost"]["estimated"]),
            (&json!(most), &json!(true))
        );
        let mut redis = shared::connect::redis(&stage.redis.as_ref().unwrap().url()).unwrap();
        let spent: u64 = redis::cmd("HGET")
            .arg("weir:{agent:spend}:day")
            .arg("spent")
            .query_async(&mut redis)
            .await
            .unwrap();
        assert_eq!(spent, most);
        let counted = stage.metrics();
        assert!(
            counted.contains("weir_worker_agent_usage_doubted_total{service=\"agent\",model=\"a\"} 1\n"),
            "{counted}"
        );
    }
}

#[tokio::test]
async fn an_answer_whose_figures_cannot_be_read_is_an_answer() {
    for bad in [
        json!(10.0),
        json!("10"),
        json!(-10),
        json!(null),
        json!(1e40),
        json!([]),
    ] {
        let usage = json!({"prompt_tokens": bad, "completion_tokens": bad, "total_tokens": bad});
        let api = Api::new(move |_| with(&usage)).await;
        let stage = stage(&api, &["a"], &[]);
        let (_, told) = result(stage.handle(&small()).await);
        let read = api.seen()[0].body.len() + 512;
        assert_eq!(
            (&told["text"], &told["cost"]["estimated"], &told["usage"]["input"]),
            (&json!("x"), &json!(true), &json!(read)),
            "{bad}"
        );
        assert_eq!(told["usage"]["output"], 1, "a token for each byte: {bad}");
    }
}

#[tokio::test]
async fn a_models_name_for_itself_is_bounded() {
    let api = Api::new(|_| {
        let choice = json!({"message": {"content": "x"}, "finish_reason": "stop"});
        told(
            200,
            &json!({"model": format!("m{}", "ä".repeat(1 << 20)), "choices": [choice]}),
        )
    })
    .await;
    let (_, told) = result(stage(&api, &["a"], &[]).handle(&small()).await);
    assert_eq!(told["exact_model"], format!("m{}", "ä".repeat(63)));
}
