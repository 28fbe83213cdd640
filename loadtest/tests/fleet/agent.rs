//! Models: what is paid for is what was needed, whoever dies, and no maker ever refuses a call for a limit.

use std::time::Duration;

use loadtest::provider::faults::Faults;
use loadtest::provider::ledger::Api;
use loadtest::provider::{Answer, ProviderConfig, Window};
use serde_json::{Value, json};
use shared::event::{Data, Event, EventId};

use super::world::{World, until};

/// A worker that hits its failpoint ends within this.
const DIES_WITHIN: Duration = Duration::from_secs(30);

/// A fleet with a model of each maker, in this order, whose limits are the simulated makers' own.
async fn world(limits: ProviderConfig, settings: &[(&str, &str)]) -> World {
    // Where the provider is, is known only when it runs; the settings are changed before any service starts.
    let own = [
        ("WEIR_SERVICES", "agent"),
        ("WEIR_SOURCES", ""),
        ("WEIR_SERVICE_AGENT_MODELS", "gpt,claude,grok"),
        ("WEIR_SERVICE_AGENT_MODEL_GPT", "openai:gpt-x"),
        ("WEIR_SERVICE_AGENT_MODEL_GPT_TOKEN", "test-openai"),
        ("WEIR_SERVICE_AGENT_MODEL_GPT_LIMIT", "500 per minute, burst 20"),
        (
            "WEIR_SERVICE_AGENT_MODEL_GPT_LIMITS",
            "tokens: 200000 per minute, burst 20000",
        ),
        (
            "WEIR_SERVICE_AGENT_MODEL_GPT_PRICE",
            "in 1, out 10, version 2026-11",
        ),
        ("WEIR_SERVICE_AGENT_MODEL_CLAUDE", "anthropic:claude-x"),
        ("WEIR_SERVICE_AGENT_MODEL_CLAUDE_TOKEN", "test-anthropic"),
        (
            "WEIR_SERVICE_AGENT_MODEL_CLAUDE_LIMIT",
            "500 per minute, burst 20",
        ),
        ("WEIR_SERVICE_AGENT_MODEL_CLAUDE_LIMITS", "none"),
        (
            "WEIR_SERVICE_AGENT_MODEL_CLAUDE_PRICE",
            "in 3, out 15, version 2026-11",
        ),
        ("WEIR_SERVICE_AGENT_MODEL_GROK", "xai:grok-x"),
        ("WEIR_SERVICE_AGENT_MODEL_GROK_TOKEN", "test-xai"),
        ("WEIR_SERVICE_AGENT_MODEL_GROK_LIMIT", "500 per minute, burst 20"),
        (
            "WEIR_SERVICE_AGENT_MODEL_GROK_LIMITS",
            "tokens: 200000 per minute, burst 20000",
        ),
        (
            "WEIR_SERVICE_AGENT_MODEL_GROK_PRICE",
            "in 2, out 10, version 2026-11",
        ),
        ("WEIR_SERVICE_AGENT_RETRIES", "1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s"),
        ("WEIR_SERVICE_AGENT_BREAKER", "off"),
    ];
    let mut world = World::new(limits, &own).await;
    for unknown in ["GITHUB", "SLACK", "HTTP"] {
        let prefix = format!("WEIR_SERVICE_{unknown}_");
        world.fleet.settings.retain(|name, _| !name.starts_with(&prefix));
    }
    world
        .fleet
        .settings
        .retain(|name, _| !name.starts_with("WEIR_SOURCE"));
    for (model, maker) in [("GPT", "openai"), ("CLAUDE", "anthropic"), ("GROK", "xai")] {
        let url = format!("{}/{maker}/v1", world.provider.url());
        world
            .fleet
            .settings
            .insert(format!("WEIR_SERVICE_AGENT_MODEL_{model}_URL"), url);
    }
    let given = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    world.fleet.settings.extend(given);
    world
}

