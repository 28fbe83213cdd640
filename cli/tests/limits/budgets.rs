//! Budgets of a day: what waits for one is told so.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use serde_json::json;
use shared::config::fleet::Streams;
use shared::event::{Data, Event, EventId, Tenant};
use shared::subject::{Service, headers};
use shared::{topology, wire};

use super::stage::Stage;

/// A worker has begun, and has put off what it may not pay for.
const PUT_OFF_WITHIN: Duration = Duration::from_secs(60);

fn worker(stage: &Stage) -> tokio::process::Child {
    let program = Path::new(env!("CARGO_BIN_EXE_weir")).with_file_name("weir-worker");
    assert!(program.exists(), "run `cargo build --workspace` first");
    stage
        .command(&program)
        .env("WEIR_POSTGRES_URL", "none")
        .env("WEIR_SERVICES", "agent")
        .env("WEIR_SERVICE_AGENT_MODELS", "local")
        .env("WEIR_SERVICE_AGENT_MODEL_LOCAL", "compatible:y")
        .env("WEIR_SERVICE_AGENT_MODEL_LOCAL_URL", "http://127.0.0.1:10/v1")
        .env("WEIR_SERVICE_AGENT_MODEL_LOCAL_PRICE", "in 1, out 1, version 1")
        .env("WEIR_SERVICE_AGENT_BUDGET_TENANT", "0.001")
        .env("WEIR_SERVICE_AGENT_BUDGET_DAY", "2")
        .env("WEIR_WORKER_LISTEN", "127.0.0.1:0")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

async fn ask(stage: &Stage, id: &str, tenant: &str, most: u64) {
    let event = Event {
        tenant: Some(Tenant::new(tenant).unwrap()),
        data: Data::json(json!({"prompt": "Why?", "max_tokens": most}).to_string()),
        ..Event::new(EventId::new(id).unwrap(), "ask")
    };
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, id);
    let subject = format!("events.agent.normal.{tenant}");
    let published = stage.js.publish_with_headers(subject, map, wire::encode(&event));
    published.await.unwrap().await.unwrap();
}

/// Nano-dollars are spent today, of the budget of this key.
async fn spent(stage: &Stage, key: &str, nano: u64) {
    let mut redis = shared::connect::redis(&stage.redis.url()).unwrap();
    let time: (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
    let () = redis::cmd("HSET")
        .arg(format!("weir:{{agent:spend}}:{key}"))
        .arg(&["day", &(time.0 / 86_400).to_string(), "spent", &nano.to_string()])
        .query_async(&mut redis)
        .await
        .unwrap();
}

/// What is said of an event once it is put off.
async fn put_off(stage: &Stage, id: &str) -> String {
    let end = Instant::now() + PUT_OFF_WITHIN;
    loop {
        let said = stage.run(&["explain", id]).await;
        if said.stdout.contains(": retry") {
            return said.stdout;
        }
        assert!(Instant::now() < end, "{}{}", said.stdout, said.stderr);
    }
}

#[tokio::test]
async fn what_waits_for_a_budget_is_told_which_and_until_when() {
    let stage = Stage::new().await;
    let _worker = worker(&stage);
    let agent = Service::new("agent").unwrap();
    topology::ensure(&stage.js, &[agent], &Streams::default())
        .await
        .unwrap();
    spent(&stage, "tenant:acme", 900_000).await;
    ask(&stage, "e-1", "acme", 9).await;
    let said = put_off(&stage, "e-1").await;
    for part in [
        "It waits for a budget of agent: its next call could have spent more than is left of the day.",
        "The day's budget of the tenant acme is in the way (WEIR_SERVICE_AGENT_BUDGET_TENANT): 0.0009 of 0.001 dollars are \
         spent or reserved, and a call that could cost up to 0.000",
        "Of the day's budget of agent (WEIR_SERVICE_AGENT_BUDGET_DAY) 0 of 2 dollars are spent or reserved; the day ends at ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("turn at a limit"), "{said}");
    let found = stage.json(&["explain", "e-1", "--json"]).await;
    let put = &found["scheduled"][0];
    assert_eq!(
        (&put["for_a_limit"], &put["for_a_budget"]),
        (&json!(false), &json!(true))
    );

    // The service's own, which is looked at first.
    spent(&stage, "day", 1_999_999_999).await;
    ask(&stage, "e-2", "other", 9).await;
    let why = "The day's budget of agent is in the way (WEIR_SERVICE_AGENT_BUDGET_DAY): 1.999999999 of 2 dollars are spent";
    let said = put_off(&stage, "e-2").await;
    assert!(said.contains(why), "{said}");
    let said = stage.weir(&["explain", "agent"]).await;
    for part in [
        why,
        "Model local (compatible:y at http://127.0.0.1:10/v1): no limit is in its way, but the budget of the day is.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("set the pace"), "{said}");
    let found = stage.json(&["explain", "agent", "--json"]).await;
    assert_eq!(found["budgets"][0]["in_the_way"], true);
}
