//! A server with dead letters, and the command.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::StreamMessage;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use shared::config::fleet::Streams;
use shared::dead_letter::{Attempt, history_header};
use shared::servers::{Nats, NatsOptions};
use shared::subject::{Service, headers};
use shared::topology;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(super) const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Stage {
    pub(super) nats: Nats,
    pub(super) js: jetstream::Context,
    pub(super) scratch: tempfile::TempDir,
}

/// A dead letter of `github`, unless said otherwise.
#[derive(Clone)]
pub(super) struct Letter {
    pub(super) subject: &'static str,
    pub(super) home: &'static str,
    pub(super) id: String,
    pub(super) code: &'static str,
    pub(super) reason: &'static str,
    pub(super) at: u64,
    pub(super) attempts: u32,
    pub(super) payload: Vec<u8>,
}

impl Letter {
    pub(super) fn new(id: impl Into<String>) -> Self {
        Self {
            subject: "dead.github",
            home: "events.github.high",
            id: id.into(),
            code: "http_500",
            reason: "the endpoint answered 500",
            at: 1_790_000_000_000,
            attempts: 3,
            payload: b"{}".to_vec(),
        }
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let history = [Attempt {
            at: 1,
            code: "timeout".into(),
            detail: "took too long".into(),
        }];
        let mut map = HeaderMap::new();
        for (name, value) in [
            (headers::MESSAGE_ID, format!("dead:{}", self.id)),
            (headers::ID, self.id.clone()),
            (headers::ATTEMPTS, self.attempts.to_string()),
            (headers::HISTORY, history_header(&history)),
            (headers::ACCEPTED, "1780000000000".into()),
            (headers::DEAD_CODE, self.code.into()),
            (headers::DEAD_REASON, self.reason.into()),
            (headers::DEAD_AT, self.at.to_string()),
            (headers::DEAD_SUBJECT, self.home.into()),
            (headers::DEAD_STREAM, "WEIR_github".into()),
            (headers::DEAD_SEQUENCE, "1".into()),
        ] {
            map.insert(name, value);
        }
        map
    }
}

