//! Places where a test lets a process die: `WEIR_FAILPOINT=worker.called` ends it there at once, as SIGKILL would;
//! `worker.called:3` at the third time. Only in builds with the feature `failpoints`, which no release has: without it
//! [`hit`] is nothing and the setting unknown, so that a process that is given it refuses to start.

/// The setting that names a failpoint.
pub const SETTING: &str = "WEIR_FAILPOINT";

/// All failpoints, in the order of an event's path: the name says what has just happened.
pub const ALL: [&str; 12] = [
    "ingest.accepted",
    "ingest.stored",
    "ingest.published",
    "worker.pulled",
    "worker.intended",
    "worker.called",
    "worker.recorded",
    "worker.scheduled",
    "worker.buried",
    "worker.acked",
    "scheduler.buried",
    "scheduler.deleted",
];

/// Those that only events for models pass: a call's answer has come, and it is kept.
pub const OF_MODELS: [&str; 2] = ["agent.paid", "agent.kept"];

/// Those that only events pass that others follow from: what is owed is committed, and a part of it is published.
pub const OF_RULES: [&str; 2] = ["rules.owed", "rules.published"];

/// Whether this build has failpoints.
pub const ENABLED: bool = cfg!(feature = "failpoints");

/// The setting's value, checked.
///
/// # Errors
/// Names no failpoint, or no number of times.
pub fn check(setting: &str) -> Result<String, String> {
    let (name, count) = parts(setting);
    let known = [&ALL[..], &OF_MODELS, &OF_RULES].concat();
    if !known.contains(&name) || count.is_none_or(|count| count == 0) {
        let all = known.join(", ");
        return Err(format!(
            "is {setting:?}: must be one of {all}, with :N for the N-th time"
        ));
    }
    Ok(setting.to_owned())
}

fn parts(setting: &str) -> (&str, Option<u32>) {
    match setting.split_once(':') {
        None => (setting, Some(1)),
        Some((name, count)) => (name, count.parse().ok()),
    }
}

/// Dies here if the setting says so.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_name: &'static str) {}

/// Dies here if the setting says so.
#[cfg(feature = "failpoints")]
#[allow(
    clippy::disallowed_methods,
    reason = "the settings have checked it; a failpoint knows no configuration"
)]
pub fn hit(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static SET: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static HITS: AtomicU32 = AtomicU32::new(0);
    let set = SET.get_or_init(|| {
        let setting = std::env::var(SETTING).ok()?;
        let (name, count) = parts(&setting);
        Some((name.to_owned(), count?))
    });
    if let Some((set, count)) = set
        && set == name
        && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_named_or_refused() {
        for right in ["worker.called", "worker.called:3", "agent.kept", "rules.owed"] {
            assert_eq!(check(right).as_deref(), Ok(right));
        }
        for wrong in ["worker.colled", "worker.called:0", "worker.called:x", ""] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
