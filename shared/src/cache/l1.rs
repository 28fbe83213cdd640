//! The first level: this process's memory, bounded in bytes over all spaces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;
use prometheus_client::metrics::counter::Counter;

use super::entry::Entry;
use super::key::Digest;

/// An entry and for how long this level gives it.
#[derive(Clone)]
struct Held {
    entry: Arc<Entry>,
    lasts: Duration,
}

/// Ends an entry when its time is over.
struct Ends;

impl Expiry<Digest, Held> for Ends {
    fn expire_after_create(&self, _: &Digest, held: &Held, _: Instant) -> Option<Duration> {
        Some(held.lasts)
    }

    fn expire_after_update(
        &self,
        _: &Digest,
        held: &Held,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.lasts)
    }
}

/// The level.
pub(super) struct L1 {
    entries: Cache<Digest, Held>,
    /// Bytes of what is in it, those included that the policy has not looked at yet.
    bytes: Arc<AtomicU64>,
    /// Most of them.
    most: u64,
}

impl L1 {
    /// An empty one of at most so many bytes; `evicted` counts what has to go before its time.
    pub(super) fn new(most: u64, evicted: Counter) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&bytes);
        let entries = Cache::builder()
            .max_capacity(most)
            .weigher(|_, held: &Held| held.entry.weight)
            .expire_after(Ends)
            .eviction_listener(move |_, held: Held, cause| {
                left.fetch_sub(u64::from(held.entry.weight), Ordering::Relaxed);
                if cause == RemovalCause::Size {
                    evicted.inc();
                }
            })
            .build();
        Self { entries, bytes, most }
    }

    pub(super) fn get(&self, key: &Digest) -> Option<Arc<Entry>> {
        self.entries.get(key).map(|held| held.entry)
    }

    /// Puts an entry for so long, unless a later one is there.
    pub(super) fn put(&self, entry: &Arc<Entry>, lasts: Duration) {
        let weight = u64::from(entry.weight);
        if lasts.is_zero() || weight > self.most {
            return;
        }
        let held = Held {
            entry: Arc::clone(entry),
            lasts,
        };
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        let mut put = false;
        let place = self.entries.entry_by_ref(&entry.key.digest);
        place.and_compute_with(|there| {
            let later = there.is_some_and(|there| {
                let (there, ours) = (there.value().entry.stamp, entry.stamp);
                there.epoch == ours.epoch && there.asked_at > ours.asked_at
            });
            put = !later;
            if later { Op::Nop } else { Op::Put(held) }
        });
        if !put {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        // The policy evicts some time later. Who puts more than that can wait for does its work.
        if self.bytes() > self.most {
            self.entries.run_pending_tasks();
        }
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::early::Times;
    use crate::cache::entry::Stamp;
    use crate::cache::key::Key;

    const LONG: Duration = Duration::from_secs(60);

    fn entry(n: usize, asked_at: u64, bytes: usize) -> Arc<Entry> {
        let key = Key::new("s", None, &n.to_string()).unwrap();
        Arc::new(Entry {
            weight: Entry::weight(&key, &[], None, bytes),
            key,
            stamp: Stamp {
                asked_at,
                seen: 0,
                epoch: 1,
            },
            times: Times {
                fresh: 1,
                stale: 0,
                kept: 1,
                took: 0,
            },
            tags: Box::default(),
            etag: None,
            value: None,
            valid_at: AtomicU64::new(0),
        })
    }

    #[test]
    fn its_bytes_are_bounded_whatever_is_put() {
        const MOST: u64 = 1 << 20;
        let evicted = Counter::default();
        let l1 = Arc::new(L1::new(MOST, evicted.clone()));
        let largest = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let l1 = Arc::clone(&l1);
                    scope.spawn(move || {
                        let mut largest = 0;
                        for n in 0..5_000 {
                            // Of all sizes, and some of them again and again.
                            l1.put(
                                &entry(thread * 3_000 + n % 4_000, n as u64, n * 37 % 10_000),
                                LONG,
                            );
                            largest = largest.max(l1.bytes());
                        }
                        largest
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .max()
                .unwrap()
        });
        assert!(largest <= MOST + MOST / 20, "{largest}");
        assert!(evicted.get() > 0);
        // What it says it holds is what it holds.
        l1.entries.run_pending_tasks();
        let held: u64 = l1
            .entries
            .iter()
            .map(|(_, held)| u64::from(held.entry.weight))
            .sum();
        assert_eq!(l1.bytes(), held);
        assert!(held > MOST / 2, "{held}");
    }

    #[test]
    fn the_later_one_stays() {
        let l1 = L1::new(1 << 20, Counter::default());
        let [old, new] = [entry(1, 10, 10), entry(1, 20, 10)];
        l1.put(&new, LONG);
        l1.put(&old, LONG);
        assert!(Arc::ptr_eq(&l1.get(&new.key.digest).unwrap(), &new));
        l1.entries.run_pending_tasks();
        assert_eq!(l1.bytes(), u64::from(new.weight));
    }

    #[test]
    fn what_is_larger_than_all_is_not_put() {
        let l1 = L1::new(10_000, Counter::default());
        l1.put(&entry(1, 10, 20_000), LONG);
        l1.put(&entry(2, 10, 10), Duration::ZERO);
        assert_eq!(l1.bytes(), 0);
    }
}
