//! What the cache counts. No keys or tenants in labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Look-ups by space, level and outcome: hit, or why not: absent, expired, invalidated, undecodable, away, slow; `deaf`
/// while invalidations are not heard.
pub const READS: &str = "weir_cache_reads";
/// Entries put, by space and level.
pub const FILLS: &str = "weir_cache_fills";
/// Entries not put, by space, level and why: large, refused, away, slow.
pub const UNKEPT: &str = "weir_cache_unkept";
/// Entries that had to go before their time, by level.
pub const EVICTIONS: &str = "weir_cache_evictions";
/// Bytes by level: of this process's memory, and of all of the fleet's as far as this process has been told.
pub const BYTES: &str = "weir_cache_bytes";
/// Time of a look-up by level; of the first level one in 64 is measured.
pub const SECONDS: &str = "weir_cache_read_seconds";
/// Fetches by space and outcome: fresh, unchanged, absent, not_kept, failed, panicked, timed_out.
pub const FETCHES: &str = "weir_cache_fetches";
/// Who got another's fetch, by space.
pub const JOINED: &str = "weir_cache_joined_fetches";
/// Entries that were given while they are refreshed, by space and why: early, stale.
pub const REFRESHES: &str = "weir_cache_refreshes";
/// Invalidations that this process has said, by kind.
pub const INVALIDATIONS: &str = "weir_cache_invalidations";
/// Times that hearing of invalidations was interrupted.
pub const INTERRUPTED: &str = "weir_cache_log_interrupted";

/// A level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    L1,
    L2,
    L3,
}

impl Level {
    pub(super) const ALL: [Self; 3] = [Self::L1, Self::L2, Self::L3];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "memory",
            Self::L2 => "redis",
            Self::L3 => "postgres",
        }
    }
}

/// What a look-up in one level came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Hit,
    Absent,
    Expired,
    Invalidated,
    Undecodable,
    Away,
    Slow,
    Deaf,
}

impl Outcome {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Hit, "hit"),
        (Self::Absent, "absent"),
        (Self::Expired, "expired"),
        (Self::Invalidated, "invalidated"),
        (Self::Undecodable, "undecodable"),
        (Self::Away, "away"),
        (Self::Slow, "slow"),
        (Self::Deaf, "deaf"),
    ];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabel {
    space: String,
    level: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FillLabel {
    space: String,
    level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnkeptLabel {
    space: String,
    level: &'static str,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabel {
    level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpaceLabel {
    space: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    space: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// All of them, of one process.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    reads: Family<ReadLabel, Counter>,
    fills: Family<FillLabel, Counter>,
    unkept: Family<UnkeptLabel, Counter>,
    evictions: Family<LevelLabel, Counter>,
    bytes: Family<LevelLabel, Gauge>,
    seconds: Family<LevelLabel, Histogram, fn() -> Histogram>,
    fetches: Family<OutcomeLabel, Counter>,
    joined: Family<SpaceLabel, Counter>,
    refreshes: Family<OutcomeLabel, Counter>,
    invalidations: Family<KindLabel, Counter>,
    interrupted: Counter,
}

/// From a microsecond to a third of a second: the first level and the longest patience.
fn seconds() -> Histogram {
    Histogram::new((0..10).map(|n| 1e-6 * 4_f64.powi(n)))
}

impl Default for CacheMetrics {
    fn default() -> Self {
        Self {
            reads: Family::default(),
            fills: Family::default(),
            unkept: Family::default(),
            evictions: Family::default(),
            bytes: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            fetches: Family::default(),
            joined: Family::default(),
            refreshes: Family::default(),
            invalidations: Family::default(),
            interrupted: Counter::default(),
        }
    }
}

impl CacheMetrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(READS, "Look-ups in the cache, by outcome", metrics.reads.clone());
        registry.register(FILLS, "Entries put into the cache", metrics.fills.clone());
        registry.register(UNKEPT, "Entries not put into the cache", metrics.unkept.clone());
        let help = "Entries of the cache that had to go before their time";
        registry.register(EVICTIONS, help, metrics.evictions.clone());
        registry.register(BYTES, "Bytes of the cache", metrics.bytes.clone());
        registry.register(SECONDS, "Time of a look-up in the cache", metrics.seconds.clone());
        registry.register(FETCHES, "Fetches of what was not cached", metrics.fetches.clone());
        registry.register(JOINED, "Answers of somebody else's fetch", metrics.joined.clone());
        let help = "Entries given while they are refreshed";
        registry.register(REFRESHES, help, metrics.refreshes.clone());
        registry.register(INVALIDATIONS, "Invalidations said", metrics.invalidations.clone());
        let help = "Times that invalidations were not heard";
        registry.register(INTERRUPTED, help, metrics.interrupted.clone());
        metrics
    }

    pub(super) fn evicted(&self, level: Level) -> Counter {
        let level = level.as_str();
        self.evictions.get_or_create_owned(&LevelLabel { level })
    }

    pub(super) fn holds(&self, level: Level, bytes: u64) {
        let level = level.as_str();
        self.bytes.get_or_create(&LevelLabel { level }).set(bytes as i64);
    }

    pub(super) fn said(&self, kind: &'static str) {
        self.invalidations.get_or_create(&KindLabel { kind }).inc();
    }

    pub(super) fn log_interrupted(&self) {
        self.interrupted.inc();
    }

    pub(super) fn of(&self, space: &str) -> SpaceMetrics {
        let read = |level: Level, outcome: &'static str| {
            self.reads.get_or_create_owned(&ReadLabel {
                space: space.to_owned(),
                level: level.as_str(),
                outcome,
            })
        };
        SpaceMetrics {
            reads: Level::ALL.map(|level| Outcome::ALL.map(|(_, name)| read(level, name))),
            seconds: Level::ALL.map(|level| {
                let level = level.as_str();
                self.seconds.get_or_create_owned(&LevelLabel { level })
            }),
            space: space.to_owned(),
            all: self.clone(),
        }
    }
}

