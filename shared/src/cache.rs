//! What was asked before, in three levels: this process's memory, Redis, Postgres.
//!
//! A process has one [`Levels`] and in it a [`Space`] for each kind of thing. [`Space::get_or_fetch`] gives the answer of
//! the first level that has one, or fetches it, once for all who want it. A level that is away, slow or full of rubbish is
//! a miss within a bounded time and never an error. What [`Levels::invalidate`] names is used nowhere any more within a
//! second: see [`What`]. Why it is as it is: `docs/decisions/0015-cache.md`; how to use it: `docs/cache.md`.
//!
//! ```no_run
//! # use shared::cache::{Fetched, Fresh, Levels, Options, Unfetched, Wants};
//! # async fn ask(path: &str, etag: Option<String>) -> Result<Fetched<String>, shared::failure::Failure> { Ok(Fetched::Unchanged(None)) }
//! # async fn example(levels: &Levels) -> Result<(), Box<dyn std::error::Error>> {
//! let reads = levels.space::<String>("github-reads", Options::default())?;
//! let path = "/repos/octo/repo";
//! let answer = reads
//!     .get_or_fetch(&reads.key(None, path)?, Wants::default(), move |known| {
//!         let etag = known.and_then(|known| known.etag().map(str::to_owned));
//!         async move { ask(path, etag).await }
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod codec;
mod early;
mod entry;
mod fetch;
mod fill;
mod flight;
mod fly;
mod gate;
mod key;
mod l1;
mod l2;
mod l3;
mod lock;
mod log;
mod metrics;
mod options;
mod pattern;
mod settings;
mod space;

use std::sync::Arc;

use async_nats::jetstream;
use redis::aio::ConnectionManager;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::config::fleet::Streams;
use flight::Flights;
use l1::L1;
use l2::L2;
use l3::L3;
use log::Log;
use metrics::Level;

pub use answer::{Fetched, Fresh, Got, Known, Looked, Place};
pub use entry::{MAX_TAG, MAX_TAGS, Stamp, Wants};
pub use fetch::Unfetched;
pub use fly::{IN_FLIGHT, PANICKED, TIMED_OUT};
pub use key::{BadKey, Key, MAX_NAME};
pub use l2::size as redis_size;
pub use log::publish::{InvalidateError, Invalidations};
pub use log::{MAX_PATTERNS, REMEMBERED, What};
pub use metrics::{
    BYTES, CacheMetrics, EVICTIONS, FETCHES, FILLS, INTERRUPTED, INVALIDATIONS, JOINED, READS, REFRESHES,
    SECONDS, UNKEPT,
};
pub use options::{Fleet, LONGEST, Options, Then};
pub use pattern::{MAX_PATTERN, Pattern};
pub use settings::Settings;
pub use space::Space;

/// Refreshes in the background at once; entries for which there is no place are refreshed when they are used next.
const REFRESHES_AT_ONCE: usize = 64;

/// What the levels lie on.
#[derive(Debug)]
pub struct Connections {
    /// NATS, which tells what becomes invalid.
    pub client: async_nats::Client,
    /// Its JetStream.
    pub js: jetstream::Context,
    /// How buckets are kept.
    pub streams: Streams,
    /// Redis: a connection of the cache's own, so that nobody's question waits behind a large entry. `None`: no second
    /// level.
    pub redis: Option<ConnectionManager>,
    /// Postgres, with the tables of `shared/migrations`. `None`: no third level.
    pub postgres: Option<PgPool>,
}

/// The cache of one process; clones are the same one. Its tasks end with the last of them.
#[derive(Clone)]
pub struct Levels(Arc<Parts>);

struct Parts {
    settings: Settings,
    l1: L1,
    l2: Option<Arc<L2>>,
    l3: Option<Arc<L3>>,
    log: Arc<Log>,
    invalidations: Invalidations,
    flights: Arc<Flights>,
    refreshes: Arc<Semaphore>,
    metrics: CacheMetrics,
    tasks: Vec<AbortHandle>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl std::fmt::Debug for Levels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Levels({:?})", self.0.settings)
    }
}

