//! What is learnt of accesses, in bounded memory.

use super::access::{Access, LONGEST_FETCH_MS};
use super::bounded::Bounded;
use super::decay::Decayed;
use super::follow::{Followers, Trail};
use super::predict::{self, Prediction};
use super::rhythm::Rhythm;

/// Half-life of a key's frequency.
pub(super) const HALF_LIFE_MS: u64 = 3_600_000;
/// How much one more fetch changes what a key's fetches are thought to take.
const FETCH_WEIGHT: f32 = 0.2;

/// How much may be remembered of one service: whoever warms several divides it. The defaults are seven eighths of a power of two, which is what a hash map of that size
/// holds; full, they take 80 MB, and 90 MB while they grow (`cargo bench -p scheduler --bench warm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Keys.
    pub keys: usize,
    /// Trails: of one actor within one repository each.
    pub trails: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            keys: 114_688,
            trails: 28_672,
        }
    }
}

/// What is known of a key.
#[derive(Debug, Default)]
pub struct Known {
    /// How often it was asked for lately; half-life [`HALF_LIFE_MS`].
    pub(super) recent: Decayed,
    /// How often it was asked for since it is known.
    pub seen: u32,
    /// Until when it is in the cache, in ms since the epoch, as far as can be told.
    pub cached_until_ms: u64,
    /// What fetching it takes, in ms.
    pub(super) fetch_ms: f32,
    /// When of day and week it is asked for.
    pub(super) rhythm: Box<Rhythm>,
    /// What is asked for after it.
    pub(super) followers: Option<Box<Followers>>,
}

/// Everything that was learnt of one service's cache.
#[derive(Debug)]
pub struct Model {
    keys: Bounded<Known>,
    trails: Bounded<Trail>,
    ttl_ms: u64,
}

impl Model {
    /// Knows nothing. What is fetched stays in the cache for `ttl_ms`.
    pub fn new(bounds: Bounds, ttl_ms: u64) -> Self {
        Self {
            keys: Bounded::new(bounds.keys),
            trails: Bounded::new(bounds.trails),
            ttl_ms,
        }
    }

    /// Learns from an access, whose time must be [plausible](super::access::plausible), and tells `then` what is likely to
    /// follow it.
    pub fn learn(&mut self, access: &Access, then: impl FnMut(Prediction)) {
        let (key, at_ms) = (access.key, access.at_ms);
        let known = self.keys.touch(key, at_ms);
        known.recent.add(at_ms, HALF_LIFE_MS);
        known.seen = known.seen.saturating_add(1);
        known.rhythm.note(at_ms);
        if let Some(took) = access.fetch_ms {
            known.fetched(at_ms.saturating_add(self.ttl_ms), took);
        }
        let Some(trail) = trail(access) else { return };
        let step = self.trails.touch(trail, at_ms).step(key, at_ms);
        for before in step.after.into_iter().flatten() {
            if let Some(followers) = self
                .keys
                .get_mut(before)
                .and_then(|known| known.followers.as_mut())
            {
                followers.follow(key);
            }
        }
        if step.begins
            && let Some(known) = self.keys.get_mut(key)
        {
            let followers = known.followers.get_or_insert_default();
            followers.begin();
            predict::follows(followers).for_each(then);
        }
    }

    /// Notes a fetch that nobody asked for. A key that is not known stays so.
    pub fn fetched(&mut self, access: &Access) {
        let until_ms = access.at_ms.saturating_add(self.ttl_ms);
        if let (Some(known), Some(took_ms)) = (self.keys.get_mut(access.key), access.fetch_ms) {
            known.fetched(until_ms, took_ms);
        }
    }

    /// The cache was lost: nothing is in it any more.
    pub fn forget_cached(&mut self) {
        for known in self.keys.values_mut() {
            known.cached_until_ms = 0;
        }
    }

    /// What is known of a key.
    pub fn known(&self, key: u64) -> Option<&Known> {
        self.keys.get(key)
    }

    /// Every key that is known, in no order.
    pub fn keys(&self) -> impl Iterator<Item = (u64, &Known)> {
        self.keys.iter()
    }

    /// How many keys and trails are known.
    pub fn size(&self) -> (usize, usize) {
        (self.keys.len(), self.trails.len())
    }
}

impl Known {
    fn fetched(&mut self, until_ms: u64, took_ms: u32) {
        self.cached_until_ms = self.cached_until_ms.max(until_ms);
        let took = took_ms.min(LONGEST_FETCH_MS) as f32;
        self.fetch_ms = if self.fetch_ms > 0.0 {
            self.fetch_ms + FETCH_WEIGHT * (took - self.fetch_ms)
        } else {
            took
        };
    }
}

/// Whose steps an access is one of: those of an actor within a repository, so that what one tenant does in many places at
/// once is not mixed up. Neither is known: nobody's.
fn trail(access: &Access) -> Option<u64> {
    let Access {
        actor, repository, ..
    } = access;
    // An odd factor and a rotation: two ids that are swapped, or equal, are not taken for others.
    let spread = |id: u64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    match (actor, repository) {
        (None, None) => None,
        (actor, repository) => Some(spread(actor.unwrap_or(0)) ^ repository.unwrap_or(0)),
    }
}
