//! What the tests of the whole house share.

use std::time::Duration;

use async_nats::jetstream;
use hmac::{Hmac, KeyInit, Mac};
use loadtest::fleet::{Fleet, Member};
use loadtest::provider::{Provider, ProviderConfig};
use reqwest::StatusCode;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::time::Instant;
use uuid::Uuid;

/// A fleet, a provider, and the ways to look at both.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) provider: Provider,
    pub(crate) js: jetstream::Context,
    pub(crate) database: PgPool,
    pub(crate) http: reqwest::Client,
    pub(crate) secret: String,
    pub(crate) token: String,
}

/// One result as the database has it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) code: String,
    pub(crate) trace_id: String,
}

impl World {
    /// A fleet without services yet, for a provider with these limits.
    pub(crate) async fn new(limits: ProviderConfig, settings: &[(&str, &str)]) -> Self {
        shared::lifecycle::install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Provider::start(limits, listener).unwrap();
        let (secret, token) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        let tokens = format!("test:{}:*", hex::encode(Sha256::digest(&token)));
        let (github, slack, hooks) = (
            provider.url(),
            format!("{}/api", provider.url()),
            format!("{}/hooks/test", provider.url()),
        );
        let mut all = vec![
            ("WEIR_SERVICES", "github,slack,http"),
            ("WEIR_SOURCES", "github"),
            ("WEIR_SOURCE_GITHUB_KIND", "github"),
            ("WEIR_SOURCE_GITHUB_SECRETS", secret.as_str()),
            ("WEIR_TOKENS", tokens.as_str()),
            ("WEIR_SERVICE_GITHUB_URL", github.as_str()),
            ("WEIR_SERVICE_GITHUB_TOKEN", "test-github"),
            ("WEIR_SERVICE_SLACK_URL", slack.as_str()),
            ("WEIR_SERVICE_SLACK_TOKEN", "test-slack"),
            ("WEIR_SERVICE_HTTP_URL", hooks.as_str()),
            ("WEIR_STREAM_ACK_WAIT", "2s"),
            // The servers are new: nobody has called before.
            ("WEIR_LIMITS_START", "full"),
        ];
        all.extend_from_slice(settings);
        let fleet = Fleet::new(&all).await.unwrap();
        let js = fleet.jetstream().await.unwrap();
        let database = fleet.database().await.unwrap();
        Self {
            provider,
            js,
            database,
            http: reqwest::Client::new(),
            secret,
            token,
            fleet,
        }
    }

    /// Sends a signed GitHub webhook.
    pub(crate) async fn webhook(&self, ingest: &Member, delivery: &str, body: &[u8]) -> reqwest::Response {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(body);
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        self.http
            .post(format!("{}/webhooks/github", ingest.url))
            .header("content-type", "application/json")
            .header("x-github-event", "issues")
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", signature)
            .body(body.to_vec())
            .send()
            .await
            .unwrap()
    }

    /// Posts an event and gives its id.
    pub(crate) async fn event(&self, ingest: &Member, service: &str, event: &serde_json::Value) -> String {
        let answer = self
            .http
            .post(format!("{}/v1/events/{service}", ingest.url))
            .bearer_auth(&self.token)
            .json(event)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// The event's result, once there is one.
    pub(crate) async fn result(&self, id: &str) -> Row {
        const ROW: &str = "SELECT state, attempts, code, trace_id FROM results WHERE event_id = $1";
        until(&format!("a result of {id}"), async || {
            sqlx::query_as::<_, Row>(ROW)
                .bind(id)
                .fetch_optional(&self.database)
                .await
                .ok()
                .flatten()
        })
        .await
    }

    /// Waits until so many events are done.
    pub(crate) async fn done(&self, count: i64) {
        until(&format!("{count} events done"), async || {
            let done: i64 = sqlx::query_scalar("SELECT count(*) FROM results WHERE state = 'done'")
                .fetch_one(&self.database)
                .await
                .unwrap_or(0);
            (done >= count).then_some(())
        })
        .await;
    }

    /// Messages left in a stream.
    pub(crate) async fn left(&self, stream: &str) -> u64 {
        self.js
            .get_stream(stream)
            .await
            .unwrap()
            .get_info()
            .await
            .unwrap()
            .state
            .messages
    }

    /// Waits until a stream is empty.
    pub(crate) async fn emptied(&self, stream: &str) {
        until(&format!("{stream} empty"), async || {
            (self.left(stream).await == 0).then_some(())
        })
        .await;
    }
}

/// Waits for a condition, at most a minute.
pub(crate) async fn until<T>(what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited a minute in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A real webhook of GitHub.
pub(crate) fn issue_opened() -> &'static [u8] {
    include_bytes!("../fixtures/github/issues.opened.json")
}
