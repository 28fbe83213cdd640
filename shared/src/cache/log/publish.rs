//! Says what has become invalid, for all processes of the fleet.

use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::{self, kv};
use futures_util::TryStreamExt;
use tokio::sync::OnceCell;

use super::record::{place, write, write_floor};
use super::{MANY, MAX_PATTERNS, Record, What};
use crate::cache::entry::now;
use crate::config::fleet::Streams;
use crate::topology::{self, TopologyError};

/// Where what is folded is said.
const FLOOR: &str = "floor";
/// Every so many invalidations it is looked whether there are too many.
const LOOKED_EVERY: u64 = 256;

/// Why nothing was invalidated, or nobody knows whether it was: say it again.
#[derive(Debug, thiserror::Error)]
pub enum InvalidateError {
    /// Another pattern than those that there are.
    #[error(
        "there are {MAX_PATTERNS} patterns already, each remembered for a day: name keys or a tag instead"
    )]
    Patterns,
    /// The bucket is not to be had.
    #[error(transparent)]
    Bucket(#[from] TopologyError),
    /// NATS did not confirm it.
    #[error("the cache's invalidation is not confirmed: {0}")]
    Nats(String),
}

impl InvalidateError {
    fn nats(error: impl std::fmt::Display) -> Self {
        Self::Nats(error.to_string())
    }
}

/// The way to the log.
#[derive(Debug)]
pub struct Invalidations {
    js: jetstream::Context,
    streams: Streams,
    bucket: OnceCell<kv::Store>,
    said: AtomicU64,
}

impl Invalidations {
    /// One that asks NATS for nothing yet.
    pub fn new(js: jetstream::Context, streams: Streams) -> Self {
        Self {
            js,
            streams,
            bucket: OnceCell::new(),
            said: AtomicU64::new(0),
        }
    }

    /// Says that something is invalid whose fetch began before now, everywhere; gives the revision. Every process that
    /// hears the log acts on it at once, every other one does not use what it has.
    ///
    /// # Errors
    /// It was not kept, or nobody knows.
    pub async fn publish(&self, what: &What) -> Result<u64, InvalidateError> {
        let bucket = self
            .bucket
            .get_or_try_init(|| topology::cache_bucket(&self.js, &self.streams))
            .await?;
        let place = place(what);
        if let What::Pattern(pattern) = what
            && !pattern.is_everything()
        {
            let info = bucket.stream.info_with_subjects(format!("{}p.>", bucket.prefix));
            let info = info.await.map_err(InvalidateError::nats)?;
            let there: Vec<_> = info.try_collect().await.map_err(InvalidateError::nats)?;
            let known = there.iter().any(|(subject, _)| subject.ends_with(&place));
            if !known && there.len() >= MAX_PATTERNS {
                return Err(InvalidateError::Patterns);
            }
        }
        let revision = bucket
            .put(&place, write(what, now()).into())
            .await
            .map_err(InvalidateError::nats)?;
        if self
            .said
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOOKED_EVERY)
            && let Err(error) = fold(bucket).await
        {
            tracing::warn!(%error, "the log of invalidations is not folded");
        }
        Ok(revision)
    }

    /// How many invalidations are remembered.
    ///
    /// # Errors
    /// NATS does not say.
    pub async fn count(&self) -> Result<u64, InvalidateError> {
        let mut bucket = topology::cache_bucket(&self.js, &self.streams).await?;
        let info = bucket.stream.info().await.map_err(InvalidateError::nats)?;
        Ok(info.state.messages)
    }
}

/// Where there are too many, the older half becomes one revision. That is said before they are taken away, so that nobody
/// knows neither.
async fn fold(bucket: &kv::Store) -> Result<(), InvalidateError> {
    let mut stream = bucket.stream.clone();
    let state = &stream.info().await.map_err(InvalidateError::nats)?.state;
    if state.messages <= MANY as u64 {
        return Ok(());
    }
    let middle = state.first_sequence + (state.last_sequence - state.first_sequence) / 2;
    let there = bucket.entry(FLOOR).await.map_err(InvalidateError::nats)?;
    let (floor, revision) = match there.map(|there| (Record::read(&there.value), there.revision)) {
        Some((Ok(Record::Floor { revision: floor }), revision)) => (floor, revision),
        Some((_, revision)) => (0, revision),
        None => (0, 0),
    };
    let middle = middle.max(floor);
    // Of several who do this at once one gets through.
    bucket
        .update(FLOOR, write_floor(middle).into(), revision)
        .await
        .map_err(InvalidateError::nats)?;
    stream
        .purge()
        .sequence(middle + 1)
        .await
        .map_err(InvalidateError::nats)?;
    Ok(())
}