/// What a command said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(Streams::default()).await
    }

    pub(super) async fn with(streams: Streams) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let options = NatsOptions::new(scratch.path().join("nats"));
        let nats = Nats::start(options).await.unwrap();
        let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
        let services = ["github", "http"].map(|name| Service::new(name).unwrap());
        topology::ensure(&js, &services, &streams).await.unwrap();
        Self { nats, js, scratch }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WEIR);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.scratch.path())
            .env("WEIR_NATS_URL", self.nats.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).spawn().unwrap()).await
    }

    pub(super) async fn weir(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments).await;
        assert_eq!(said.code, Some(0), "weir {arguments:?}: {said:?}");
        said.stdout
    }

    pub(super) async fn fails(&self, arguments: &[&str], code: i32, says: &str) -> String {
        let said = self.run(arguments).await;
        assert_eq!(said.code, Some(code), "weir {arguments:?}: {said:?}");
        assert!(said.stderr.contains(says), "weir {arguments:?}: {said:?}");
        said.stdout
    }

    /// Puts a letter among the dead ones and gives its sequence.
    pub(super) async fn put(&self, letter: &Letter) -> u64 {
        let sent =
            self.js
                .publish_with_headers(letter.subject, letter.headers(), letter.payload.clone().into());
        sent.await.unwrap().await.unwrap().sequence
    }

    /// Publishes headers that the client library would not.
    pub(super) async fn publish_raw(&self, subject: &str, head: &[u8], payload: &[u8]) {
        let address = self.nats.url().replace("nats://", "");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let total = head.len() + payload.len();
        let mut publish = b"CONNECT {\"headers\":true,\"verbose\":false}\r\n".to_vec();
        publish.extend_from_slice(format!("HPUB {subject} {} {total}\r\n", head.len()).as_bytes());
        publish.extend_from_slice(head);
        publish.extend_from_slice(payload);
        publish.extend_from_slice(b"\r\nPING\r\n");
        stream.write_all(&publish).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"PONG\r\n") {
            assert!(
                stream.read_buf(&mut said).await.unwrap() > 0,
                "the server hangs up"
            );
        }
    }

    /// Puts as many letters of `github` with ids of their own.
    pub(super) async fn put_many(&self, name: &str, count: usize) {
        stream::iter(0..count)
            .map(|n| async move { self.put(&Letter::new(format!("{name}-{n:05}"))).await })
            .buffer_unordered(200)
            .collect::<Vec<_>>()
            .await;
    }

    /// The ids that a list shows, which also says what `replay` and `purge` of the same would take.
    pub(super) async fn ids(&self, filter: &[&str]) -> Vec<String> {
        let list = [&["dlq", "list", "--json", "--limit", "1000"], filter].concat();
        let ids: Vec<String> = (self.weir(&list).await.lines())
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["id"]
                    .as_str()
                    .unwrap()
                    .into()
            })
            .collect();
        if !filter.is_empty() {
            let plural = if ids.len() == 1 { "" } else { "s" };
            for verb in ["replay", "purge"] {
                let said = self.weir(&[&["dlq", verb, "--dry-run"], filter].concat()).await;
                let count = ids.len();
                assert_eq!(
                    said,
                    format!("would {verb} {count} dead letter{plural}\n"),
                    "{filter:?}"
                );
            }
        }
        ids
    }

    /// The most bytes that the server takes in a message.
    pub(super) async fn nats_payload(&self) -> usize {
        let client = async_nats::connect(self.nats.url()).await.unwrap();
        client.server_info().max_payload
    }

    pub(super) async fn dead(&self) -> jetstream::stream::Stream {
        self.js.get_stream("WEIR_DEAD").await.unwrap()
    }

    pub(super) async fn count(&self, stream: &str) -> usize {
        let stream = self.js.get_stream(stream).await.unwrap();
        stream.cached_info().state.messages as usize
    }

    /// All messages of a stream; it keeps them.
    pub(super) async fn messages(&self, name: &str) -> Vec<StreamMessage> {
        let stream = self.js.get_stream(name).await.unwrap();
        let state = stream.cached_info().state.clone();
        let mut messages = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            if state.messages > 0
                && let Ok(message) = stream.get_raw_message(sequence).await
            {
                messages.push(message);
            }
        }
        messages
    }

    /// A message's headers as they lie in the stream.
    pub(super) async fn raw_headers(&self, stream: &str, sequence: u64) -> String {
        let ask = serde_json::json!({ "seq": sequence });
        let subject = format!("STREAM.MSG.GET.{stream}");
        let answer: Value = self.js.request(subject, &ask).await.unwrap();
        let bytes = BASE64_STANDARD.decode(answer["message"]["hdrs"].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    }

    /// How often each event lies in the work stream of `github`.
    pub(super) async fn waiting(&self) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for message in self.messages("WEIR_github").await {
            let id = message.headers.get(headers::ID).unwrap().as_str().to_owned();
            *ids.entry(id).or_default() += 1;
        }
        ids
    }

    /// Takes what waits in a work stream off it, as workers would.
    pub(super) async fn work_off(&self, count: usize) -> Vec<String> {
        let stream = self.js.get_stream("WEIR_github").await.unwrap();
        let config = pull::Config {
            ack_policy: AckPolicy::Explicit,
            ..Default::default()
        };
        let high = stream.get_or_create_consumer("high", config).await.unwrap();
        let mut ids = Vec::new();
        let within = Duration::from_secs(30);
        let mut batch = high
            .batch()
            .max_messages(count)
            .expires(within)
            .messages()
            .await
            .unwrap();
        while ids.len() < count {
            let message = batch.next().await.unwrap().unwrap();
            ids.push(
                message
                    .headers
                    .as_ref()
                    .unwrap()
                    .get(headers::ID)
                    .unwrap()
                    .to_string(),
            );
            message.double_ack().await.unwrap();
        }
        ids
    }
}

/// What a command said when it has ended.
pub(super) async fn said(child: Child) -> Said {
    let output = tokio::time::timeout(WITHIN, child.wait_with_output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("not within {WITHIN:?}"))
        .unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Waits until a running command notes something, and gives what it has noted.
pub(super) async fn noted(child: &mut Child, text: &str) -> String {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let read = async {
        while !line.contains(text) {
            assert_ne!(stderr.read_line(&mut line).await.unwrap(), 0, "{line}");
        }
    };
    let read = tokio::time::timeout(WITHIN, read).await;
    assert!(read.is_ok(), "no {text:?} within {WITHIN:?}");
    // What follows must not fill the pipe.
    tokio::spawn(async move { stderr.read_to_end(&mut Vec::new()).await });
    line
}

pub(super) async fn until<T: Debug>(what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        if let Some(found) = holds().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {WITHIN:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn signal(name: &str, child: &Child) {
    let pid = child.id().unwrap().to_string();
    let status = std::process::Command::new("kill")
        .args(["-s", name, &pid])
        .status()
        .unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

/// The program beside `weir` in the build.
pub(super) fn beside(name: &str) -> std::path::PathBuf {
    let program = Path::new(WEIR).with_file_name(name);
    assert!(program.exists(), "run `cargo build --workspace` first");
    program
}