impl Levels {
    /// Starts a cache. Waits for no server; until invalidations are heard, all is a miss.
    pub fn start(settings: Settings, connections: Connections, metrics: CacheMetrics) -> Self {
        let Connections {
            client,
            js,
            streams,
            redis,
            postgres,
        } = connections;
        let log = Arc::new(Log::new(settings.deaf_after));
        let l2 = redis
            .filter(|_| settings.redis > 0)
            .map(|redis| Arc::new(L2::new(redis, settings.redis_patience, settings.redis)));
        let l3 = postgres
            .filter(|_| settings.postgres > 0)
            .map(|pool| Arc::new(L3::new(pool, settings.postgres_patience, settings.postgres)));
        let listening = log::listen(
            Arc::clone(&log),
            client,
            js.clone(),
            streams.clone(),
            metrics.clone(),
        );
        let mut tasks = vec![tokio::spawn(listening).abort_handle()];
        if let Some(l3) = &l3 {
            tasks.push(tokio::spawn(tidy(Arc::clone(l3), metrics.clone())).abort_handle());
        }
        Self(Arc::new(Parts {
            l1: L1::new(settings.memory, metrics.evicted(Level::L1)),
            l2,
            l3,
            log,
            invalidations: Invalidations::new(js, streams),
            flights: Arc::default(),
            refreshes: Arc::new(Semaphore::new(REFRESHES_AT_ONCE)),
            metrics,
            settings,
            tasks,
        }))
    }

    /// One kind of things. Two of one name are the same space and must have the same type and options.
    ///
    /// # Errors
    /// The name is none.
    pub fn space<V>(&self, name: &str, options: Options<V>) -> Result<Space<V>, BadKey> {
        key::check_space(name)?;
        Ok(Space(Arc::new(space::Inner {
            name: name.to_owned(),
            options,
            metrics: self.0.metrics.of(name),
            levels: self.clone(),
        })))
    }

    /// Makes invalid what was asked for before now, in every process: whoever hears it, within milliseconds; whoever does
    /// not hear NATS, at the latest after [`Settings::deaf_after`].
    ///
    /// # Errors
    /// It was not said, or nobody knows whether it was: it must be said again.
    pub async fn invalidate(&self, what: &What) -> Result<(), InvalidateError> {
        let revision = self.0.invalidations.publish(what).await?;
        self.0.metrics.said(what.kind());
        self.0.log.said(revision, what).await;
        Ok(())
    }

    /// Whether invalidations are heard: if not, all is a miss.
    pub fn is_heard(&self) -> bool {
        self.0.log.is_heard()
    }

    /// Waits until they are.
    pub async fn heard(&self) {
        self.0.log.wait_heard().await;
    }

    fn log(&self) -> &Log {
        &self.0.log
    }

    fn l1(&self) -> &L1 {
        &self.0.l1
    }

    fn l2(&self) -> Option<&Arc<L2>> {
        self.0.l2.as_ref()
    }

    fn l3(&self) -> Option<&L3> {
        self.0.l3.as_deref()
    }

    fn flights(&self) -> &Arc<Flights> {
        &self.0.flights
    }

    fn refreshes(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.refreshes)
    }

    fn max_value(&self) -> usize {
        self.0.settings.max_value as usize
    }
}

/// Tidies the third level again and again, each process at another time.
async fn tidy(l3: Arc<L3>, metrics: CacheMetrics) {
    let mut pause = l3::TIDIED_EVERY.mul_f64(rand::random());
    let mut told = false;
    loop {
        tokio::time::sleep(pause).await;
        pause = l3::TIDIED_EVERY;
        match l3.tidy().await {
            Ok(tidied) => {
                told = false;
                if let Some(tidied) = tidied {
                    metrics.holds(Level::L3, tidied.bytes);
                    metrics.evicted(Level::L3).inc_by(tidied.evicted);
                }
            }
            Err(error) if !told => {
                tracing::warn!(%error, "the cache in Postgres is not tidied: soon nothing more is put there");
                told = true;
            }
            Err(_) => {}
        }
    }
}
