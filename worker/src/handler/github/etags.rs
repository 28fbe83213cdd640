//! What GitHub was asked before, by path: an answer that has not changed comes without a body and counts under no
//! primary limit. All workers share it. Source: GitHub, best practices for using the REST API, conditional requests.

use std::time::Duration;

use http::HeaderValue;
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// For how long an answer is remembered.
const KEPT: Duration = Duration::from_secs(86_400);
/// Redis is waited for so long; a call goes without it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Longest entry, in bytes.
const MOST: usize = 4096;

/// The answers to one credential's questions.
#[derive(Debug, Clone)]
pub(super) struct Etags {
    redis: ConnectionManager,
    /// Service and credential.
    tag: String,
}

/// An answer of before.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// By which GitHub knows it.
    pub(super) etag: String,
    /// What was made of it.
    pub(super) result: Option<Value>,
}

impl Known {
    /// Its tag as a header.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.etag).ok()
    }
}

impl Etags {
    pub(super) fn new(redis: ConnectionManager, tag: String) -> Self {
        Self { redis, tag }
    }

    /// What is known of a path.
    pub(super) async fn of(&self, path: &str) -> Option<Known> {
        let mut redis = self.redis.clone();
        let mut get = redis::cmd("GET");
        let asked = get.arg(self.key(path)).query_async::<Option<Vec<u8>>>(&mut redis);
        let bytes = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers an answer. Without Redis it is forgotten.
    pub(super) async fn keep(&self, path: &str, known: &Known) {
        let Ok(bytes) = serde_json::to_vec(known) else {
            return;
        };
        if known.header().is_none() || bytes.len() > MOST {
            return;
        }
        let mut redis = self.redis.clone();
        let mut set = redis::cmd("SET");
        set.arg(self.key(path)).arg(bytes).arg("EX").arg(KEPT.as_secs());
        let _ = tokio::time::timeout(PATIENCE, set.query_async::<()>(&mut redis)).await;
    }

    fn key(&self, path: &str) -> String {
        format!("{}:etag:{}", self.tag, hex::encode(&Sha256::digest(path)[..16]))
    }
}