/// Those of one space, looked up once.
#[derive(Debug)]
pub(super) struct SpaceMetrics {
    reads: [[Counter; Outcome::ALL.len()]; 3],
    seconds: [Histogram; 3],
    space: String,
    all: CacheMetrics,
}

impl SpaceMetrics {
    pub(super) fn read(&self, level: Level, outcome: Outcome) {
        self.reads[level as usize][outcome as usize].inc();
    }

    /// How many look-ups of a kind there were.
    pub(super) fn reads(&self, level: Level, outcome: Outcome) -> u64 {
        self.reads[level as usize][outcome as usize].get()
    }

    pub(super) fn took(&self, level: Level, seconds: f64) {
        self.seconds[level as usize].observe(seconds);
    }

    pub(super) fn filled(&self, level: Level) {
        let (space, level) = (self.space.clone(), level.as_str());
        self.all.fills.get_or_create(&FillLabel { space, level }).inc();
    }

    pub(super) fn unkept(&self, level: Level, why: &'static str) {
        let (space, level) = (self.space.clone(), level.as_str());
        let label = UnkeptLabel { space, level, why };
        self.all.unkept.get_or_create(&label).inc();
    }

    pub(super) fn fetched(&self, outcome: &'static str) {
        let space = self.space.clone();
        self.all
            .fetches
            .get_or_create(&OutcomeLabel { space, outcome })
            .inc();
    }

    pub(super) fn joined(&self) {
        let space = self.space.clone();
        self.all.joined.get_or_create(&SpaceLabel { space }).inc();
    }

    pub(super) fn refreshing(&self, outcome: &'static str) {
        let space = self.space.clone();
        self.all
            .refreshes
            .get_or_create(&OutcomeLabel { space, outcome })
            .inc();
    }

    pub(super) fn all(&self) -> &CacheMetrics {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_place() {
        for (place, (outcome, name)) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place, "{name}");
        }
        for (place, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!(level as usize, place);
        }
    }
}
