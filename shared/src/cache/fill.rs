//! How what was found becomes an entry, and comes into the levels.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::Fetched;
use super::codec;
use super::early::Times;
use super::entry::{self, Entry, Stamp, Value, now};
use super::gate::Away;
use super::key::Key;
use super::metrics::Level;
use super::options::LONGEST;
use super::space::{Space, value};
use crate::failure::Failure;

/// An entry that was made, and its value's bytes if it is to be kept.
pub(super) struct Made {
    pub(super) entry: Arc<Entry>,
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) outcome: &'static str,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Space<V> {
    /// Makes an entry of what a fetch found.
    pub(super) fn make(
        &self,
        key: &Key,
        stamp: Stamp,
        found: Fetched<V>,
        known: Option<&Arc<Entry>>,
        took: u64,
    ) -> Result<Made, Failure> {
        let options = &self.0.options;
        let (outcome, value, etag, tags, ttl, kept): (_, Option<Arc<V>>, _, _, _, _) = match found {
            Fetched::Fresh(fresh) => {
                let tags = entry::tags(fresh.tags);
                let kept = tags.is_some();
                let (tags, etag) = (tags.unwrap_or_default(), entry::etag(fresh.etag));
                ("fresh", Some(Arc::new(fresh.value)), etag, tags, fresh.ttl, kept)
            }
            Fetched::Unchanged(ttl) => {
                let Some((entry, value)) = known.and_then(|known| Some((known, value::<V>(known)?))) else {
                    let why = "the other side says that nothing has changed, and nothing was known";
                    return Err(Failure::transient("cache_unchanged", why));
                };
                (
                    "unchanged",
                    Some(value),
                    entry.etag.clone(),
                    entry.tags.clone(),
                    ttl,
                    true,
                )
            }
            Fetched::Absent(tags) => {
                let tags = entry::tags(tags);
                let kept = tags.is_some() && !options.negative.is_zero();
                (
                    "absent",
                    None,
                    None,
                    tags.unwrap_or_default(),
                    Some(options.negative),
                    kept,
                )
            }
            Fetched::NotKept(value) => (
                "not_kept",
                Some(Arc::new(value)),
                None,
                Box::default(),
                None,
                false,
            ),
        };
        let absent = value.is_none();
        let bytes = match &value {
            Some(value) if kept => self.write(value),
            None if kept => Some(Vec::new()),
            _ => None,
        };
        let (fresh, stale) = (
            millis(ttl.unwrap_or(options.fresh)),
            if absent { 0 } else { millis(options.stale) },
        );
        let kept = if absent { 0 } else { millis(options.kept) };
        let size = match (&value, &bytes) {
            (Some(value), Some(bytes)) => (options.weigh)(value, bytes.len()),
            _ => 0,
        };
        let made = Entry {
            key: key.clone(),
            stamp,
            times: Times {
                fresh,
                stale,
                kept: kept.max(fresh.saturating_add(stale)).min(millis(LONGEST)),
                took,
            },
            weight: Entry::weight(key, &tags, etag.as_deref(), size),
            tags,
            etag,
            value: value.map(|value| value as Value),
            valid_at: AtomicU64::new(0),
        };
        Ok(Made {
            entry: Arc::new(made),
            // Without a log nobody could say when it has become invalid.
            bytes: bytes.filter(|_| stamp.epoch != 0),
            outcome,
        })
    }

    fn write(&self, value: &V) -> Option<Vec<u8>> {
        match codec::write_value(value, self.0.levels.max_value()) {
            Ok(bytes) => Some(bytes),
            Err(codec::Unwritten::Large) => {
                self.0.metrics.unkept(Level::L1, "large");
                None
            }
            Err(codec::Unwritten::Odd(error)) => {
                tracing::debug!(space = self.0.name, %error, "a value cannot be cached");
                self.0.metrics.unkept(Level::L1, "refused");
                None
            }
        }
    }

    pub(super) fn fill_memory(&self, entry: &Arc<Entry>) {
        let lasts = lasts(entry, self.0.options.memory);
        if !lasts.is_zero() {
            let l1 = self.0.levels.l1();
            l1.put(entry, lasts);
            self.0.metrics.filled(Level::L1);
            self.0.metrics.all().holds(Level::L1, l1.bytes());
        }
    }

    /// Puts an entry into Redis and Postgres; with a fence, into Redis only if the key's lock is still held by it.
    pub(super) async fn fill_below(&self, entry: &Arc<Entry>, value: &[u8], fence: Option<&str>) {
        let below = !self.0.options.redis.is_zero() && self.0.levels.l2().is_some()
            || !self.0.options.postgres.is_zero() && self.0.levels.l3().is_some();
        if !below {
            return;
        }
        match codec::write(entry, value, self.0.options.version) {
            Ok(bytes) => {
                self.fill_redis(entry, &bytes, fence).await;
                self.fill_postgres(entry, &bytes).await;
            }
            Err(error) => tracing::debug!(space = self.0.name, %error, "an entry cannot be written"),
        }
    }

    pub(super) async fn fill_redis(&self, entry: &Entry, bytes: &[u8], fence: Option<&str>) {
        let lasts = lasts(entry, self.0.options.redis);
        let Some(l2) = self.0.levels.l2().filter(|_| !lasts.is_zero()) else {
            return;
        };
        let metrics = &self.0.metrics;
        match l2.put(&entry.key, bytes, lasts, fence).await {
            Ok(put) => {
                metrics.all().holds(Level::L2, put.total);
                metrics.all().evicted(Level::L2).inc_by(put.evicted);
                if put.kept {
                    metrics.filled(Level::L2);
                } else {
                    metrics.unkept(Level::L2, "refused");
                }
            }
            Err(away) => metrics.unkept(Level::L2, why(away)),
        }
    }

    async fn fill_postgres(&self, entry: &Entry, bytes: &[u8]) {
        let lasts = lasts(entry, self.0.options.postgres);
        let Some(l3) = self.0.levels.l3().filter(|_| !lasts.is_zero()) else {
            return;
        };
        let metrics = &self.0.metrics;
        match l3.put(&entry.key, entry.stamp.asked_at, bytes, lasts).await {
            Ok(true) => metrics.filled(Level::L3),
            Ok(false) => metrics.unkept(Level::L3, "refused"),
            Err(away) => metrics.unkept(Level::L3, why(away)),
        }
    }
}

fn why(away: Away) -> &'static str {
    match away {
        Away::Away => "away",
        Away::Slow => "slow",
    }
}

fn millis(time: Duration) -> u64 {
    time.min(LONGEST).as_millis() as u64
}

/// How long a level is to have an entry.
fn lasts(entry: &Entry, level: Duration) -> Duration {
    let left = entry.times.left(entry.stamp.asked_at, now());
    level.min(Duration::from_millis(left))
}
