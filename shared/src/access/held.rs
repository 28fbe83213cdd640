//! What of one service is noted and not yet written. Bounded, whatever is asked for.

use std::collections::HashSet;

use super::{Access, Digest, What};

/// Most accesses held: at 5 s between two flushes room for 13,000 a second. 4 MiB.
pub(super) const MOST: usize = 65_536;
/// Most keys with what to fetch for them, and most bytes of that.
pub(super) const MOST_KEYS: usize = 1_000;
const MOST_BYTES: usize = 1 << 20;
/// Most keys in a generation of those that were written.
const GENERATION: usize = 32_768;
/// What is kept of a key beside its name and its request, about.
const OVERHEAD: usize = 128;

/// Whether a key must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// It was lately.
    Known,
    /// It was not, and is expected now.
    New,
    /// It was not, and there is no room for it.
    NoRoom,
}

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Held {
    accesses: Vec<Access>,
    keys: Vec<(Digest, What)>,
    /// Of those that are on their way, too.
    told: usize,
    bytes: usize,
    /// Keys that were told in this generation and in the one before.
    known: [HashSet<u64>; 2],
}

impl Held {
    /// Holds an access; `None` where there is no room.
    pub(super) fn hold(&mut self, access: Access) -> Option<Key> {
        if self.accesses.len() >= MOST {
            return None;
        }
        self.accesses.push(access);
        if self.known.iter().any(|known| known.contains(&access.key)) {
            return Some(Key::Known);
        }
        if self.told >= MOST_KEYS || self.bytes >= MOST_BYTES {
            return Some(Key::NoRoom);
        }
        if self.known[0].len() >= GENERATION {
            self.age();
        }
        self.known[0].insert(access.key);
        self.told += 1;
        Some(Key::New)
    }

    /// Holds what to fetch for a key that was [`Key::New`].
    pub(super) fn tell(&mut self, key: Digest, what: What) {
        self.bytes += what.name.len() + what.request.len() + OVERHEAD;
        self.keys.push((key, what));
    }

    /// Forgets those of the generation before, so that they are told again.
    pub(super) fn age(&mut self) {
        self.known.swap(0, 1);
        self.known[0].clear();
    }

    /// Forgets that these keys were told.
    pub(super) fn forget(&mut self, keys: impl Iterator<Item = u64>) {
        for key in keys {
            for known in &mut self.known {
                known.remove(&key);
            }
        }
    }

    /// All that is held, which then is nothing.
    pub(super) fn take(&mut self) -> (Vec<Access>, Vec<(Digest, What)>) {
        (self.told, self.bytes) = (0, 0);
        let next = Vec::with_capacity(self.accesses.len().min(MOST / 8));
        let accesses = std::mem::replace(&mut self.accesses, next);
        (accesses, std::mem::take(&mut self.keys))
    }
}
