//! Metadata of files as they were read, which all workers share: asked for again by their tag where Drive gives one,
//! not asked for while they are as young as the event wants them, forgotten when the feed of changes names the file.

use std::time::{Duration, SystemTime};

use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::telemetry::propagation::millis;

use super::wish::Call;
use crate::handler::Completion;

/// For how long metadata are remembered.
const KEPT: Duration = Duration::from_secs(3600);
/// Redis is waited for so long; a call goes without it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Longest entry, in bytes.
const MOST: usize = 16 * 1024;

/// The metadata of one credential's files, and what else it keeps in Redis.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) redis: ConnectionManager,
    /// Service and credential.
    pub(super) tag: String,
}

/// Metadata of before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) etag: Option<String>,
    data: Value,
    /// When they were read, in milliseconds since the epoch.
    at: u64,
}

impl Known {
    pub(super) fn new(etag: Option<&str>, data: Value, now: SystemTime) -> Self {
        Self {
            etag: etag.map(str::to_owned),
            data,
            at: millis(now),
        }
    }

    /// The same, seen to hold now.
    pub(super) fn seen_at(&self, now: SystemTime) -> Self {
        Self {
            at: millis(now),
            ..self.clone()
        }
    }

    /// An outcome without a call, while they are young enough.
    pub(super) fn fresh(&self, call: &Call, now: SystemTime) -> Option<Completion> {
        let (_, most) = call.file.as_ref()?;
        let age = millis(now).checked_sub(self.at)?;
        (!most.is_zero() && Duration::from_millis(age) <= *most).then(|| self.completion("cached"))
    }

    pub(super) fn completion(&self, code: &'static str) -> Completion {
        Completion {
            code: code.into(),
            result: Some(json!({"data": self.data})),
        }
    }
}

impl Files {
    pub(super) fn new(redis: ConnectionManager, tag: String) -> Self {
        Self { redis, tag }
    }

    /// What is known of the file that a call reads.
    pub(super) async fn of(&self, call: &Call) -> Option<Known> {
        let (key, field) = self.place(call)?;
        let mut redis = self.redis.clone();
        let mut get = redis::cmd("HGET");
        let asked = get.arg(key).arg(field).query_async::<Option<Vec<u8>>>(&mut redis);
        let bytes = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers what a call has read. Without Redis it is forgotten.
    pub(super) async fn keep(&self, call: &Call, known: &Known) {
        let (Some((key, field)), Ok(bytes)) = (self.place(call), serde_json::to_vec(known)) else {
            return;
        };
        if bytes.len() > MOST {
            return;
        }
        let mut redis = self.redis.clone();
        let mut set = redis::pipe();
        set.hset(&key, field, bytes).expire(&key, KEPT.as_secs() as i64);
        let _ = tokio::time::timeout(PATIENCE, set.query_async::<()>(&mut redis)).await;
    }

    /// Forgets files.
    pub(super) async fn forget(&self, ids: &[&str]) {
        if ids.is_empty() {
            return;
        }
        let mut del = redis::cmd("DEL");
        for id in ids {
            del.arg(self.key(id));
        }
        let mut redis = self.redis.clone();
        let _ = tokio::time::timeout(PATIENCE, del.query_async::<()>(&mut redis)).await;
    }

    fn place(&self, call: &Call) -> Option<(String, String)> {
        let (id, _) = call.file.as_ref()?;
        Some((self.key(id), hex::encode(&Sha256::digest(&call.path)[..8])))
    }

    fn key(&self, id: &str) -> String {
        format!("{}:file:{id}", self.tag)
    }
}
