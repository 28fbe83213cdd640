//! One ingest with a NATS server of its own, and what tests ask of both.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use ingest::{Config, IngestError};
use reqwest::{Method, StatusCode};
use sha2::{Digest, Sha256};
use shared::config::{Fleet, Reader};
use shared::event::Event;
use shared::servers::{Nats, NatsOptions, scratch_dir};
use shared::subject::{header, headers as names};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long anything may take that a test waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Running {
    pub(super) nats: Nats,
    pub(super) js: jetstream::Context,
    pub(super) base: String,
    pub(super) http: reqwest::Client,
    pub(super) shutdown: CancellationToken,
    pub(super) ended: JoinHandle<Result<(), IngestError>>,
    _scratch: TempDir,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

pub(super) fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Settings of every test; `more` goes before them.
pub(super) fn settings(nats: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let tokens = format!("ops:{}:*,ci:{}:github", sha256("ops-token"), sha256("ci-token"));
    [
        ("WEIR_NATS_URL", nats),
        ("WEIR_SERVICES", "github,slack,http"),
        ("WEIR_INGEST_LISTEN", "127.0.0.1:0"),
        ("WEIR_INGEST_DRAIN_DELAY", "0ms"),
        ("WEIR_TOKENS", &tokens),
        ("WEIR_SOURCES", "github,slack,acme"),
        ("WEIR_SOURCE_GITHUB_KIND", "github"),
        ("WEIR_SOURCE_GITHUB_SECRETS", "old,secret"),
        ("WEIR_SOURCE_SLACK_KIND", "slack"),
        ("WEIR_SOURCE_SLACK_SECRETS", "secret"),
        ("WEIR_SOURCE_ACME_KIND", "hmac"),
        ("WEIR_SOURCE_ACME_SECRETS", "secret"),
        ("WEIR_SOURCE_ACME_SERVICE", "http"),
        ("WEIR_SOURCE_ACME_HEADER", "x-acme-signature"),
    ]
    .iter()
    .chain(more)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect()
}

impl Running {
    /// Starts NATS and ingest, and waits until it is ready.
    pub(super) async fn start(more: &[(&str, &str)]) -> Self {
        let running = Self::start_unready(more).await;
        running.until_ready(true).await;
        running
    }

    pub(super) async fn start_unready(more: &[(&str, &str)]) -> Self {
        super::traces::install();
        shared::lifecycle::install_tls();
        let scratch = scratch_dir().unwrap();
        let nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
        let environment = settings(&nats.url(), more);
        let mut reader = Reader::new(&environment);
        let config = Config::read(&mut reader);
        let own: Vec<&str> = Config::OWN.into_iter().chain(Fleet::OWN).collect();
        let (config, _) = reader.finish(&own, config).unwrap();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(ingest::run(config, listener, shutdown.clone()));
        let client = async_nats::connect(nats.url()).await.unwrap();
        let js = jetstream::new(client);
        Self {
            nats,
            js,
            base,
            http: reqwest::Client::new(),
            shutdown,
            ended,
            _scratch: scratch,
        }
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer {
            status,
            headers,
            body: response.bytes().await.unwrap(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], "").await
    }

    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.call(Method::POST, path, headers, body).await
    }

    /// A JSON event by the token that may do everything.
    pub(super) async fn event(&self, service: &str, more: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let headers = [
            &[
                ("authorization", "Bearer ops-token"),
                ("content-type", "application/json"),
            ],
            more,
        ]
        .concat();
        self.post(&format!("/v1/events/{service}"), &headers, body).await
    }

    /// A GitHub delivery, signed.
    pub(super) async fn github(&self, delivery: &str, name: &str, body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        let signature = format!("sha256={}", mac(&[&body]));
        let headers = [
            ("content-type", "application/json"),
            ("x-hub-signature-256", &*signature),
            ("x-github-delivery", delivery),
            ("x-github-event", name),
        ];
        self.post("/webhooks/github", &headers, body).await
    }

    /// A Slack delivery, signed `ago` seconds ago.
    pub(super) async fn slack(&self, ago: u64, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let time = (now - ago).to_string();
        let signature = format!("v0={}", mac(&[b"v0:", time.as_bytes(), b":", &body]));
        let headers = [
            ("content-type", content_type),
            ("x-slack-signature", &*signature),
            ("x-slack-request-timestamp", &*time),
        ];
        self.post("/webhooks/slack", &headers, body).await
    }

    /// Waits until `/health/ready` says so, or says no.
    pub(super) async fn until_ready(&self, ready: bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get("/health/ready").await;
            if answer.status.is_success() == ready {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "still {}: {}",
                answer.status,
                answer.json()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of one line of `/metrics`.
    pub(super) async fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        let text = std::str::from_utf8(&text).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("{line} is not in:\n{text}"))
            .parse()
            .unwrap()
    }

    pub(super) async fn refused(&self, code: &str) -> f64 {
        self.metric(&format!("weir_ingest_refused_total{{reason=\"{code}\"}}"))
            .await
    }

    /// How many messages a service's stream holds.
    pub(super) async fn waiting(&self, service: &str) -> u64 {
        self.js
            .get_stream(format!("WEIR_{service}"))
            .await
            .unwrap()
            .get_info()
            .await
            .unwrap()
            .state
            .messages
    }

    /// The messages of a service's stream, in order: subject, headers, event.
    pub(super) async fn messages(&self, service: &str) -> Vec<(String, async_nats::HeaderMap, Event)> {
        let stream = self.js.get_stream(format!("WEIR_{service}")).await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut messages = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let encoding = header(Some(&message.headers), names::CONTENT_ENCODING);
            let payload = shared::wire::decompress(message.payload.clone(), encoding).unwrap();
            let event = shared::wire::decode(&payload, || panic!("every event carries its id")).unwrap();
            messages.push((message.subject.to_string(), message.headers, event));
        }
        messages
    }

    /// Stops ingest and waits for its end.
    pub(super) async fn stop(self) -> Result<(), IngestError> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.ended)
            .await
            .expect("ends in time")
            .unwrap()
    }
}

/// HMAC-SHA256 under `secret`, in hex.
pub(super) fn mac(parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    for part in parts {
        mac.update(part);
    }
    hex::encode(mac.finalize().into_bytes())
}
