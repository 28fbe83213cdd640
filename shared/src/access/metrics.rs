//! What the access log counts. No keys or tenants in labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::subject::Service;

/// Accesses noted, by service.
pub const NOTED: &str = "weir_access_noted";
/// Accesses that were dropped, and of `key_*` only what to fetch for a key, by service and why: see [`Why`].
pub const DROPPED: &str = "weir_access_dropped";
/// Rows written, by service.
pub const ROWS: &str = "weir_access_rows";
/// Packed bytes written, by service.
pub const BYTES: &str = "weir_access_bytes";
/// Time to write a row, whether it was written or not.
pub const SECONDS: &str = "weir_access_write_seconds";

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Too many accesses since the last flush.
    Full,
    /// Their time cannot be true.
    Time,
    /// Postgres was away for too long.
    Away,
    /// Postgres refused the row.
    Refused,
    /// Too many new keys since the last flush: the key is tried again when it is asked for next.
    KeyFull,
    /// What to fetch for a key is longer than it may be.
    KeyLarge,
}

impl Why {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Full, "full"),
        (Self::Time, "time"),
        (Self::Away, "away"),
        (Self::Refused, "refused"),
        (Self::KeyFull, "key_full"),
        (Self::KeyLarge, "key_large"),
    ];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabel {
    service: String,
    why: &'static str,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct AccessMetrics {
    noted: Family<ServiceLabel, Counter>,
    dropped: Family<DroppedLabel, Counter>,
    rows: Family<ServiceLabel, Counter>,
    bytes: Family<ServiceLabel, Counter>,
    pub(super) seconds: Histogram,
}

impl Default for AccessMetrics {
    fn default() -> Self {
        Self {
            noted: Family::default(),
            dropped: Family::default(),
            rows: Family::default(),
            bytes: Family::default(),
            seconds: Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]),
        }
    }
}

impl AccessMetrics {
    /// Makes them and adds them to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register(
            NOTED,
            "Look-ups of cached answers that were noted",
            all.noted.clone(),
        );
        registry.register(DROPPED, "Noted look-ups that were dropped", all.dropped.clone());
        registry.register(ROWS, "Rows of the access log written", all.rows.clone());
        registry.register(BYTES, "Packed bytes of the access log written", all.bytes.clone());
        registry.register(
            SECONDS,
            "Time to write a row of the access log",
            all.seconds.clone(),
        );
        all
    }

    pub(super) fn of(&self, service: &Service) -> Counts {
        let label = || ServiceLabel {
            service: service.to_string(),
        };
        let dropped = Why::ALL.map(|(_, why)| {
            let label = DroppedLabel {
                service: service.to_string(),
                why,
            };
            self.dropped.get_or_create(&label).clone()
        });
        Counts {
            noted: self.noted.get_or_create(&label()).clone(),
            dropped,
            rows: self.rows.get_or_create(&label()).clone(),
            bytes: self.bytes.get_or_create(&label()).clone(),
        }
    }
}

/// Those of one service.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) noted: Counter,
    dropped: [Counter; Why::ALL.len()],
    pub(super) rows: Counter,
    pub(super) bytes: Counter,
}

impl Counts {
    pub(super) fn dropped(&self, why: Why, how_many: u64) {
        self.dropped[why as usize].inc_by(how_many);
    }
}
