#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;

use shared::config::Problems;

use crate::config::{Config, OWN};

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<String, Problems> {
    let base = [("WEIR_POSTGRES_URL", "none"), ("WEIR_SERVICES", "agent")];
    let env: BTreeMap<String, String> = base
        .iter()
        .chain(pairs)
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    let mut reader = Reader::new(&env);
    let config = Config::read(&mut reader);
    reader.finish(&OWN, config).map(|(_, shown)| shown.to_string())
}

#[test]
fn a_model_needs_a_name_a_maker_and_an_id() {
    let shown = read(&[
        ("WEIR_SERVICE_AGENT_MODELS", "fast, big-one"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST", "openai:gpt-5-mini"),
        (
            "WEIR_SERVICE_AGENT_MODEL_FAST_PRICE",
            "in 0.25, out 2, version 2026-11",
        ),
        ("WEIR_SERVICE_AGENT_MODEL_BIG_ONE", "anthropic:claude-x"),
        ("WEIR_SERVICE_AGENT_MODEL_BIG_ONE_TOKEN", "hunter2"),
        ("WEIR_SERVICE_AGENT_MODEL_BIG_ONE_LIMIT", "50 per minute, burst 1"),
    ])
    .unwrap();
    for line in [
        "WEIR_SERVICE_AGENT_CONCURRENCY=25",
        "WEIR_SERVICE_AGENT_TIMEOUT=1m",
        "WEIR_SERVICE_AGENT_MODEL_FAST_LIMIT=60 per minute, burst 1",
        "WEIR_SERVICE_AGENT_MODEL_BIG_ONE_LIMIT=50 per minute, burst 1",
        "WEIR_SERVICE_AGENT_MODEL_BIG_ONE_TOKEN=(set)",
        "WEIR_SERVICE_AGENT_CACHE_TTL=6h",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
}

#[test]
fn every_wrong_setting_is_named_at_once() {
    let Problems(lines) = read(&[
        ("WEIR_SERVICE_AGENT_MODELS", "fast,twin,lone,Bad,dear"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST", "openai:gpt-5-mini"),
        (
            "WEIR_SERVICE_AGENT_MODEL_FAST_URL",
            "https://me:hunter2@a.example",
        ),
        ("WEIR_SERVICE_AGENT_MODEL_TWIN", "openai:gpt-5-mini"),
        ("WEIR_SERVICE_AGENT_MODEL_TWIN_PRICE", "cheap"),
        ("WEIR_SERVICE_AGENT_MODEL_DEAR", "google:x"),
        ("WEIR_SERVICE_AGENT_MODEL_DEAR_LIMIT", "lots"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST_LIMITS", "tokens: often"),
        ("WEIR_SERVICE_AGENT_BUDGET_DAY", "10 dollars"),
        ("WEIR_SERVICE_AGENT_BUDGET_EVENT", "0.01"),
        ("WEIR_SERVICE_AGENT_BUDGET_OVER", "hope"),
        ("WEIR_SERVICE_AGENT_CACHE_TTL", "400d"),
        ("WEIR_SERVICE_AGENT_PARALLEL", "0"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST_PRIZE", "in 1, out 1, version 1"),
    ])
    .unwrap_err();
    for (setting, says) in [
        ("WEIR_SERVICE_AGENT_MODELS", "\"Bad\", which is no name"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST_URL", "plain base"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST_PRICE", "a budget needs it"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST_LIMITS", "tokens"),
        ("WEIR_SERVICE_AGENT_MODEL_TWIN ", "is fast once more"),
        ("WEIR_SERVICE_AGENT_MODEL_TWIN_PRICE", "no part of a price"),
        ("WEIR_SERVICE_AGENT_MODEL_LONE ", "is missing"),
        (
            "WEIR_SERVICE_AGENT_MODEL_DEAR ",
            "must be one of openai, compatible",
        ),
        ("WEIR_SERVICE_AGENT_MODEL_DEAR_LIMIT", "lots"),
        ("WEIR_SERVICE_AGENT_BUDGET_DAY", "no sum of dollars"),
        ("WEIR_SERVICE_AGENT_BUDGET_OVER", "wait or refuse"),
        ("WEIR_SERVICE_AGENT_CACHE_TTL", "not within"),
        ("WEIR_SERVICE_AGENT_PARALLEL", "not within"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST_PRIZE", "did you mean"),
    ] {
        assert!(
            lines.iter().any(|l| l.starts_with(setting) && l.contains(says)),
            "{setting}: {lines:#?}"
        );
    }
    assert!(!lines.concat().contains("hunter2"), "a secret is never shown");
    let Problems(lines) = read(&[]).unwrap_err();
    assert!(
        lines[0].contains("WEIR_SERVICE_AGENT_MODELS is missing"),
        "{lines:?}"
    );
}

#[test]
fn a_services_token_goes_to_the_host_of_its_url_alone() {
    let own = [
        ("WEIR_SERVICE_AGENT_MODELS", "fast,same,big,local"),
        ("WEIR_SERVICE_AGENT_TOKEN", "hunter2"),
        ("WEIR_SERVICE_AGENT_MODEL_FAST", "openai:gpt-x"),
        ("WEIR_SERVICE_AGENT_MODEL_SAME", "compatible:gpt-y"),
        ("WEIR_SERVICE_AGENT_MODEL_SAME_URL", "https://api.openai.com/v2"),
        ("WEIR_SERVICE_AGENT_MODEL_BIG", "anthropic:claude-x"),
        ("WEIR_SERVICE_AGENT_MODEL_LOCAL", "compatible:y"),
        ("WEIR_SERVICE_AGENT_MODEL_LOCAL_URL", "http://127.0.0.1:8000/v1"),
    ];
    let Problems(lines) = read(&own).unwrap_err();
    for (line, model, host) in [
        (&lines[0], "BIG", "api.anthropic.com"),
        (&lines[1], "LOCAL", "127.0.0.1:8000"),
    ] {
        let setting = format!("WEIR_SERVICE_AGENT_MODEL_{model}_TOKEN is missing");
        assert!(line.starts_with(&setting) && line.contains(host), "{line}");
        assert!(
            line.contains("WEIR_SERVICE_AGENT_TOKEN is for https://api.openai.com/v1"),
            "{line}"
        );
    }
    assert!(
        lines.len() == 2 && !lines.concat().contains("hunter2"),
        "{lines:?}"
    );
    let more = [
        ("WEIR_SERVICE_AGENT_MODEL_BIG_TOKEN", "hunter3"),
        ("WEIR_SERVICE_AGENT_MODEL_LOCAL_TOKEN", "none"),
    ];
    read(&[&own[..], &more].concat()).unwrap();
    // One gateway for all of them has one credential.
    let gateway = [
        ("WEIR_SERVICE_AGENT_URL", "https://gateway.example/openai"),
        (
            "WEIR_SERVICE_AGENT_MODEL_BIG_URL",
            "https://GATEWAY.example:443/anthropic",
        ),
        ("WEIR_SERVICE_AGENT_MODEL_SAME_TOKEN", "hunter3"),
    ];
    read(&[&own[..], &more[1..], &gateway].concat()).unwrap();
}
