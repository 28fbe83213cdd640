//! The program as a shell sees it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use shared::servers::{Nats, NatsOptions, scratch_dir};

use super::running::settings;

fn weir(pairs: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-ingest"));
    command
        .env_clear()
        .envs(pairs.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn wrong_settings_are_all_told_and_exit_with_64() {
    let output = weir(
        &[
            ("WEIR_INGEST_LISTEN", "everywhere"),
            ("WEIR_INGEST_MAX_BODY", "1TB"),
            ("WEIR_SOURCES", "acme"),
            ("WEIR_SOURCE_ACME_KIND", "hmac"),
            ("WEIR_TOKENS", "hunter2"),
            ("WEIR_INGEST_LISTENS", "x"),
        ],
        &[],
    );
    let told = String::from_utf8(output.stderr).unwrap();
    for name in [
        "WEIR_INGEST_LISTEN ",
        "WEIR_INGEST_MAX_BODY ",
        "WEIR_SOURCE_ACME_SECRETS ",
        "WEIR_SOURCE_ACME_SERVICE ",
        "WEIR_SOURCE_ACME_HEADER ",
        "WEIR_TOKENS ",
        "WEIR_INGEST_LISTENS is unknown: did you mean WEIR_INGEST_LISTEN?",
    ] {
        assert!(told.contains(&format!("\n  {name}")), "{name} is not in:\n{told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn the_settings_in_effect_are_shown_without_secrets() {
    let all = settings("nats://me:hunter2@127.0.0.1:1", &[]);
    let pairs: Vec<_> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let output = weir(&pairs, &["--print-config"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(shown.contains("WEIR_INGEST_PATIENCE=10s\n"), "{shown}");
    assert!(shown.contains("WEIR_SOURCE_GITHUB_SECRETS=(set)\n"), "{shown}");
    assert!(shown.contains("WEIR_TOKENS=ops:***:*,ci:***:github\n"), "{shown}");
    assert!(
        !shown.contains("hunter2") && !shown.contains(&super::running::sha256("ops-token")),
        "{shown}"
    );
}

#[test]
fn help_lists_the_settings() {
    let output = weir(&[], &["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        help.contains("--print-config") && help.contains("WEIR_INGEST_LISTEN"),
        "{help}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = weir(&[("WEIR_INGEST_LISTEN", &address)], &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("WEIR_INGEST_LISTEN") && told.contains(&address),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn sigterm_ends_it_in_order() {
    let scratch = scratch_dir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir-ingest"))
        .env_clear()
        .envs(settings(&nats.url(), &[]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"message\":\"listening\"")));
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
}
