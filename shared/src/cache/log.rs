//! What has become invalid, as far as this process has heard: every entry is held against it whenever it is read.
//!
//! Invalidations lie in a bucket of NATS, where each has a revision: one order for the whole fleet. An entry carries the
//! last revision that its maker had heard of when the fetch began. One that matches it and is later makes it invalid,
//! whoever put it where and when: no race between a put and an invalidation, and no clock, can bring it back. While the
//! log is not heard of for some seconds, nothing is valid.

mod listen;
pub(super) mod publish;
mod record;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::early::SKEW;
use super::entry::{Entry, Stamp, now};
use super::key::Digest;
use super::pattern::Pattern;
pub(super) use listen::listen;
use record::Record;
pub use record::What;

/// For how long an invalidation is remembered: longer than any entry is kept.
pub const REMEMBERED: Duration = Duration::from_secs(25 * 3600);
/// Invalidations of keys and tags from which the older half is folded into one revision: what is older than that is
/// invalid altogether. A process holds at most twice as many.
pub(super) const MANY: usize = 50_000;
/// Most patterns at a time: each entry is matched with all of them when news arrive.
pub const MAX_PATTERNS: usize = 256;
/// How often what has lapsed is forgotten.
const PRUNED_EVERY: Duration = Duration::from_secs(60);

/// When something became invalid.
#[derive(Debug, Clone, Copy)]
struct Mark {
    revision: u64,
    /// Milliseconds since the Unix epoch, by the clock of whoever said so.
    at: u64,
}

impl Mark {
    fn is_after(self, stamp: Stamp) -> bool {
        // The clock says nothing unless revisions are wrong: a log that was restored from a backup counts them twice.
        self.revision > stamp.seen || self.at > stamp.asked_at.saturating_add(SKEW)
    }
}

#[derive(Debug, Default)]
struct Known {
    /// Which log this is.
    epoch: u64,
    /// Everything up to here has been heard.
    seen: u64,
    /// Entries whose maker had not heard of this revision are invalid.
    floor: u64,
    /// Counts the changes of all this.
    version: u64,
    keys: HashMap<Digest, Mark>,
    tags: HashMap<Box<str>, Mark>,
    patterns: HashMap<Pattern, Mark>,
    pruned: u64,
}

impl Known {
    fn invalidates(&self, entry: &Entry) -> bool {
        let stamp = entry.stamp;
        let of = |mark: Option<&Mark>| mark.is_some_and(|mark| mark.is_after(stamp));
        stamp.epoch != self.epoch
            || stamp.seen < self.floor
            || of(self.keys.get(&entry.key.digest))
            || (!self.tags.is_empty() && entry.tags.iter().any(|tag| of(self.tags.get(tag))))
            || self
                .patterns
                .iter()
                .any(|(pattern, mark)| mark.is_after(stamp) && pattern.matches(entry.key.as_str()))
    }

    fn retain(&mut self, stays: impl Fn(&Mark) -> bool) {
        self.keys.retain(|_, mark| stays(mark));
        self.tags.retain(|_, mark| stays(mark));
        self.patterns.retain(|_, mark| stays(mark));
    }

    /// Everything up to a revision becomes one.
    fn fold(&mut self, revision: u64) {
        self.floor = self.floor.max(revision);
        let floor = self.floor;
        self.retain(|mark| mark.revision > floor);
    }

    fn apply(&mut self, revision: u64, record: Record) {
        self.version += 1;
        // A clock that is far ahead must not make invalid what is fetched later.
        let mark = |at: u64| Mark {
            revision,
            at: at.min(now() + SKEW),
        };
        let later = |there: &mut Mark, mark: Mark| {
            if there.revision < mark.revision {
                *there = mark;
            }
        };
        match record {
            Record::Key { key, at } => later(self.keys.entry(key).or_insert(mark(at)), mark(at)),
            Record::Tag { tag, at } => later(self.tags.entry(tag).or_insert(mark(at)), mark(at)),
            Record::Pattern { pattern, .. } if pattern.is_everything() => self.fold(revision),
            Record::Pattern { pattern, at } => {
                later(self.patterns.entry(pattern).or_insert(mark(at)), mark(at));
            }
            Record::Floor { revision: floor } => self.fold(floor.min(revision)),
        }
        // Whoever says them folds them long before; who does not is not let fill our memory.
        if self.keys.len() + self.tags.len() > 2 * MANY {
            let median = median(self.keys.values().chain(self.tags.values()));
            self.fold(median);
        }
        if self.patterns.len() > 2 * MAX_PATTERNS {
            let median = median(self.patterns.values());
            self.fold(median);
        }
    }

    fn prune(&mut self, now: u64) {
        if now.saturating_sub(self.pruned) >= PRUNED_EVERY.as_millis() as u64 {
            self.pruned = now;
            let lapsed = now.saturating_sub(REMEMBERED.as_millis() as u64);
            self.retain(|mark| mark.at >= lapsed);
        }
    }
}

