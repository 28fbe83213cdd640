//! Looks for a key in all levels and fetches it where it is not, once for all who want it.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use super::answer::{Fetched, Got, Known, Place};
use super::early::Standing;
use super::entry::{Entry, Stamp, Wants, now};
use super::flight::{Boarded, Lead};
use super::key::Key;
use super::space::{Space, Usable};
use crate::failure::Failure;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct Unfetched {
    /// What went wrong.
    pub failure: Failure,
    /// It went wrong for somebody else whose fetch was waited for: what is only theirs, such as a budget, says nothing of
    /// who waited.
    pub joined: bool,
}

impl From<Unfetched> for Failure {
    fn from(unfetched: Unfetched) -> Self {
        unfetched.failure
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Space<V> {
    /// The answer to a key: from the first level that has one that may be used, else from `fetch`, which is given what is
    /// known. Of all who want the same key at the same time one fetches, and goes on fetching when whoever wanted it has
    /// gone. An answer that is near its end, or over it where the space allows that, is given at once and fetched anew in
    /// the background.
    ///
    /// # Errors
    /// The fetch failed, panicked or took too long. No level can make it fail.
    pub async fn get_or_fetch<F, Fut>(&self, key: &Key, wants: Wants, fetch: F) -> Result<Got<V>, Unfetched>
    where
        F: FnOnce(Option<Known<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched<V>, Failure>> + Send + 'static,
    {
        let mut known = None;
        if let Some(usable) = self.in_memory(key, wants, &mut known) {
            return Ok(self.give(key, usable, fetch));
        }
        let (levels, metrics) = (&self.0.levels, &self.0.metrics);
        let mut vain = None;
        loop {
            let stamp = levels.log().stamp();
            let will_do = |begun: Stamp| {
                let log = levels.log();
                wants.allow(begun.asked_at, now()) && log.may_join(&key.digest, begun)
            };
            let (landed, id, is_over) = match levels.flights().enter(&key.digest, stamp, vain, will_do) {
                Boarded::Wait { landed, id, is_over } => (landed, id, is_over),
                Boarded::Lead(lead) => return self.lead(lead, key, wants, known, fetch).await,
            };
            match landed.await {
                Ok(Ok((entry, from))) if self.will_do(&entry, wants, is_over || from != Place::Fetched) => {
                    metrics.joined();
                    return Ok(Self::got(entry, Place::Flight));
                }
                // It became invalid while it was on its way, or is not as young as it must be.
                Ok(Ok(_)) => vain = Some(id),
                Ok(Err(failure)) => {
                    metrics.joined();
                    return Err(Unfetched {
                        failure,
                        joined: true,
                    });
                }
                // Whoever looked has gone before there was anything to fetch.
                Err(_) => {}
            }
        }
    }

    /// Gives an entry, and refreshes it if it is time.
    fn give<F, Fut>(&self, key: &Key, usable: Usable, fetch: F) -> Got<V>
    where
        F: FnOnce(Option<Known<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched<V>, Failure>> + Send + 'static,
    {
        let Usable {
            entry,
            standing,
            from,
        } = usable;
        let why = match standing {
            Standing::Early => "early",
            Standing::Stale => "stale",
            Standing::Fresh | Standing::Ended => return Self::got(entry, from),
        };
        let levels = &self.0.levels;
        // Whoever finds no place leaves it to the next one.
        if let Ok(permit) = levels.refreshes().try_acquire_owned()
            && let Boarded::Lead(lead) =
                levels
                    .flights()
                    .enter(&key.digest, levels.log().stamp(), None, |begun| {
                        begun.asked_at > entry.stamp.asked_at
                    })
        {
            self.0.metrics.refreshing(why);
            let (space, key, old) = (self.clone(), key.clone(), Arc::clone(&entry));
            let refresh = async move {
                let _permit = permit;
                space
                    .fly(lead, key, Wants::default(), Some(old), true, fetch)
                    .await;
            };
            tokio::spawn(refresh.in_current_span());
        }
        Self::got(entry, from)
    }

    /// Looks below memory, and fetches.
    async fn lead<F, Fut>(
        &self,
        mut lead: Lead,
        key: &Key,
        wants: Wants,
        mut known: Option<Arc<Entry>>,
        fetch: F,
    ) -> Result<Got<V>, Unfetched>
    where
        F: FnOnce(Option<Known<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched<V>, Failure>> + Send + 'static,
    {
        if let Some(usable) = self.below(key, wants, &mut known).await {
            lead.land(Ok((Arc::clone(&usable.entry), usable.from)));
            drop(lead);
            return Ok(self.give(key, usable, fetch));
        }
        let landed = lead.landed.clone();
        let (space, key) = (self.clone(), key.clone());
        let flight = async move { space.fly(lead, key, wants, known, false, fetch).await };
        tokio::spawn(flight.in_current_span());
        match landed.await {
            Ok(Ok((entry, from))) => Ok(Self::got(entry, from)),
            Ok(Err(failure)) => Err(Unfetched {
                failure,
                joined: false,
            }),
            // The runtime is ending.
            Err(_) => Err(Unfetched {
                failure: Failure::transient("cancelled", "the fetch was given up"),
                joined: false,
            }),
        }
    }
}
