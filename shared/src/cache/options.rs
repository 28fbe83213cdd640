//! How a space keeps things.

use std::fmt;
use std::time::Duration;

/// Nothing is used or kept for longer since it was asked for, whatever a space or an answer says: invalidations are
/// remembered for a little longer than that.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How a space keeps things.
pub struct Options<V> {
    /// How long a value is used without a question, unless its fetch says otherwise. Zero: each use asks, with what is
    /// known.
    pub fresh: Duration,
    /// How long after that it is used while it is fetched anew in the background.
    pub stale: Duration,
    /// How long since it was asked for a value is kept to be asked for by its `etag`; at least for both of these.
    pub kept: Duration,
    /// How long it is known that there is nothing. Zero: not at all.
    pub negative: Duration,
    /// Longest time of a copy in this process's memory. Zero: there is none.
    pub memory: Duration,
    /// Longest time in Redis. Zero: it is not there.
    pub redis: Duration,
    /// Longest time in Postgres. Zero: it is not there.
    pub postgres: Duration,
    /// Version of the values: those of another one are fetched anew.
    pub version: u8,
    /// Where it pays that of the whole fleet one process fetches: how the others wait.
    pub fleet: Option<Fleet>,
    /// Longest time of a fetch. Then whoever waits for it is told.
    pub longest: Duration,
    /// How eagerly values are fetched anew before they end: 1 is right where fetches take about as long each time, 0 is
    /// never.
    pub beta: f64,
    /// Bytes that a value takes in memory, given those that it takes when it is written. A tree takes several times as many.
    pub weigh: fn(&V, usize) -> usize,
}

impl<V> Default for Options<V> {
    /// 5 minutes, of which memory has copies as long, Redis for an hour.
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(300),
            stale: Duration::ZERO,
            kept: Duration::ZERO,
            negative: Duration::ZERO,
            memory: Duration::from_secs(300),
            redis: Duration::from_secs(3600),
            postgres: Duration::ZERO,
            version: 1,
            fleet: None,
            longest: Duration::from_secs(60),
            beta: 1.0,
            weigh: |_, written| written,
        }
    }
}

// By hand, so that the values need not be what they are not.
impl<V> Clone for Options<V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<V> fmt::Debug for Options<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({:?}, {:?})", self.fresh, self.fleet)
    }
}

/// How a process waits while another of the fleet fetches the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    /// For how long.
    pub wait: Duration,
    /// And then.
    pub then: Then,
}

/// What becomes of whoever has waited in vain for another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It fetches too.
    Fetch,
    /// It is told [`IN_FLIGHT`](super::IN_FLIGHT): what is paid for is not paid for twice.
    Fail,
}
