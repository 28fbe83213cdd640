//! What the tests of the whole house share.

use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hmac::{Hmac, KeyInit, Mac};
use loadtest::fleet::{Fleet, Member};
use loadtest::provider::{Answer, Call, Provider, ProviderConfig};
use reqwest::StatusCode;
use sha2::{Digest, Sha256};
use shared::config::fleet::Streams;
use shared::event::{Data, Event, EventId};
use shared::subject::Service;
use shared::{topology, wire};
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
    started: Instant,
}

/// How long the server waits for a sign of life of a delivery.
const ACK_WAIT: Duration = Duration::from_secs(2);

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
        let started = Instant::now();
        let provider = Provider::start(limits, listener).unwrap();
        let (secret, token) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        let tokens = format!("test:{}:*", hex::encode(Sha256::digest(&token)));
        let (github, slack, hooks) = (
            provider.url(),
            format!("{}/api", provider.url()),
            format!("{}/hooks/test", provider.url()),
        );
        let ack_wait = format!("{}s", ACK_WAIT.as_secs());
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
            ("WEIR_STREAM_ACK_WAIT", ack_wait.as_str()),
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
            started,
        }
    }

    /// Puts events straight into a service's stream, without `ingest`.
    pub(crate) async fn publish(&self, service: &str, events: impl IntoIterator<Item = Event>) {
        let service = Service::new(service).unwrap();
        let streams = Streams {
            ack_wait: ACK_WAIT,
            ..Streams::default()
        };
        topology::ensure(&self.js, std::slice::from_ref(&service), &streams)
            .await
            .unwrap();
        let subject = format!("events.{service}");
        let mut acks = FuturesUnordered::new();
        for event in events {
            let ack = self
                .js
                .publish(subject.clone(), wire::encode(&event))
                .await
                .unwrap();
            acks.push(ack.into_future());
            if acks.len() >= 256 {
                acks.next().await.unwrap().unwrap();
            }
        }
        while let Some(ack) = acks.next().await {
            ack.unwrap();
        }
    }

    /// The time of the provider's calls, in milliseconds.
    pub(crate) fn now_ms(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1e3
    }

    /// Waits until this time of the provider's calls.
    pub(crate) async fn reached(&self, at_ms: f64) {
        tokio::time::sleep_until(self.started + Duration::from_secs_f64(at_ms / 1e3)).await;
    }

    /// Calls that came to the provider in this time.
    pub(crate) fn calls(&self, from_ms: f64, to_ms: f64) -> Vec<Call> {
        let mut calls = self.provider.calls(None, usize::MAX);
        calls.retain(|call| (from_ms..to_ms).contains(&call.at_ms));
        calls
    }

    /// When the calls before the first refusal came, in milliseconds before it.
    fn before_refusal(&self) -> String {
        let mut calls = self.calls(0.0, f64::INFINITY);
        let Some(first) = calls.iter().position(|call| call.answer == Answer::Refused) else {
            return String::new();
        };
        let at = calls[first].at_ms;
        calls.truncate(first);
        calls.retain(|call| at - call.at_ms < 1_200.0);
        let before = calls.iter().map(|call| format!("{:.1}", at - call.at_ms));
        before.collect::<Vec<_>>().join(" ")
    }

    /// Calls in each second since the first, for people.
    pub(crate) fn course(&self) -> String {
        let calls = self.calls(0.0, f64::INFINITY);
        let first = calls.first().map_or(0.0, |call| call.at_ms);
        let mut seconds: Vec<[u32; 2]> = Vec::new();
        for call in &calls {
            let second = ((call.at_ms - first) / 1e3) as usize;
            seconds.resize(seconds.len().max(second + 1), [0, 0]);
            seconds[second][usize::from(call.answer == Answer::Refused)] += 1;
        }
        let show = |[served, refused]: &[u32; 2]| match refused {
            0 => served.to_string(),
            refused => format!("{served}!{refused}"),
        };
        seconds.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// Waits until the provider has served so many calls.
    pub(crate) async fn served(&self, count: u64) {
        until(&format!("{count} calls served"), async || {
            (self.provider.stats().total.accepted >= count).then_some(())
        })
        .await;
    }

    /// Waits until the provider has served so many more calls, and refused none.
    pub(crate) async fn served_more(&self, count: u64) {
        let count = self.provider.stats().total.accepted + count;
        until(&format!("{count} calls served"), async || {
            self.no_breach();
            (self.provider.stats().total.accepted >= count).then_some(())
        })
        .await;
    }

    /// The provider has refused no call.
    pub(crate) fn no_breach(&self) {
        let stats = self.provider.stats();
        assert_eq!(
            stats.total.refused,
            0,
            "{}\n{stats:#?}\n{}",
            self.before_refusal(),
            self.course()
        );
    }

    /// Sends a signed GitHub webhook about an issue.
    pub(crate) async fn webhook(&self, ingest: &Member, delivery: &str, body: &[u8]) -> reqwest::Response {
        self.webhook_of(ingest, "issues", delivery, body).await
    }

    /// Sends a signed GitHub webhook of this kind.
    pub(crate) async fn webhook_of(
        &self,
        ingest: &Member,
        kind: &str,
        delivery: &str,
        body: &[u8],
    ) -> reqwest::Response {
        let request = self.signed(ingest, kind, delivery, body);
        request.send().await.unwrap()
    }

    /// Sends one to an ingest that dies of it.
    pub(crate) async fn refused_webhook(&self, ingest: &Member, delivery: &str, body: &[u8]) {
        assert!(
            self.signed(ingest, "issues", delivery, body)
                .send()
                .await
                .is_err()
        );
    }

    fn signed(&self, ingest: &Member, kind: &str, delivery: &str, body: &[u8]) -> reqwest::RequestBuilder {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(body);
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        self.http
            .post(format!("{}/webhooks/github", ingest.url))
            .header("content-type", "application/json")
            .header("x-github-event", kind)
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", signature)
            .body(body.to_vec())
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

/// So many events that each ask for one call.
pub(crate) fn calls(count: usize, data: &serde_json::Value) -> impl Iterator<Item = Event> + use<> {
    let data = data.to_string();
    (0..count).map(move |_| Event {
        data: Data::json(data.clone()),
        ..Event::new(EventId::generate(), "call")
    })
}

/// A real webhook of GitHub.
pub(crate) fn issue_opened() -> &'static [u8] {
    include_bytes!("../fixtures/github/issues.opened.json")
}
