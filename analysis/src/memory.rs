//! Memory of one thread, as the allocator counts it. Syntax trees are made by C, which Rust's own ways do not see:
//! jemalloc stands in for `malloc`, and serves both.

use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};
use tikv_jemalloc_ctl::{Access, AsName};

/// Milliseconds that freed memory is kept for the next who wants some. Enough for the next file.
const DECAY: isize = 250;

/// What this thread has taken since, and not given back.
pub(crate) struct Meter {
    allocated: ThreadLocal<u64>,
    freed: ThreadLocal<u64>,
    before: u64,
}

impl Meter {
    pub(crate) fn new() -> Option<Self> {
        let (allocated, freed) = (allocatedp::read().ok()?, deallocatedp::read().ok()?);
        let before = allocated.get().wrapping_sub(freed.get());
        Some(Self {
            allocated,
            freed,
            before,
        })
    }

    /// In bytes.
    pub(crate) fn taken(&self) -> u64 {
        let now = self.allocated.get().wrapping_sub(self.freed.get());
        // What others had allocated may be freed here.
        u64::try_from(now.wrapping_sub(self.before).cast_signed()).unwrap_or(0)
    }
}

/// Has freed memory given back to the system soon, whatever thread it was used by and even if that one sleeps: each
/// may hold a file's worth. It is a matter of the whole process.
pub(crate) fn give_back() {
    let set = || {
        b"background_thread\0".name().write(true)?;
        b"arenas.dirty_decay_ms\0".name().write(DECAY)
    };
    if let Err(error) = set() {
        tracing::warn!(%error, "freed memory is given back later than it should be");
    }
}
