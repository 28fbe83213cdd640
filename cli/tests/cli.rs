//! `weir publish`, `weir status` and `weir dlq` against a real NATS server.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::path::Path;
use std::process::{Output, Stdio};

use async_nats::HeaderMap;
use async_nats::jetstream;
use bytes::Bytes;
use serde_json::Value;
use shared::config::fleet::Streams;
use shared::dead_letter::{self, Attempt, Burial};
use shared::event::EventId;
use shared::failure::Reason;
use shared::servers::{Nats, NatsOptions};
use shared::subject::{Service, headers};
use shared::topology;
use shared::wire;
use tokio::io::AsyncWriteExt;

struct Stage {
    nats: Nats,
    js: jetstream::Context,
    scratch: tempfile::TempDir,
}

async fn stage() -> Stage {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path().join("nats")))
        .await
        .unwrap();
    let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let services = ["github", "http"].map(|name| Service::new(name).unwrap());
    topology::ensure(&js, &services, &Streams::default())
        .await
        .unwrap();
    Stage { nats, js, scratch }
}

async fn run(dir: &Path, nats_url: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .current_dir(dir)
        .env("WEIR_NATS_URL", nats_url)
        .env_remove("WEIR_POSTGRES_URL")
        .env_remove("WEIR_SERVICES")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input may have ended already.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    child.wait_with_output().await.unwrap()
}

impl Stage {
    async fn weir(&self, arguments: &[&str]) -> String {
        self.weir_with(arguments, b"").await
    }

    async fn weir_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = run(self.scratch.path(), &self.nats.url(), arguments, input).await;
        assert!(output.status.success(), "weir {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn fails(&self, arguments: &[&str], code: i32, says: &str) {
        let output = run(self.scratch.path(), &self.nats.url(), arguments, b"").await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "weir {arguments:?}: {stderr}");
        assert!(stderr.contains(says), "weir {arguments:?}: {stderr}");
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.weir(arguments).await).unwrap()
    }

    /// Buries a payload of github's and gives its sequence among the dead letters.
    async fn bury(&self, id: &str, code: &'static str, payload: &[u8]) -> u64 {
        let github = Service::new("github").unwrap();
        let mut map = HeaderMap::new();
        map.insert(headers::MESSAGE_ID, id);
        map.insert("X-Colour", "\u{1b}[31mred");
        let reason = Reason::new(code, "what went wrong");
        // A place of its own for each, as the server would have given it.
        let position = self.messages("WEIR_DEAD").await.1 + 1;
        let burial = Burial {
            service: &github,
            sequence: position,
            subject: "events.github.high",
            id: &EventId::new(id).unwrap(),
            headers: Some(&map),
            payload: Bytes::copy_from_slice(payload),
            reason: &reason,
            attempts: 3,
            history: &[Attempt {
                at: 1,
                code: "timeout".into(),
                detail: "took too long".into(),
            }],
            accepted: 1_700_000_000_000,
        };
        dead_letter::bury(&self.js, burial).await.unwrap();
        self.messages("WEIR_DEAD").await.1
    }

    /// How many messages a stream holds, and its last sequence.
    async fn messages(&self, stream: &str) -> (u64, u64) {
        let state = self
            .js
            .get_stream(stream)
            .await
            .unwrap()
            .cached_info()
            .state
            .clone();
        (state.messages, state.last_sequence)
    }
}

#[tokio::test]
async fn publishes_what_workers_can_read() {
    let stage = stage().await;
    let data = "{\"name\":\"Ada\"}";
    let kept = stage
        .json(&[
            "publish",
            "github",
            "--type",
            "user.created",
            "--id",
            "u-1",
            "--key",
            "octo/repo",
            "--tenant",
            "acme",
            "--priority",
            "9",
            "--data",
            data,
            "--json",
        ])
        .await;
    assert_eq!(
        (kept["id"].as_str(), kept["stream"].as_str()),
        (Some("u-1"), Some("WEIR_github"))
    );
    assert_eq!(
        (kept["sequence"].as_u64(), kept["duplicate"].as_bool()),
        (Some(1), Some(false))
    );
    let again = stage
        .weir(&["publish", "github", "--id", "u-1", "--priority", "9"])
        .await;
    assert!(again.contains("was there already"), "{again}");

    let stream = stage.js.get_stream("WEIR_github").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    assert_eq!(message.subject.as_str(), "events.github.high.acme");
    assert_eq!(message.headers.get(headers::MESSAGE_ID).unwrap().as_str(), "u-1");
    let event = wire::decode(&message.payload, EventId::generate).unwrap();
    assert_eq!(
        (event.kind.as_str(), event.source.as_deref()),
        ("user.created", Some("cli"))
    );
    assert_eq!(event.data.to_json().unwrap().unwrap().to_string(), data);

    // Standard input, bytes of another type, compressed because it pays.
    let csv = "a,b\n".repeat(5_000);
    stage
        .weir_with(
            &["publish", "http", "--content-type", "text/csv", "--data", "-"],
            csv.as_bytes(),
        )
        .await;
    let stream = stage.js.get_stream("WEIR_http").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    let encoding = message.headers.get(headers::CONTENT_ENCODING).unwrap();
    let plain = wire::decompress(message.payload.clone(), Some(encoding.as_str())).unwrap();
    let event = wire::decode(&plain, EventId::generate).unwrap();
    let blob = shared::event::Data::Blob {
        content_type: "text/csv".into(),
        bytes: csv.into(),
    };
    assert_eq!(event.data, blob);

    stage
        .fails(
            &["publish", "github", "--data", "{no json"],
            64,
            "--data is no JSON",
        )
        .await;
    stage
        .fails(&["publish", "github", "--priority", "11"], 64, "from 1 to 10")
        .await;
    stage.fails(&["publish", "Git.Hub"], 64, "a-z").await;
    stage
        .fails(
            &["publish", "github", "--data", "@/nonexistent"],
            64,
            "/nonexistent",
        )
        .await;
    stage
        .fails(&["publish", "unknown"], 1, "one of the fleet's services")
        .await;
    stage
        .fails(
            &["publish", "github", "--nats-url", "nats://127.0.0.1:9"],
            1,
            "does not answer",
        )
        .await;
    stage
        .fails(
            &["publish", "github", "--nats-url", "http://x"],
            64,
            "WEIR_NATS_URL",
        )
        .await;
}

