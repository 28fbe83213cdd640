//! One look-up, as the access log tells it.

/// Accesses older than this are not learnt from: no rhythm looks back further.
pub const OLDEST_MS: u64 = 15 * 24 * 3_600_000;
/// How far a worker's clock may run ahead.
pub const AHEAD_MS: u64 = 5 * 60_000;
/// A fetch that is said to have taken longer counts as this long.
pub const LONGEST_FETCH_MS: u32 = 120_000;

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

impl Access {
    /// Whether its time can be true: not older than [`OLDEST_MS`], not further ahead than [`AHEAD_MS`].
    pub fn plausible(&self, now_ms: u64) -> bool {
        self.at_ms <= now_ms.saturating_add(AHEAD_MS) && self.at_ms >= now_ms.saturating_sub(OLDEST_MS)
    }

    /// Whether the caller had to wait for a fetch.
    pub fn missed(&self) -> bool {
        self.found == Found::Nowhere
    }
}
