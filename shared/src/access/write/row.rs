//! A row as it waits to be written.

use tokio::time::Instant;
use uuid::Uuid;

use crate::access::pack::{MOST, pack};
use crate::access::worth::Hour;
use crate::access::{Access, Digest, Share, What};
use crate::subject::Service;

/// How far an access may be from now, either way: it was noted since the last flush.
const AROUND_MS: u64 = 300_000;

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) service: Service,
    pub(super) share: Share,
    /// Names it for good.
    pub(super) batch: Uuid,
    /// Whether it may have been written already.
    pub(super) tried: bool,
    pub(super) since: Instant,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) accesses: usize,
    pub(super) keys: usize,
    pub(super) packed: Vec<u8>,
    pub(super) hours: Vec<Hour>,
    /// What to fetch for keys that are new.
    pub(super) told: Vec<(Digest, What)>,
}

impl Row {
    /// Rows of what was noted of a service, but for accesses whose time cannot be true. What to fetch goes with the first.
    pub(super) fn pack(
        service: &Service,
        share: Share,
        mut accesses: Vec<Access>,
        mut told: Vec<(Digest, What)>,
        now_ms: u64,
    ) -> Vec<Self> {
        accesses.retain(|access| access.at_ms.abs_diff(now_ms) <= AROUND_MS);
        accesses.sort_by_key(|access| access.at_ms);
        let row = |accesses: &[Access]| {
            let (packed, keys) = pack(accesses);
            Self {
                service: service.clone(),
                share,
                batch: Uuid::now_v7(),
                tried: false,
                since: Instant::now(),
                from_ms: accesses.first().map_or(0, |access| access.at_ms),
                to_ms: accesses.last().map_or(0, |access| access.at_ms),
                accesses: accesses.len(),
                keys,
                packed,
                hours: Hour::sums(accesses),
                told: std::mem::take(&mut told),
            }
        };
        accesses.chunks(MOST).map(row).collect()
    }

    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let told = self
            .told
            .iter()
            .map(|(_, what)| what.name.len() + what.request.len());
        let told: usize = told.sum();
        size_of::<Self>() + self.packed.len() + told + self.told.len() * size_of::<(Digest, What)>()
    }
}
