//! One look-up, as the access log tells it, and whether that can be true.

pub use shared::access::{Access, Found};

/// Accesses older than this are not learnt from: no rhythm looks back further.
pub const OLDEST_MS: u64 = 15 * 24 * 3_600_000;
/// How far a worker's clock may run ahead.
pub const AHEAD_MS: u64 = 5 * 60_000;
/// A fetch that is said to have taken longer counts as this long.
pub const LONGEST_FETCH_MS: u32 = 120_000;

/// Whether the time of an access can be true: not older than [`OLDEST_MS`], not further ahead than [`AHEAD_MS`].
pub fn plausible(access: &Access, now_ms: u64) -> bool {
    access.at_ms <= now_ms.saturating_add(AHEAD_MS) && access.at_ms >= now_ms.saturating_sub(OLDEST_MS)
}
