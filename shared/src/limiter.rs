//! The limiter: token buckets in Redis that the whole fleet shares. A call names every limit it falls under; all of
//! them are taken together or none is.

mod bucket;
mod policy;

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionManager;

pub use bucket::{Bucket, State};
pub use policy::{JITTER, Limit};

/// One limit that a call falls under: whose bucket, how large, how much of it one call costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Which bucket: provider and credential in braces (they stay on one node of a Redis cluster), then what is
    /// limited, for example `{github:1f3a}:requests` or `{slack:77aa}:channel:C024BE91L`.
    pub key: String,
    /// The bucket.
    pub bucket: Bucket,
    /// What one call takes from it, at least 1 and at most its burst.
    pub cost: u32,
}

/// What a question to the limiter came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Calls that may start now; they are booked.
    pub granted: u32,
    /// Calls that could start now on top; not booked.
    pub left: u32,
    /// How long until the next one may start; zero when `left` is not.
    pub wait: Duration,
}

/// The buckets cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("limits are unknown: {0}")]
pub struct Unavailable(#[from] redis::RedisError);

static TAKE: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("limiter/take.lua")));

/// A handle on the shared buckets; clones share one connection.
#[derive(Clone)]
pub struct Limiter {
    redis: ConnectionManager,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limiter")
    }
}

impl Limiter {
    /// Buckets in this Redis.
    pub fn new(redis: ConnectionManager) -> Self {
        Self { redis }
    }

    /// Takes up to `want` calls from every bucket of `charges` at once, in one round trip. With `want` 0 it only
    /// looks. Waiting is never booked ahead: a caller who is told to wait asks again, so that nobody holds what
    /// another could use.
    pub async fn take(&self, charges: &[Charge], want: u32) -> Result<Grant, Unavailable> {
        if charges.is_empty() {
            return Ok(Grant {
                granted: want,
                left: u32::MAX,
                wait: Duration::ZERO,
            });
        }
        let mut call = TAKE.prepare_invoke();
        call.arg(want);
        for charge in charges {
            let interval = charge.bucket.interval_us();
            call.key(format!("weir:{}", charge.key));
            call.arg(interval * u64::from(charge.cost))
                .arg(interval * u64::from(charge.bucket.burst()));
        }
        let (granted, left, wait): (u32, u32, u64) = call.invoke_async(&mut self.redis.clone()).await?;
        Ok(Grant {
            granted,
            left,
            wait: Duration::from_micros(wait),
        })
    }
}
