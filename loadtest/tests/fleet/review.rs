//! The flow that ships: a pull request is analysed, a model is asked about it, its answer becomes a comment, and the
//! channel hears of it. One trace, each step once, however often the webhook comes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use loadtest::provider::ledger::Api;
use loadtest::provider::{Call, ProviderConfig};
use loadtest::traces::TraceReceiver;
use serde_json::{Value, json};

use super::world::{World, until};

const RULES: &str = include_str!("../../../examples/rules/review.toml");
const OPENED: &str = include_str!("../../../examples/payloads/review/pull_request.opened.json");

/// A repository with one commit, which is told.
fn repository(folder: &Path) -> String {
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let code = "pub fn hello(to: &str) -> String {\n    if to.is_empty() { \"hello\".into() } else { format!(\"hello, {to}\") }\n}\n";
    std::fs::write(folder.join("src/lib.rs"), code).unwrap();
    let git = |arguments: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=Octo Cat", "-c", "user.email=octo@example.com"])
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "hello"]);
    git(&["rev-parse", "HEAD"])
}

/// A webhook of GitHub about a pull request whose code lies in `folder`.
fn opened(folder: &Path, commit: &str) -> Vec<u8> {
    let mut webhook: Value = serde_json::from_str(OPENED).unwrap();
    let head = &mut webhook["pull_request"]["head"];
    head["sha"] = commit.into();
    head["repo"]["clone_url"] = folder.to_str().unwrap().into();
    webhook.to_string().into_bytes()
}

/// What `weir explain` tells of what followed from an event: services and rules, the first one first.
async fn chain(world: &World, id: &str) -> Vec<(String, String)> {
    let weir = loadtest::fleet::binary("weir").unwrap();
    let said = tokio::process::Command::new(weir)
        .args(["explain", id, "--json"])
        .envs(&world.fleet.settings)
        .output()
        .await
        .unwrap();
    let told: Value = serde_json::from_slice(&said.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said.stderr)));
    assert_eq!(told["chain"]["trees"].as_array().unwrap().len(), 1, "{told:#}");
    let (mut chain, mut at) = (Vec::new(), &told["chain"]["trees"][0]);
    while at.is_object() {
        let text = |name: &str| at[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("state"), "done", "{told:#}");
        chain.push((text("service"), text("rule")));
        at = &at["follows"][0];
    }
    chain
}

fn made(world: &World, api: Api, method: &str) -> Vec<Call> {
    let mut calls = world.provider.calls(None, usize::MAX);
    calls.retain(|call| call.api == api && call.method == method);
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_is_analysed_reviewed_commented_on_and_told_of_in_one_trace() {
    let traces = TraceReceiver::start_local().await.unwrap();
    let endpoint = traces.http_url();
    let scratch = shared::servers::scratch_dir().unwrap();
    let (code, cache) = (scratch.path().join("code"), scratch.path().join("cache"));
    let commit = repository(&code);
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("WEIR_SERVICES", "github,analysis,agent,slack,http"),
        ("WEIR_RULES", RULES),
        ("WEIR_SERVICE_ANALYSIS_ROOTS", code.to_str().unwrap()),
        ("WEIR_SERVICE_ANALYSIS_CACHE", cache.to_str().unwrap()),
        ("WEIR_SERVICE_AGENT_MODELS", "gpt"),
        ("WEIR_SERVICE_AGENT_MODEL_GPT", "openai:gpt-x"),
        ("WEIR_SERVICE_AGENT_MODEL_GPT_TOKEN", "test-openai"),
    ];
    let mut world = World::new(ProviderConfig::default(), &settings).await;
    let url = format!("{}/openai/v1", world.provider.url());
    world
        .fleet
        .settings
        .insert("WEIR_SERVICE_AGENT_MODEL_GPT_URL".into(), url);
    let mut ingest = world.fleet.start("ingest").await.unwrap();
    let mut worker = world.fleet.start("worker").await.unwrap();
    let webhook = opened(&code, &commit);
    // The same commit is told of by several webhooks; one review is enough.
    for delivery in ["pr-1", "pr-1", "pr-2"] {
        let answer = world
            .webhook_of(&ingest, "pull_request", delivery, &webhook)
            .await;
        assert!(answer.status().is_success());
    }
    until("the message", async || {
        (!made(&world, Api::Slack, "POST").is_empty()).then_some(())
    })
    .await;
    for stream in ["github", "analysis", "agent", "slack"] {
        world.emptied(&format!("WEIR_{stream}")).await;
    }
    assert_eq!(world.left("WEIR_DEAD").await, 0);
    let comments = made(&world, Api::Github, "POST");
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert_eq!(
        comments[0].path,
        "/repos/Codertocat/Hello-World/issues/2/comments"
    );
    assert_eq!(made(&world, Api::Slack, "POST").len(), 1);
    let report: Value = sqlx::query_scalar("SELECT result::json FROM results WHERE service = 'analysis'")
        .fetch_one(&world.database)
        .await
        .unwrap();
    assert_eq!(
        (&report["commit"], &report["totals"]["functions"]),
        (&json!(commit), &json!(1))
    );

    let expected = [
        ("github", ""),
        ("analysis", "review-analyse"),
        ("agent", "review-ask"),
        ("github", "review-comment"),
        ("slack", "review-tell"),
    ];
    let expected = expected.map(|(service, rule)| (service.to_owned(), rule.to_owned()));
    let first = chain(&world, "github:pr-1").await;
    assert_eq!(first, expected);
    let trace = world.result("github:pr-1").await.trace_id;
    let other = world.result("github:pr-2").await.trace_id;
    assert_eq!(worker.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
    assert_eq!(ingest.stop(Duration::from_secs(20)).await.unwrap(), Some(0));
    let mut processed = BTreeSet::new();
    for trace in [trace, other] {
        let spans = traces.wait_for(&trace, 5, Duration::from_secs(20)).await.unwrap();
        let names = spans.iter().map(|span| span.name.clone());
        let names: BTreeSet<_> = names.filter(|name| name.starts_with("process ")).collect();
        if names.len() > 1 {
            println!("{}", traces.tree(&trace));
            processed.extend(names);
        }
    }
    // Whichever of the webhooks came first led to all of it, in its trace.
    let services = ["agent", "analysis", "github", "slack"];
    assert_eq!(
        processed,
        services.map(|service| format!("process events.{service}")).into()
    );
}
