//! One fetch, from whose turn it is to where its answer is kept.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Fetched, Known, Place};
use super::entry::{Entry, Wants};
use super::fill::Made;
use super::flight::Lead;
use super::key::Key;
use super::lock::{Lock, Turn};
use super::options::Then;
use super::space::{Space, Usable};
use crate::failure::Failure;

/// The code of a fetch that another process has not finished in time.
pub const IN_FLIGHT: &str = "in_flight";
/// The code of a fetch that panicked.
pub const PANICKED: &str = "fetch_panicked";
/// The code of a fetch that took too long.
pub const TIMED_OUT: &str = "fetch_timed_out";
/// How often it is looked whether another process is done.
const LOOK: Duration = Duration::from_millis(50);

/// What there is to do for the one who leads in this process.
enum Leave {
    /// To fetch, with the fleet's lock if there is one.
    Fetch(Option<Lock>),
    /// Nothing: another process has put it.
    Found(Arc<Entry>),
    /// Nothing: another process is about to refresh it.
    ToThem,
    /// To say that another process has not finished in time.
    Late,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Space<V> {
    /// Fetches a key, tells all who wait for it, and keeps it. `refresh`: `known` is still good, and nobody waits.
    pub(super) async fn fly<F, Fut>(
        self,
        mut lead: Lead,
        key: Key,
        wants: Wants,
        known: Option<Arc<Entry>>,
        refresh: bool,
        fetch: F,
    ) where
        F: FnOnce(Option<Known<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched<V>, Failure>> + Send + 'static,
    {
        let newer_than = known
            .as_ref()
            .filter(|_| refresh)
            .map(|known| known.stamp.asked_at);
        let lock = match self.leave(&key, wants, newer_than).await {
            Leave::Fetch(lock) => lock,
            Leave::Found(entry) => {
                self.fill_memory(&entry);
                return lead.land(Ok((entry, Place::Redis)));
            }
            Leave::ToThem => return,
            Leave::Late => {
                let why = "another process is fetching the same, or has died of it a moment ago";
                let failure = Failure::throttled(IN_FLIGHT, why, Duration::from_secs(1));
                return lead.land(Err(failure));
            }
        };
        let fetched = self.fetch(&key, known, fetch);
        let fetched = match &lock {
            None => fetched.await,
            Some(lock) => tokio::select! {
                fetched = fetched => fetched,
                never = lock.hold() => match never {},
            },
        };
        match fetched {
            Ok(Made {
                entry,
                bytes: Some(bytes),
                ..
            }) => {
                self.fill_memory(&entry);
                lead.land(Ok((Arc::clone(&entry), Place::Fetched)));
                let fence = lock.as_ref().map(|lock| lock.fence.as_str());
                self.fill_below(&entry, &bytes, fence).await;
            }
            Ok(made) => lead.land(Ok((made.entry, Place::Fetched))),
            Err(failure) => lead.land(Err(failure)),
        }
        // Whoever comes from now on finds it in a level, or fetches anew.
        drop(lead);
        if let Some(lock) = lock {
            lock.release().await;
        }
    }

    /// Asks the other side, and makes an entry of what it says.
    async fn fetch<F, Fut>(&self, key: &Key, known: Option<Arc<Entry>>, fetch: F) -> Result<Made, Failure>
    where
        F: FnOnce(Option<Known<V>>) -> Fut,
        Fut: Future<Output = Result<Fetched<V>, Failure>>,
    {
        let longest = self.0.options.longest;
        let asked = async {
            let (stamp, start) = (self.stamp(), Instant::now());
            let given = known.clone().and_then(Self::known);
            let found = match timeout(longest, fetch(given)).await {
                Ok(Ok(found)) => found,
                Ok(Err(failure)) => return Err(("failed", failure)),
                Err(_) => {
                    let why = format_args!("no answer within {longest:?}");
                    return Err(("timed_out", Failure::transient(TIMED_OUT, why)));
                }
            };
            let took = start.elapsed().as_millis() as u64;
            self.make(key, stamp, found, known.as_ref(), took)
                .map_err(|failure| ("failed", failure))
        };
        let asked = AssertUnwindSafe(asked).catch_unwind().await.unwrap_or_else(|_| {
            let why = "the fetch of what was not cached panicked";
            Err(("panicked", Failure::permanent(PANICKED, why)))
        });
        match asked {
            Ok(made) => {
                self.0.metrics.fetched(made.outcome);
                Ok(made)
            }
            Err((outcome, failure)) => {
                self.0.metrics.fetched(outcome);
                Err(failure)
            }
        }
    }

    /// Whose turn it is in the fleet; a refresh waits for nobody.
    async fn leave(&self, key: &Key, wants: Wants, newer_than: Option<u64>) -> Leave {
        let options = &self.0.options;
        let (Some(fleet), Some(l2)) = (options.fleet, self.0.levels.l2()) else {
            return Leave::Fetch(None);
        };
        let until = Instant::now() + fleet.wait;
        loop {
            let turn = Lock::take(l2, key).await;
            if matches!(turn, Turn::Theirs) && newer_than.is_some() {
                return Leave::ToThem;
            }
            let lock = match turn {
                Turn::Ours(lock) => Some(lock),
                Turn::Theirs => None,
                Turn::Unknown => return Leave::Fetch(None),
            };
            // Only who holds the lock can know that nobody has put it meanwhile.
            if let Some(Usable { entry, .. }) = self.put_by_another(key, wants).await
                && newer_than.is_none_or(|known| entry.stamp.asked_at > known)
            {
                if let Some(lock) = lock {
                    lock.release().await;
                }
                return Leave::Found(entry);
            }
            if lock.is_some() {
                return Leave::Fetch(lock);
            }
            if Instant::now() > until {
                return match fleet.then {
                    Then::Fetch => Leave::Fetch(None),
                    Then::Fail => Leave::Late,
                };
            }
            sleep(LOOK).await;
        }
    }
}
