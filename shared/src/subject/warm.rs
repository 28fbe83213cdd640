//! The names by which caches are warmed: see [`crate::warm`].

use super::Service;

/// Key-value bucket of what schedulers keep of warming, and of what people have paused.
pub const WARM_BUCKET: &str = "weir_warm";
/// The key in [`WARM_BUCKET`] under which the warming of all caches is paused.
pub const WARM_PAUSED: &str = "paused";
/// The group in which a service's workers take requests to warm: one of them gets each.
pub const WARM_GROUP: &str = "workers";
/// Where the leader of the schedulers answers questions about warming. No stream keeps them.
pub const WARM_ASK: &str = "warming.ask";

impl Service {
    /// Where its workers are asked to fetch what its cache will need. No stream keeps it.
    pub fn warm(&self) -> String {
        format!("warm.{self}")
    }

    /// The key in [`WARM_BUCKET`] of what warming its cache was worth.
    pub fn warm_standing(&self) -> String {
        format!("standing.{self}")
    }

    /// The key in [`WARM_BUCKET`] under which the warming of its cache is paused.
    pub fn warm_paused(&self) -> String {
        format!("{WARM_PAUSED}.{self}")
    }
}
