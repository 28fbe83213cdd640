//! The models of a service, which have limits of their own.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::stage::Stage;

/// A worker makes its stream and says what is in force.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

fn worker(stage: &Stage) -> tokio::process::Child {
    let program = Path::new(env!("CARGO_BIN_EXE_weir")).with_file_name("weir-worker");
    assert!(program.exists(), "run `cargo build --workspace` first");
    stage
        .command(&program)
        .env("WEIR_POSTGRES_URL", "none")
        .env("WEIR_SERVICES", "agent")
        .env("WEIR_SERVICE_AGENT_MODELS", "fast,local")
        .env("WEIR_SERVICE_AGENT_MODEL_FAST", "openai:gpt-x")
        .env("WEIR_SERVICE_AGENT_MODEL_FAST_URL", "http://127.0.0.1:9/v1")
        .env("WEIR_SERVICE_AGENT_MODEL_FAST_TOKEN", "test")
        .env("WEIR_SERVICE_AGENT_MODEL_FAST_LIMIT", "60 per minute, burst 3")
        .env(
            "WEIR_SERVICE_AGENT_MODEL_FAST_LIMITS",
            "tokens: 6000 per minute, burst 2000",
        )
        .env("WEIR_SERVICE_AGENT_MODEL_LOCAL", "compatible:y")
        .env("WEIR_SERVICE_AGENT_MODEL_LOCAL_URL", "http://127.0.0.1:10/v1")
        .env("WEIR_SERVICE_AGENT_MODEL_LOCAL_LIMIT", "none")
        .env("WEIR_SERVICE_AGENT_MODEL_LOCAL_LIMITS", "none")
        .env("WEIR_LIMITS_START", "full")
        .env("WEIR_WORKER_LISTEN", "127.0.0.1:0")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn limits_of_models_are_told_beside_those_of_the_service() {
    let stage = Stage::new().await;
    let _worker = worker(&stage);
    let end = Instant::now() + STARTS_WITHIN;
    let list = loop {
        let said = stage.run(&["limits", "list", "agent"]).await;
        if said.code == Some(0) {
            break said.stdout;
        }
        assert!(Instant::now() < end, "{}", said.stderr);
    };
    let line = |name: &str| {
        let found = list.lines().find(|line| line.contains(name));
        found.unwrap_or_else(|| panic!("{name}: {list}"))
    };
    assert!(line("fast/requests").contains("60 per minute, burst 3"), "{list}");
    assert!(
        line("fast/requests").contains("openai:gpt-x at http://127.0.0.1:9/v1"),
        "{list}"
    );
    assert!(
        line("fast/tokens").contains("6000 per minute, burst 2000"),
        "{list}"
    );
    assert!(
        line("local/").contains("compatible:y at http://127.0.0.1:10/v1"),
        "{list}"
    );

    let all = stage.json(&["limits", "list", "agent", "--json"]).await;
    let fast = &all["services"][0]["models"][0];
    assert_eq!(
        (&fast["name"], &fast["model"], &fast["limits"][1]["free"]),
        (&json!("fast"), &json!("openai:gpt-x"), &json!(2_000))
    );

    let said = stage.weir(&["limits", "show", "agent", "fast/tokens"]).await;
    for part in [
        "agent fast/tokens",
        "2000 tokens could start at once",
        "tokens a second",
        "every call of the model fast (openai:gpt-x at http://127.0.0.1:9/v1)",
        "key       weir:{agent.fast:",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = stage
        .json(&["limits", "show", "agent", "fast/tokens", "--json"])
        .await;
    assert_eq!(
        (&said["model"], &said["name"]),
        (&json!("fast"), &json!("tokens"))
    );

    let asked = "write `weir limits show agent fast/requests`";
    stage.fails(&["limits", "show", "agent"], 64, asked).await;
    let known = "agent has no such limit; it has fast/requests, fast/tokens";
    stage
        .fails(&["limits", "show", "agent", "requests"], 64, known)
        .await;
    let set = ["limits", "set", "agent", "fast/tokens", "none"];
    stage.fails(&set, 64, "WEIR_SERVICE_<NAME>_MODEL_<M>_LIMIT").await;

    let said = stage.weir(&["explain", "agent"]).await;
    let fast = "Model fast (openai:gpt-x at http://127.0.0.1:9/v1): no limit is in its way.";
    assert!(
        said.contains(fast) && said.contains("Model local (compatible:y at "),
        "{said}"
    );
    assert!(said.contains("fast/tokens"), "{said}");
}
