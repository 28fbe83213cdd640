//! The binary as it ships.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

fn worker(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-worker"));
    command.env_clear().args(arguments).envs(settings.iter().copied());
    command.output().unwrap()
}

#[test]
fn a_wrong_configuration_tells_all_its_errors_and_exits_64() {
    let wrong = worker(
        &[],
        &[
            ("WEIR_NATS_URL", "http://x"),
            ("WEIR_SERVICE_GITHUB_LIMIT", "5000 per fortnight"),
            ("WEIR_SERVICE_SLACK_TIMEOUT", "0s"),
            ("WEIR_WORKER_NAEM", "x"),
            ("WEIR_STREAM_REPLICAS", "2"),
        ],
    );
    assert_eq!(wrong.status.code(), Some(64));
    let said = String::from_utf8(wrong.stderr).unwrap();
    for setting in [
        "WEIR_NATS_URL",
        "WEIR_SERVICE_GITHUB_LIMIT",
        "WEIR_SERVICE_SLACK_TIMEOUT",
        "WEIR_WORKER_NAEM is unknown: did you mean WEIR_WORKER_NAME?",
        "WEIR_STREAM_REPLICAS",
        "WEIR_POSTGRES_URL",
        "6 settings are wrong",
    ] {
        assert!(said.contains(setting), "{setting} in:\n{said}");
    }
}

#[test]
fn the_settings_in_effect_are_shown_without_secrets() {
    let settings = [
        ("WEIR_POSTGRES_URL", "postgres://weir:hunter2@h/db"),
        ("WEIR_SERVICE_GITHUB_TOKEN", "hunter2"),
    ];
    let shown = worker(&["--print-config"], &settings);
    assert_eq!(
        shown.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        text.contains("WEIR_SERVICE_GITHUB_LIMIT=5000 per hour, burst 100"),
        "{text}"
    );
    assert!(text.contains("WEIR_SERVICE_GITHUB_TOKEN=(set)"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_worker_of_some_services_takes_the_settings_of_the_others_as_they_are() {
    let settings = [
        ("WEIR_POSTGRES_URL", "none"),
        ("WEIR_SERVICES", "github,slack,http"),
        ("WEIR_WORKER_SERVICES", "github"),
        ("WEIR_SERVICE_SLACK_TOKEN", "x"),
    ];
    assert_eq!(worker(&["--print-config"], &settings).status.code(), Some(0));
}

#[test]
fn a_service_that_delivers_unsigned_is_told_of_at_start() {
    let settings = [
        ("WEIR_NATS_URL", "nats://127.0.0.1:1"),
        ("WEIR_REDIS_URL", "redis://127.0.0.1:1"),
        ("WEIR_POSTGRES_URL", "none"),
        ("WEIR_WORKER_LISTEN", "127.0.0.1:0"),
        ("WEIR_SERVICES", "billing,http"),
        ("WEIR_SERVICE_BILLING_HANDLER", "http"),
        ("WEIR_SERVICE_BILLING_URL", "http://127.0.0.1:1/"),
        (
            "WEIR_SERVICE_BILLING_SECRET",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ),
        ("WEIR_SERVICE_HTTP_URL", "http://127.0.0.1:1/"),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-worker"));
    let command = command.env_clear().envs(settings).stderr(Stdio::piped());
    let mut worker = command.spawn().unwrap();
    let lines = BufReader::new(worker.stderr.take().unwrap()).lines();
    let said: Vec<String> = lines
        .map(Result::unwrap)
        .filter(|line| line.contains("_SECRET"))
        .take(1)
        .collect();
    worker.kill().unwrap();
    worker.wait().unwrap();
    // Billing's handler is made first.
    assert!(
        said[0].contains("WEIR_SERVICE_HTTP_SECRET is missing"),
        "{said:?}"
    );
}
