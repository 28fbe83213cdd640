//! One kind of cached things: their type, how long they last in which level, and how they are looked up and put.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{Fetched, Got, Known, Looked, Place};
use super::early::Standing;
use super::entry::{Entry, Stamp, Wants, now};
use super::gate::Away;
use super::key::{BadKey, Key};
use super::metrics::{Level, Outcome, SpaceMetrics};
use super::options::Options;
use super::{Levels, codec};
use crate::event::Tenant;
use crate::failure::Failure;

/// Of this many look-ups in memory one is timed.
const TIMED: u64 = 64;

/// A space; clones are the same one.
pub struct Space<V>(pub(super) Arc<Inner<V>>);

pub(super) struct Inner<V> {
    pub(super) name: String,
    pub(super) options: Options<V>,
    pub(super) levels: Levels,
    pub(super) metrics: SpaceMetrics,
}

impl<V> Clone for Space<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for Space<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({})", self.0.name)
    }
}

/// An entry that can be used, and where it was.
pub(super) struct Usable {
    pub(super) entry: Arc<Entry>,
    pub(super) standing: Standing,
    pub(super) from: Place,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Space<V> {
    /// The key of a name in this space, as one tenant's or as nobody's.
    ///
    /// # Errors
    /// The name is empty or longer than [`MAX_NAME`](super::MAX_NAME): it is not cached.
    pub fn key(&self, tenant: Option<&Tenant>, name: &str) -> Result<Key, BadKey> {
        Key::within(&self.0.name, tenant, name)
    }

    /// To be called before something is asked for that is then [`put`](Self::put).
    pub fn stamp(&self) -> Stamp {
        self.0.levels.log().stamp()
    }

    /// Looks for a key in all levels and fetches nothing.
    pub async fn look(&self, key: &Key, wants: Wants) -> Looked<V> {
        let mut known = None;
        let mut found = self.in_memory(key, wants, &mut known);
        if found.is_none() {
            found = self.below(key, wants, &mut known).await;
        }
        match found {
            Some(usable) => Looked::Usable(Self::got(usable.entry, usable.from)),
            None => known.and_then(Self::known).map_or(Looked::Nothing, Looked::Known),
        }
    }

    /// Keeps what was found since `stamp`: for who fetches several things at once, and so not by
    /// [`get_or_fetch`](Self::get_or_fetch). `known` is what the question was asked with.
    ///
    /// # Errors
    /// Unchanged is what nobody knows.
    pub async fn put(
        &self,
        key: &Key,
        stamp: Stamp,
        found: Fetched<V>,
        known: Option<&Known<V>>,
    ) -> Result<Got<V>, Failure> {
        let took = now().saturating_sub(stamp.asked_at);
        let made = self.make(key, stamp, found, known.map(|known| &known.entry), took)?;
        self.0.metrics.fetched(made.outcome);
        if let Some(bytes) = &made.bytes {
            self.fill_memory(&made.entry);
            self.fill_below(&made.entry, bytes, None).await;
        }
        Ok(Self::got(made.entry, Place::Fetched))
    }

    pub(super) fn got(entry: Arc<Entry>, from: Place) -> Got<V> {
        Got {
            value: value(&entry),
            from,
            entry,
        }
    }

    pub(super) fn known(entry: Arc<Entry>) -> Option<Known<V>> {
        value(&entry).map(|value| Known { value, entry })
    }

    /// Whether an entry can be used, and why not.
    fn judge(&self, entry: &Entry, wants: Wants) -> Result<Standing, Outcome> {
        let log = self.0.levels.log();
        if !log.is_heard() {
            return Err(Outcome::Deaf);
        }
        if !log.holds(entry) {
            return Err(Outcome::Invalidated);
        }
        let (now, beta) = (now(), self.0.options.beta);
        let die = if beta > 0.0 && entry.times.took > 0 {
            rand::random()
        } else {
            0.0
        };
        match entry.times.standing(entry.stamp.asked_at, now, beta, die) {
            Standing::Ended => Err(Outcome::Expired),
            _ if !wants.allow(entry.stamp.asked_at, now) => Err(Outcome::Expired),
            standing => Ok(standing),
        }
    }

    /// Whether a fetch that others began will do for somebody who came later.
    pub(super) fn will_do(&self, entry: &Entry, wants: Wants, is_over: bool) -> bool {
        if is_over {
            self.judge(entry, wants).is_ok()
        } else {
            // Not kept: nothing but its key is known of it.
            let log = self.0.levels.log();
            entry.stamp.epoch == 0 || log.holds(entry)
        }
    }

    pub(super) fn in_memory(
        &self,
        key: &Key,
        wants: Wants,
        known: &mut Option<Arc<Entry>>,
    ) -> Option<Usable> {
        if self.0.options.memory.is_zero() {
            return None;
        }
        let metrics = &self.0.metrics;
        let timed = metrics.reads(Level::L1, Outcome::Hit).is_multiple_of(TIMED);
        let start = timed.then(Instant::now);
        let Some(entry) = self.0.levels.l1().get(&key.digest) else {
            metrics.read(Level::L1, Outcome::Absent);
            return None;
        };
        let usable = self.sort(Level::L1, Place::Memory, entry, wants, known);
        if let Some(start) = start {
            metrics.took(Level::L1, start.elapsed().as_secs_f64());
        }
        usable
    }

    fn sort(
        &self,
        level: Level,
        from: Place,
        entry: Arc<Entry>,
        wants: Wants,
        known: &mut Option<Arc<Entry>>,
    ) -> Option<Usable> {
        // Of two spaces with one name only one has this type.
        let ours = entry.value.as_ref().is_none_or(|value| value.is::<V>());
        let judged = if ours {
            self.judge(&entry, wants)
        } else {
            Err(Outcome::Undecodable)
        };
        match judged {
            Ok(standing) => {
                self.0.metrics.read(level, Outcome::Hit);
                Some(Usable {
                    entry,
                    standing,
                    from,
                })
            }
            Err(why) => {
                self.0.metrics.read(level, why);
                let later = known
                    .as_ref()
                    .is_none_or(|known| known.stamp.asked_at < entry.stamp.asked_at);
                // What was dropped is not asked for by its tag either: it may be wrong and still have the right one.
                if ours && later && why != Outcome::Invalidated {
                    *known = Some(entry);
                }
                None
            }
        }
    }

    /// Looks in Redis and then in Postgres.
    pub(super) async fn below(
        &self,
        key: &Key,
        wants: Wants,
        known: &mut Option<Arc<Entry>>,
    ) -> Option<Usable> {
        let (options, levels) = (&self.0.options, &self.0.levels);
        if let Some(l2) = levels.l2()
            && !options.redis.is_zero()
        {
            let start = Instant::now();
            let bytes = l2.get(key).await;
            if let Some((entry, _)) = self.decode(key, Level::L2, bytes, start)
                && let Some(usable) = self.sort(Level::L2, Place::Redis, entry, wants, known)
            {
                self.fill_memory(&usable.entry);
                return Some(usable);
            }
        }
        if let Some(l3) = levels.l3()
            && !options.postgres.is_zero()
        {
            let start = Instant::now();
            let bytes = l3.get(key).await;
            if let Some((entry, bytes)) = self.decode(key, Level::L3, bytes, start)
                && let Some(usable) = self.sort(Level::L3, Place::Postgres, entry, wants, known)
            {
                self.fill_memory(&usable.entry);
                let (space, entry) = (self.clone(), Arc::clone(&usable.entry));
                tokio::spawn(async move { space.fill_redis(&entry, &bytes, None).await });
                return Some(usable);
            }
        }
        None
    }

    /// What a level gave, as an entry and as it was.
    fn decode(
        &self,
        key: &Key,
        level: Level,
        answer: Result<Option<Vec<u8>>, Away>,
        start: Instant,
    ) -> Option<(Arc<Entry>, Vec<u8>)> {
        let metrics = &self.0.metrics;
        metrics.took(level, start.elapsed().as_secs_f64());
        let why = match answer {
            Ok(Some(bytes)) => match self.read(key, &bytes) {
                Some(entry) => return Some((Arc::new(entry), bytes)),
                None => Outcome::Undecodable,
            },
            Ok(None) => Outcome::Absent,
            Err(Away::Away) => Outcome::Away,
            Err(Away::Slow) => Outcome::Slow,
        };
        metrics.read(level, why);
        None
    }

    fn read(&self, key: &Key, bytes: &[u8]) -> Option<Entry> {
        let options = &self.0.options;
        codec::read::<V>(
            bytes,
            key,
            options.version,
            self.0.levels.max_value(),
            options.weigh,
        )
    }

    /// What Redis has now of a key that another process may be fetching, if it can be used.
    pub(super) async fn put_by_another(&self, key: &Key, wants: Wants) -> Option<Usable> {
        let bytes = self.0.levels.l2()?.get(key).await.ok()??;
        let entry = Arc::new(self.read(key, &bytes)?);
        let standing = self.judge(&entry, wants).ok()?;
        Some(Usable {
            entry,
            standing,
            from: Place::Redis,
        })
    }
}

pub(super) fn value<V: Send + Sync + 'static>(entry: &Entry) -> Option<Arc<V>> {
    Arc::clone(entry.value.as_ref()?).downcast().ok()
}
