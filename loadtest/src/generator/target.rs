//! Where load goes: signed webhooks, the events API, or a plain NATS publish.

mod events;
mod publish;
mod webhook;

use std::time::Duration;

use super::tally::{Outcome, Sent};

pub use self::{
    events::{Events, Template, WireFormat},
    publish::Publish,
    webhook::{Payload, PayloadError, Webhook, payloads},
};

/// Longest wait for one answer, unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Something that takes requests.
pub trait Target: Send + Sync + 'static {
    /// Sends request `number` and waits for its answer, for a bounded time.
    fn send(&self, number: u64) -> impl Future<Output = Sent> + Send;
}

/// An HTTP client for load: one host, connections kept, an answer's time bounded. The process needs a TLS provider
/// installed first.
pub fn http_client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(timeout)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(4096)
        .build()
}

/// Tells the end of an HTTP request; the answer's own id goes before the one expected.
async fn conclude(answer: reqwest::Result<reqwest::Response>, expected: String) -> Sent {
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            return Sent {
                outcome: Outcome::Failed(word_for(&error)),
                id: None,
            };
        }
    };
    let status = response.status().as_u16();
    // Read to its end, or the connection cannot be used again.
    let body = response.bytes().await.unwrap_or_default();
    if status != 202 && status != 200 {
        return Sent {
            outcome: Outcome::Status(status),
            id: None,
        };
    }
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let told = body.get("id").and_then(|id| id.as_str()).map(str::to_owned);
    Sent {
        outcome: Outcome::Accepted,
        id: Some(told.unwrap_or(expected)),
    }
}

fn word_for(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "broken connection"
    }
}
