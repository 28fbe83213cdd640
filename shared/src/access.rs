//! The access log: what was asked of the caches of answers, when, by whom, and where it was found.
//!
//! A worker [notes](Notes::note) every look-up of a key that its [`Share`] takes; [`write`] puts what was noted into Postgres
//! every few seconds, [`pack`]ed, and what to fetch for a key beside it, and [`fold`] makes few rows of many; [`read`] gives it to whoever warms the caches, and
//! [`worth`] tells people what they are worth, hour by hour. Why it is as it is: `docs/decisions/0016-access-log.md`.

pub mod fold;
mod held;
mod metrics;
mod notes;
pub mod pack;
pub mod read;
mod share;
mod what;
pub mod worth;
pub mod write;

use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use metrics::{AccessMetrics, BYTES, DROPPED, NOTED, ROWS, SECONDS};
pub use notes::Notes;
pub use share::Share;
pub use what::{Asked, MAX_NAME, MAX_REQUEST, What};

/// For how long accesses, their sums by hour, and what to fetch are kept.
pub const KEPT: Duration = Duration::from_secs(15 * 86_400);

/// A look-up in a cache, or a fetch that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// When, in ms since the epoch.
    pub at_ms: u64,
    /// What was asked for: the first eight bytes of the key's digest. Two keys of one id share what is learnt of them:
    /// a wasted call at worst, because what to fetch is found by the whole digest.
    pub key: u64,
    /// Who asked (a tenant, a user): any id that is the same for the same one.
    pub actor: Option<u64>,
    /// Which repository it is about.
    pub repository: Option<u64>,
    /// Where it was found.
    pub found: Found,
    /// When a call was made because of it, how long that took, in ms: a miss, or a refresh behind a hit.
    pub fetch_ms: Option<u32>,
}

impl Access {
    /// Whether the caller had to wait for a fetch.
    pub fn missed(&self) -> bool {
        self.found == Found::Nowhere
    }
}

/// Where a look-up found its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// In the worker's memory.
    Memory,
    /// In Redis.
    Redis,
    /// In Postgres.
    Postgres,
    /// Nowhere: a miss.
    Nowhere,
    /// Nobody looked: it was fetched to warm the cache. Teaches what is in the cache, and nothing of what is asked for.
    Unasked,
}

impl Found {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 5] = [
        Self::Memory,
        Self::Redis,
        Self::Postgres,
        Self::Nowhere,
        Self::Unasked,
    ];
}

/// The digest of a cache's key: what its entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Its first eight bytes, which stand for it in [`Access::key`].
    pub fn id(&self) -> u64 {
        self.word(0)
    }

    /// The `n`th eight bytes of it, 0 to 3.
    fn word(&self, n: usize) -> u64 {
        self.0[8 * n..][..8]
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    }
}

/// An id for an actor or a repository: the same for the same words, in every process.
pub fn id_of(words: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update((word.len() as u64).to_be_bytes());
        hasher.update(word);
    }
    Digest(hasher.finalize().into()).id()
}