fn asks(count: usize, data: impl Fn(usize) -> Value) -> Vec<Event> {
    let event = |n| Event {
        data: Data::json(data(n).to_string()),
        ..Event::new(EventId::generate(), "ask")
    };
    (0..count).map(event).collect()
}

/// Code and result of the only event, when it is done.
async fn outcome(world: &World) -> (String, Value) {
    until("an outcome", async || {
        let row: Option<(String, String, Option<String>)> =
            sqlx::query_as("SELECT state, code, result::text FROM results")
                .fetch_optional(&world.database)
                .await
                .ok()?;
        let (state, code, result) = row?;
        assert_eq!(state, "done", "{code}");
        Some((code, serde_json::from_str(&result.unwrap()).unwrap()))
    })
    .await
}

/// Calls that were answered, by maker; none of them for the same step of an event twice, none over a limit.
fn paid(world: &World) -> [u64; 3] {
    world.no_breach();
    let stats = world.provider.stats();
    assert_eq!(stats.doubled.count, 0, "{:?}", stats.doubled);
    [Api::Openai, Api::Anthropic, Api::Xai].map(|api| stats.api.get(&api).map_or(0, |counts| counts.accepted))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_makers_answer_at_once_and_one_joins_them() {
    let mut world = world(ProviderConfig::default(), &[]).await;
    let data = |_| json!({"prompt": "Why?", "mode": "all", "join": {"model": "claude"}, "stream": true});
    world.publish("agent", asks(1, data)).await;
    let worker = world.fleet.start("worker").await.unwrap();
    let (code, result) = outcome(&world).await;
    assert_eq!(
        (&*code, &result["calls"], &result["model"]),
        ("answered", &json!(4), &json!("claude"))
    );
    let texts: Vec<_> = result["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["text"].as_str().unwrap())
        .collect();
    assert!(
        texts[0].starts_with("gpt-x says")
            && texts[1].starts_with("claude-x")
            && texts[2].starts_with("grok-x")
    );
    assert_eq!(paid(&world), [1, 2, 1]);
    let used = world.provider.stats().tokens;
    let all = |of: fn(&loadtest::provider::llm::Used) -> u64| used.values().map(of).sum::<u64>();
    assert_eq!(result["usage"]["input"], json!(all(|used| used.input)));
    assert_eq!(result["usage"]["output"], json!(all(|used| used.output)));
    let (gpt, claude, grok) = (used[&Api::Openai], used[&Api::Anthropic], used[&Api::Xai]);
    let cost = gpt.input * 1_000
        + gpt.output * 10_000
        + claude.input * 3_000
        + claude.output * 15_000
        + grok.input * 2_000
        + grok.output * 10_000;
    assert_eq!(result["cost"]["nano_usd"], json!(cost), "to the nano-dollar");
    let metrics = world
        .http
        .get(format!("{}/metrics", worker.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let line = format!(
        "weir_worker_agent_cost_nanodollars_total{{service=\"agent\",model=\"gpt\"}} {}",
        gpt.input * 1_000 + gpt.output * 10_000
    );
    assert!(metrics.contains(&line), "{line}\n{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_kept_is_not_paid_for_again() {
    let mut world = world(ProviderConfig::default(), &[]).await;
    world
        .publish("agent", asks(1, |_| json!({"prompt": "Why?"})))
        .await;
    killed_at(&mut world, "agent.kept").await;
    let _worker = world.fleet.start("worker").await.unwrap();
    let (code, result) = outcome(&world).await;
    assert_eq!((&*code, &result["reused_answers"]), ("reused", &json!(1)));
    assert!(
        result["cost"]["nano_usd"].as_u64().unwrap() > 0,
        "what the dead worker paid is told"
    );
    assert_eq!(paid(&world), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_the_midst_of_rounds_costs_no_round() {
    let mut world = world(ProviderConfig::default(), &[]).await;
    let data = |_| json!({"prompt": "Why?", "mode": "refine", "rounds": 2, "models": ["gpt", "claude"]});
    world.publish("agent", asks(1, data)).await;
    killed_at(&mut world, "agent.kept:2").await;
    killed_at(&mut world, "agent.kept:2").await;
    let _worker = world.fleet.start("worker").await.unwrap();
    let (_, result) = outcome(&world).await;
    assert_eq!(
        (&result["rounds"], &result["calls"], &result["reused_answers"]),
        (&json!(2), &json!(1), &json!(4))
    );
    assert_eq!(paid(&world), [3, 2, 0]);
}

/// The window that remains: the answer is here and not kept yet.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_died_before_it_was_kept_is_asked_for_once_more() {
    let mut world = world(ProviderConfig::default(), &[]).await;
    world
        .publish("agent", asks(1, |_| json!({"prompt": "Why?"})))
        .await;
    killed_at(&mut world, "agent.paid").await;
    let _worker = world.fleet.start("worker").await.unwrap();
    let (code, result) = outcome(&world).await;
    assert_eq!((&*code, &result["calls"]), ("answered", &json!(1)));
    assert_eq!(world.provider.stats().api[&Api::Openai].accepted, 2);
}

/// Calls whose answers broke off cost what they may have cost, whichever attempt made them.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_does_not_forget_what_its_failed_attempts_have_spent() {
    let settings = [("WEIR_SERVICE_AGENT_BUDGET_EVENT", "0.004")];
    let mut world = world(ProviderConfig::default(), &settings).await;
    let faults = Faults {
        closes: 1.0,
        ..Faults::default()
    };
    world.provider.set_faults(faults).unwrap();
    // A thousandth of a dollar for what may be written, and six tenths of one for what is read.
    let data = |_| json!({"prompt": "Why?", "model": "gpt", "max_tokens": 100});
    world.publish("agent", asks(1, data)).await;
    let _worker = world.fleet.start("worker").await.unwrap();
    assert_eq!(died(&world).await, "over_budget");
    assert_eq!(world.provider.stats().api[&Api::Openai].accepted, 2);
}

/// What its worker died with, nobody knows: it counts as spent.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_worker_died_in_is_spent() {
    let settings = [("WEIR_SERVICE_AGENT_BUDGET_EVENT", "0.002")];
    let mut world = world(ProviderConfig::default(), &settings).await;
    let data = |_| json!({"prompt": "Why?", "model": "gpt", "max_tokens": 100});
    world.publish("agent", asks(1, data)).await;
    killed_at(&mut world, "agent.paid").await;
    let _worker = world.fleet.start("worker").await.unwrap();
    assert_eq!(died(&world).await, "over_budget");
    assert_eq!(paid(&world), [1, 0, 0]);
}

/// Whoever pays at most once says so.
#[tokio::test(flavor = "multi_thread")]
async fn or_becomes_a_dead_letter_where_that_is_wished() {
    let settings = [
        ("WEIR_SERVICE_AGENT_UNKNOWN", "dead"),
        // Nobody can know that the call is over before it must be.
        ("WEIR_SERVICE_AGENT_TIMEOUT", "1s"),
    ];
    let mut world = world(ProviderConfig::default(), &settings).await;
    world
        .publish("agent", asks(1, |_| json!({"prompt": "Why?"})))
        .await;
    killed_at(&mut world, "agent.paid").await;
    let _worker = world.fleet.start("worker").await.unwrap();
    until("a dead letter", async || {
        (world.left("WEIR_DEAD").await == 1).then_some(())
    })
    .await;
    assert_eq!(paid(&world), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn makers_that_fail_now_and_then_are_paid_for_answers_only() {
    const EVENTS: usize = 40;
    let mut world = world(ProviderConfig::default(), &[]).await;
    let faults = Faults {
        errors: 0.3,
        latency_p50_ms: 20.0,
        ..Faults::default()
    };
    world.provider.set_faults(faults).unwrap();
    world
        .publish("agent", asks(EVENTS, |n| json!({"prompt": format!("Why {n}?")})))
        .await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.done(EVENTS as i64).await;
    let paid = paid(&world);
    assert_eq!(paid.iter().sum::<u64>(), EVENTS as u64, "{paid:?}");
    assert!(paid[1] > 0, "the next model was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_model_is_called_over_its_limits_by_several_workers() {
    const EVENTS: usize = 60;
    let mut limits = ProviderConfig::default();
    limits.llm.openai.requests = Window::new(10, Duration::from_secs(1));
    limits.llm.openai.tokens = Window::new(600, Duration::from_secs(1));
    let settings = [
        ("WEIR_SERVICE_AGENT_MODELS", "gpt"),
        ("WEIR_SERVICE_AGENT_MODEL_GPT_LIMIT", "10 per second, burst 1"),
        (
            "WEIR_SERVICE_AGENT_MODEL_GPT_LIMITS",
            "tokens: 600 per second, burst 200",
        ),
    ];
    let mut world = world(limits, &settings).await;
    for model in ["CLAUDE", "GROK"] {
        let prefix = format!("WEIR_SERVICE_AGENT_MODEL_{model}");
        world.fleet.settings.retain(|name, _| !name.starts_with(&prefix));
    }
    world
        .publish(
            "agent",
            asks(
                EVENTS,
                |n| json!({"prompt": format!("Why {n}?"), "max_tokens": 40}),
            ),
        )
        .await;
    let _workers = world.fleet.start_many("worker", 3, &[]).await.unwrap();
    world.done(EVENTS as i64).await;
    assert_eq!(paid(&world), [EVENTS as u64, 0, 0]);
    let calls = world.provider.calls(None, usize::MAX);
    let (first, last) = (calls[0].at_ms, calls[calls.len() - 1].at_ms);
    println!("{EVENTS} calls in {:.1} s at 10 a second", (last - first) / 1e3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_of_many_events_is_one_call_of_the_fleet() {
    const EVENTS: usize = 50;
    let mut world = world(ProviderConfig::default(), &[]).await;
    world
        .provider
        .set_faults(Faults {
            latency_p50_ms: 200.0,
            ..Faults::default()
        })
        .unwrap();
    world
        .publish(
            "agent",
            asks(EVENTS, |_| json!({"prompt": "Why?", "temperature": 0})),
        )
        .await;
    let _workers = world.fleet.start_many("worker", 2, &[]).await.unwrap();
    world.done(EVENTS as i64).await;
    assert_eq!(paid(&world), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_maker_refuses_for_what_it_is_goes_to_no_other() {
    let mut world = world(ProviderConfig::default(), &[]).await;
    world
        .publish("agent", asks(1, |_| json!({"prompt": "[[refuse]]"})))
        .await;
    let _worker = world.fleet.start("worker").await.unwrap();
    assert_eq!(died(&world).await, "content_policy");
    let calls = world.provider.calls(None, usize::MAX);
    assert_eq!((calls.len(), calls[0].answer), (1, Answer::Rejected));
}

/// Why the only event is a dead letter.
async fn died(world: &World) -> String {
    until("a dead letter", async || {
        (world.left("WEIR_DEAD").await == 1).then_some(())
    })
    .await;
    sqlx::query_scalar("SELECT code FROM results")
        .fetch_one(&world.database)
        .await
        .unwrap()
}

/// A worker that dies at this failpoint.
async fn killed_at(world: &mut World, failpoint: &str) {
    let settings = [("WEIR_FAILPOINT", failpoint)];
    let mut worker = world.fleet.launch("worker", &settings).unwrap();
    assert_eq!(
        worker.ended(DIES_WITHIN).await.unwrap(),
        None,
        "it ends by a signal"
    );
}
