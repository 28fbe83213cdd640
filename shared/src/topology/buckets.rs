//! The key-value buckets.

use std::time::Duration;

use async_nats::jetstream::{self, kv};

use super::{LEADER_TTL, TopologyError};
use crate::config::fleet::Streams;
use crate::subject::{BREAKERS_BUCKET, CACHE_BUCKET, LEADER_BUCKET, LIMITS_BUCKET, WARM_BUCKET};

/// How long a breaker is remembered that nobody changes; far longer than one can stay open without a probe.
const BREAKERS_MAX_AGE: Duration = Duration::from_secs(86_400);

/// Most bytes of what has become invalid in caches: far more than there are before they are folded.
const CACHE_MAX_BYTES: i64 = 64 << 20;

/// The bucket in which schedulers elect a leader; a key not renewed for [`LEADER_TTL`] is gone.
pub async fn leader_bucket(js: &jetstream::Context, streams: &Streams) -> Result<kv::Store, TopologyError> {
    let config = kv::Config {
        bucket: LEADER_BUCKET.into(),
        history: 1,
        max_age: LEADER_TTL,
        num_replicas: streams.replicas,
        ..Default::default()
    };
    js.create_key_value(config)
        .await
        .map_err(TopologyError::of(format!("bucket {LEADER_BUCKET}")))
}

/// The bucket of limits that are changed while workers run.
pub async fn limits_bucket(js: &jetstream::Context, streams: &Streams) -> Result<kv::Store, TopologyError> {
    let config = kv::Config {
        bucket: LIMITS_BUCKET.into(),
        description: "Weir: limits changed while workers run".into(),
        history: 1,
        num_replicas: streams.replicas,
        ..Default::default()
    };
    lasting_bucket(js, config).await
}

/// The bucket of the upstreams that are or were out of service. What is older than a day says nothing any more.
pub async fn breakers_bucket(js: &jetstream::Context, streams: &Streams) -> Result<kv::Store, TopologyError> {
    let config = kv::Config {
        bucket: BREAKERS_BUCKET.into(),
        description: "Weir: upstreams that are or were out of service".into(),
        history: 1,
        max_age: BREAKERS_MAX_AGE,
        num_replicas: streams.replicas,
        ..Default::default()
    };
    lasting_bucket(js, config).await
}

/// The bucket of what has become invalid in caches, each remembered for longer than any entry is kept.
pub async fn cache_bucket(js: &jetstream::Context, streams: &Streams) -> Result<kv::Store, TopologyError> {
    let config = kv::Config {
        bucket: CACHE_BUCKET.into(),
        description: "Weir: what has become invalid in caches".into(),
        history: 1,
        max_age: crate::cache::REMEMBERED,
        max_bytes: CACHE_MAX_BYTES,
        num_replicas: streams.replicas,
        ..Default::default()
    };
    lasting_bucket(js, config).await
}

/// The bucket of what schedulers keep of warming, and of what people have paused.
pub async fn warm_bucket(js: &jetstream::Context, streams: &Streams) -> Result<kv::Store, TopologyError> {
    let config = kv::Config {
        bucket: WARM_BUCKET.into(),
        description: "Weir: what warming was worth, and what of it is paused".into(),
        history: 1,
        num_replicas: streams.replicas,
        ..Default::default()
    };
    lasting_bucket(js, config).await
}

/// Looked for first: one that is there stays as it is, whatever the settings say by now.
async fn lasting_bucket(js: &jetstream::Context, config: kv::Config) -> Result<kv::Store, TopologyError> {
    let bucket = config.bucket.clone();
    if let Ok(bucket) = js.get_key_value(&bucket).await {
        return Ok(bucket);
    }
    let made = js.create_key_value(config).await;
    made.map_err(TopologyError::of(format!("bucket {bucket}")))
}