#[tokio::test]
async fn status_shows_what_waits() {
    let stage = stage().await;
    for priority in ["9", "5", "5", "1"] {
        stage.weir(&["publish", "github", "--priority", priority]).await;
    }
    stage.bury("d-1", "http_404", b"x").await;
    let status = stage.json(&["status", "--json"]).await;
    let github = &status["services"][0];
    assert_eq!(
        (github["service"].as_str(), github["totals"]["waiting"].as_u64()),
        (Some("github"), Some(4))
    );
    assert_eq!(github["totals"]["dead"].as_u64(), Some(1));
    assert_eq!(github["lanes"][1]["pending"].as_u64(), Some(2));
    assert!(
        github["last_hour"].is_null() && status["last_hour_problem"].is_string(),
        "{status}"
    );
    let output = run(stage.scratch.path(), &stage.nats.url(), &["status"], b"").await;
    let (table, notes) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(table.contains("github") && table.contains("WAITING"), "{table}");
    assert!(notes.contains("no Postgres is known"), "{notes}");
    let unreachable = ["status", "--postgres-url", "postgres://weir@127.0.0.1:9/weir"];
    let output = run(stage.scratch.path(), &stage.nats.url(), &unreachable, b"").await;
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the last hour is not shown: Postgres"),
        "{output:?}"
    );

    stage.js.delete_stream("WEIR_RETRY").await.unwrap();
    stage.fails(&["status"], 1, "WEIR_RETRY cannot be read").await;
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_replayed() {
    let stage = stage().await;
    assert_eq!(stage.weir(&["dlq", "list"]).await, "no dead letters\n");
    let bytes = b"\x82\xa1v\xff no event";
    let first = stage.bury("d-1", "undecodable", bytes).await;
    let event = shared::event::Event::new(EventId::new("d-2").unwrap(), "issues.opened");
    let second = stage.bury("d-2", "http_404", &wire::encode(&event)).await;
    for n in 0..250 {
        stage.bury(&format!("many-{n:03}"), "timeout", b"{}").await;
    }

    let list = stage.weir(&["dlq", "list", "--json", "--limit", "1000"]).await;
    let letters: Vec<Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(letters.len(), 252);
    assert_eq!(
        (letters[0]["id"].as_str(), letters[0]["bytes"].as_u64()),
        (Some("d-1"), Some(bytes.len() as u64))
    );
    let found = stage
        .weir(&["dlq", "list", "--service", "github", "--code", "http_404"])
        .await;
    assert!(found.contains("d-2") && !found.contains("d-1"), "{found}");
    assert_eq!(
        stage.weir(&["dlq", "list", "--service", "http"]).await,
        "no dead letters\n"
    );

    let page = stage.weir(&["dlq", "show", &first.to_string()]).await;
    for part in [
        "undecodable",
        "what went wrong",
        "took too long",
        "no event:",
        "82 a1 76 ff",
        "\\u{1b}[31mred",
    ] {
        assert!(page.contains(part), "{part} is not in:\n{page}");
    }
    assert!(!page.contains('\x1b'), "{page:?}");
    let raw = run(
        stage.scratch.path(),
        &stage.nats.url(),
        &["dlq", "show", &first.to_string(), "--raw"],
        b"",
    )
    .await;
    assert_eq!(raw.stdout, bytes);
    let shown = stage.json(&["dlq", "show", &second.to_string(), "--json"]).await;
    assert_eq!(
        (shown["event"]["type"].as_str(), shown["attempts"].as_u64()),
        (Some("issues.opened"), Some(3))
    );
    stage
        .fails(&["dlq", "show", "9999"], 1, "there is no dead letter 9999")
        .await;

    let said = stage.weir(&["dlq", "replay", &second.to_string()]).await;
    assert_eq!(said, "replayed 1 dead letter\n");
    let work = stage.js.get_stream("WEIR_github").await.unwrap();
    let message = work
        .get_last_raw_message_by_subject("events.github.high")
        .await
        .unwrap();
    assert_eq!(message.payload, wire::encode(&event));
    assert_eq!(message.headers.get(headers::ID).unwrap().as_str(), "d-2");
    assert!(message.headers.get(headers::DEAD_CODE).is_none());
    stage
        .fails(&["dlq", "replay", &second.to_string()], 1, "named no dead letter")
        .await;
    stage.fails(&["dlq", "replay"], 64, "or give --all").await;
    stage
        .fails(&["dlq", "replay", "1", "--all"], 64, "cannot be used with")
        .await;

    let said = stage
        .weir(&[
            "dlq", "replay", "--all", "--code", "timeout", "--rate", "100000/s",
        ])
        .await;
    assert_eq!(said, "replayed 250 dead letters\n");
    assert_eq!(
        stage.messages("WEIR_DEAD").await.0,
        1,
        "the one with another code stays"
    );
    assert_eq!(stage.messages("WEIR_github").await.0, 251);
}
