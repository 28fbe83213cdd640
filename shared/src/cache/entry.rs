//! One thing that is kept: a value, or that there is none; since when, for how long, and what it depends on.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use super::early::{SKEW, Times};
use super::key::Key;
use crate::telemetry::propagation::millis;

/// Most tags of an entry.
pub const MAX_TAGS: usize = 16;
/// Longest tag, in bytes.
pub const MAX_TAG: usize = 128;
/// Longest `etag`, in bytes.
const MAX_ETAG: usize = 1024;
/// What an entry takes in memory beside its value, name, tags and `etag`, its part of moka's tables included: measured.
const OVERHEAD: usize = 800;

/// A value of any type.
pub(super) type Value = Arc<dyn Any + Send + Sync>;

/// When something was asked for, and what was known then to have become invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub(super) asked_at: u64,
    /// The last invalidation that had been heard of.
    pub(super) seen: u64,
    /// Which log of invalidations that was; 0 before any is known.
    pub(super) epoch: u64,
}

/// An entry as it lies in memory.
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) stamp: Stamp,
    pub(super) times: Times,
    pub(super) tags: Box<[Box<str>]>,
    pub(super) etag: Option<Box<str>>,
    /// `None`: it is known that there is nothing.
    pub(super) value: Option<Value>,
    /// Bytes that it takes in memory.
    pub(super) weight: u32,
    /// The state of the log against which it was last found valid.
    pub(super) valid_at: AtomicU64,
}

impl Entry {
    /// The bytes that an entry with a value of this many takes.
    pub(super) fn weight(key: &Key, tags: &[Box<str>], etag: Option<&str>, value: usize) -> u32 {
        let tags: usize = tags.iter().map(|tag| tag.len() + size_of::<Box<str>>()).sum();
        let bytes = OVERHEAD + key.as_str().len() + tags + etag.map_or(0, str::len) + value;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// How old it is at `now`.
    pub(super) fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.stamp.asked_at))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are other people's.
        write!(f, "Entry({}, {:?})", self.key, self.stamp)
    }
}

/// How young an entry must be; nothing of it: as young as its space says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// At most so old; zero: fetched now, by us.
    pub max_age: Option<Duration>,
    /// Fetched after this moment, as for whom an event has told that something is different now. Clocks of machines may
    /// differ by two seconds: so much later it must be.
    pub not_before: Option<SystemTime>,
}

impl Wants {
    /// Whether what is asked for only now can be young enough: if not, nobody else's answer will do either.
    pub fn can_be_met(&self) -> bool {
        let now = now();
        self.allow(now, now)
    }

    /// Whether what was asked for at `asked_at` is young enough at `now`.
    pub(super) fn allow(&self, asked_at: u64, now: u64) -> bool {
        let age = now.saturating_sub(asked_at);
        let young = self
            .max_age
            .is_none_or(|most| !most.is_zero() && u128::from(age) <= most.as_millis());
        let after = self
            .not_before
            .is_none_or(|at| asked_at >= millis(at).saturating_add(SKEW));
        young && after
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    millis(SystemTime::now())
}

/// Tags as they are kept; `None` when they are too many or too long.
pub(super) fn tags(tags: Vec<String>) -> Option<Box<[Box<str>]>> {
    let fit = tags.len() <= MAX_TAGS && tags.iter().all(|tag| (1..=MAX_TAG).contains(&tag.len()));
    fit.then(|| tags.into_iter().map(String::into_boxed_str).collect())
}

/// An `etag` as it is kept; one that is too long is as good as none.
pub(super) fn etag(etag: Option<String>) -> Option<Box<str>> {
    etag.filter(|etag| (1..=MAX_ETAG).contains(&etag.len()))
        .map(String::into_boxed_str)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_is_too_old_for_somebody_is_not_given_to_them() {
        let all = Wants::default();
        assert!(all.allow(0, u64::MAX));
        let young = Wants {
            max_age: Some(Duration::from_secs(5)),
            ..all
        };
        assert!(young.allow(10_000, 15_000) && !young.allow(10_000, 15_001));
        assert!(young.allow(10_000, 9_000));
        let never = Wants {
            max_age: Some(Duration::ZERO),
            ..all
        };
        assert!(!never.allow(10_000, 10_000));
        let after = Wants {
            not_before: Some(UNIX_EPOCH + Duration::from_secs(10)),
            ..all
        };
        assert!(after.allow(12_000, 12_000) && !after.allow(11_999, 60_000));
    }

    #[test]
    fn tags_and_etags_are_bounded() {
        assert!(tags(vec!["t".into(); MAX_TAGS]).is_some());
        assert!(tags(vec!["t".into(); MAX_TAGS + 1]).is_none());
        assert!(tags(vec!["t".repeat(MAX_TAG + 1)]).is_none());
        assert!(tags(vec![String::new()]).is_none());
        assert!(etag(Some("e".repeat(MAX_ETAG + 1))).is_none());
        assert_eq!(etag(Some("W/\"1\"".into())).as_deref(), Some("W/\"1\""));
    }
}
