//! The second level: Redis, which the whole fleet shares with its limits. So it is bounded: in all bytes, in the bytes of
//! an entry, in how long one question keeps others waiting.

use std::sync::LazyLock;
use std::time::Duration;

use redis::RedisError;
use redis::aio::ConnectionManager;

use super::gate::{Away, Gate};
use super::key::Key;

/// All keys have one tag, so that a script may use them together.
const PREFIX: &str = "weir:{cache}:";

static PUT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("put.lua")));

static HOLD: LazyLock<redis::Script> = LazyLock::new(|| {
    // A time of zero deletes.
    redis::Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0",
    )
});

/// The level.
#[derive(Debug)]
pub(super) struct L2 {
    redis: ConnectionManager,
    gate: Gate,
    /// Most bytes of all entries.
    most: u64,
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Put {
    /// Bytes of all entries.
    pub(super) total: u64,
    /// Whether the entry is there now.
    pub(super) kept: bool,
    /// How many had to go.
    pub(super) evicted: u64,
}

impl L2 {
    pub(super) fn new(redis: ConnectionManager, patience: Duration, most: u64) -> Self {
        Self {
            redis,
            gate: Gate::new(patience),
            most,
        }
    }

    /// An entry's bytes.
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Away> {
        let mut redis = self.redis.clone();
        let mut get = redis::cmd("GET");
        get.arg(entry(key));
        self.gate.ask("redis", get.query_async(&mut redis)).await
    }

    /// Keeps an entry's bytes for so long; with a fence, only if the key's lock is still held by it.
    pub(super) async fn put(
        &self,
        key: &Key,
        bytes: &[u8],
        lasts: Duration,
        fence: Option<&str>,
    ) -> Result<Put, Away> {
        let mut redis = self.redis.clone();
        let mut put = PUT.prepare_invoke();
        put.key(entry(key))
            .key(lock(key))
            .key(list())
            .key(sizes())
            .arg(bytes)
            .arg(lasts.as_millis().max(1) as u64)
            .arg(self.most)
            .arg(fence.unwrap_or_default())
            .arg(key.hex())
            .arg(format!("{PREFIX}entry:"));
        let (total, kept, evicted): (u64, u8, u64) =
            self.gate.ask("redis", put.invoke_async(&mut redis)).await?;
        Ok(Put {
            total,
            kept: kept == 1,
            evicted,
        })
    }

    /// Makes a key's lock ours under this fence, if it is nobody's.
    pub(super) async fn lock(&self, key: &Key, fence: &str, lease: Duration) -> Result<bool, Away> {
        let mut redis = self.redis.clone();
        let mut set = redis::cmd("SET");
        set.arg(lock(key)).arg(fence).arg("NX");
        set.arg("PX").arg(lease.as_millis() as u64);
        let set = set.query_async::<Option<String>>(&mut redis);
        self.gate.ask("redis", set).await.map(|set| set.is_some())
    }

    /// Makes a key's lock last so long from now, or not any longer, if it is ours.
    pub(super) async fn hold(&self, key: &Key, fence: &str, lease: Duration) -> Result<bool, Away> {
        let mut redis = self.redis.clone();
        let mut hold = HOLD.key(lock(key));
        hold.arg(fence).arg(lease.as_millis() as u64);
        self.gate.ask("redis", hold.invoke_async(&mut redis)).await
    }
}

/// What the fleet has in Redis: entries and their bytes.
///
/// # Errors
/// Redis does not say.
pub async fn size(redis: &mut ConnectionManager) -> Result<(u64, u64), RedisError> {
    let (entries, bytes): (u64, Option<u64>) = redis::pipe()
        .zcard(list())
        .hget(sizes(), "total")
        .query_async(redis)
        .await?;
    Ok((entries, bytes.unwrap_or_default()))
}

fn entry(key: &Key) -> String {
    format!("{PREFIX}entry:{}", key.hex())
}

/// Where it lies who fetches a key.
fn lock(key: &Key) -> String {
    format!("{PREFIX}lock:{}", key.hex())
}

fn list() -> String {
    format!("{PREFIX}list")
}

fn sizes() -> String {
    format!("{PREFIX}sizes")
}