/// The revision before which half of these are.
fn median<'a>(marks: impl Iterator<Item = &'a Mark>) -> u64 {
    let mut revisions: Vec<u64> = marks.map(|mark| mark.revision).collect();
    let middle = revisions.len() / 2;
    *revisions.select_nth_unstable(middle).1
}

/// What one process has heard.
#[derive(Debug)]
pub(super) struct Log {
    known: RwLock<Known>,
    /// Of `known`, to be read without a lock.
    version: AtomicU64,
    start: Instant,
    /// Milliseconds from `start` to when it was last sure that all has been heard, and 1; 0 for never.
    heard_at: AtomicU64,
    deaf_after: Duration,
    /// The last revision that has been heard, once all before it have.
    heard: watch::Sender<Option<u64>>,
}

impl Log {
    pub(super) fn new(deaf_after: Duration) -> Self {
        Self {
            known: RwLock::default(),
            version: AtomicU64::new(0),
            start: Instant::now(),
            heard_at: AtomicU64::new(0),
            deaf_after,
            heard: watch::Sender::new(None),
        }
    }

    /// What an entry carries whose fetch begins now.
    pub(super) fn stamp(&self) -> Stamp {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Stamp {
            asked_at: now(),
            seen: known.seen,
            epoch: known.epoch,
        }
    }

    /// Whether all that was said until some seconds ago has been heard. If not, nothing is valid.
    pub(super) fn is_heard(&self) -> bool {
        let heard_at = self.heard_at.load(Ordering::Acquire);
        heard_at != 0 && self.elapsed().saturating_sub(heard_at) <= self.deaf_after.as_millis() as u64
    }

    /// Waits until it is.
    pub(super) async fn wait_heard(&self) {
        let mut heard = self.heard.subscribe();
        // The sender lives as long as this.
        let _ = heard.wait_for(|heard| heard.is_some() && self.is_heard()).await;
    }

    /// Waits until a revision has been heard.
    async fn wait_for(&self, revision: u64) {
        let mut heard = self.heard.subscribe();
        let _ = heard
            .wait_for(|heard| heard.is_some_and(|heard| heard >= revision))
            .await;
    }

    /// Whether nothing that has been heard makes this entry invalid.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if version != 0 && entry.valid_at.load(Ordering::Relaxed) == version {
            return true;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let holds = entry.stamp.epoch != 0 && !known.invalidates(entry);
        if holds {
            entry.valid_at.store(known.version, Ordering::Relaxed);
        }
        holds
    }

    /// Whether a fetch that began at this stamp may still be joined: its key was not said to be invalid since, as far as
    /// that has been heard; tags and patterns are known when it ends. While nothing is heard, only for as long as what was
    /// heard would count.
    pub(super) fn may_join(&self, key: &Digest, begun: Stamp) -> bool {
        let young = now().saturating_sub(begun.asked_at) <= self.deaf_after.as_millis() as u64;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (young || self.is_heard())
            && begun.epoch == known.epoch
            && begun.seen >= known.floor
            && known.keys.get(key).is_none_or(|mark| !mark.is_after(begun))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut known);
        self.version.store(known.version, Ordering::Release);
        done
    }

    /// Begins to listen to a log of which `last` is the last revision; gives the first one that is to be heard. What was
    /// known of another log, or of one that had more, is forgotten.
    fn attach(&self, epoch: u64, last: u64) -> u64 {
        let (from, anew) = self.change(|known| {
            let anew = known.epoch != epoch || known.seen > last;
            if anew {
                *known = Known {
                    epoch,
                    version: known.version + 1,
                    ..Known::default()
                };
            }
            (known.seen + 1, anew)
        });
        if anew {
            self.heard_at.store(0, Ordering::Release);
            self.heard.send_replace(None);
        }
        from
    }

    /// One invalidation, in order.
    fn take(&self, revision: u64, payload: &[u8]) {
        let record = Record::read(payload).unwrap_or_else(|why| {
            tracing::warn!(
                revision,
                why,
                "an invalidation cannot be read: it is taken for all entries"
            );
            Record::Floor { revision }
        });
        let last = self.change(|known| {
            known.apply(revision, record);
            known.seen = known.seen.max(revision);
            known.prune(now());
            known.seen
        });
        self.heard.send_if_modified(|heard| {
            let known = heard.is_some();
            if known {
                *heard = Some(last);
            }
            known
        });
    }

    /// All that there is has been heard.
    fn in_step(&self) {
        let seen = self.change(|known| {
            known.prune(now());
            known.seen
        });
        self.heard_at.store(self.elapsed(), Ordering::Release);
        self.heard.send_replace(Some(seen));
    }

    /// What this process itself has said, before it is heard; then waits a moment until it is, so that what is fetched from
    /// now on is younger.
    pub(super) async fn said(&self, revision: u64, what: &What) {
        self.change(|known| known.apply(revision, Record::of(what, now())));
        let _ = tokio::time::timeout(Duration::from_millis(500), self.wait_for(revision)).await;
    }

    fn elapsed(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }
}

#[cfg(test)]
mod tests;
