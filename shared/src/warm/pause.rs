//! Warming that people have paused, kept in the bucket of warming.

use std::time::Duration;

use async_nats::jetstream::kv::Store;
use serde::{Deserialize, Serialize};

use crate::subject::{Service, WARM_PAUSED};

/// Most characters of who paused it.
pub const MAX_BY: usize = 64;

/// A pause: JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who paused it, as they say.
    pub by: String,
    /// When, in ms since the epoch.
    pub at_ms: u64,
    /// Until when, in ms since the epoch; `None` until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

impl Pause {
    /// By somebody, from now on, for so long.
    pub fn new(by: &str, now_ms: u64, lasts: Option<Duration>) -> Self {
        let until =
            |lasts: Duration| now_ms.saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
        Self {
            by: by.chars().filter(|c| !c.is_control()).take(MAX_BY).collect(),
            at_ms: now_ms,
            until_ms: lasts.map(until),
        }
    }

    /// Whether it holds.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until| now_ms < until)
    }
}

/// Pauses the warming of a service's cache, or of all. What was paused before is paused anew.
///
/// # Errors
/// NATS did not take it: told in words.
pub async fn pause(bucket: &Store, service: Option<&Service>, pause: &Pause) -> Result<(), String> {
    let json = serde_json::to_vec(pause).map_err(|error| error.to_string())?;
    let put = bucket.put(key(service), json.into()).await;
    put.map(drop).map_err(|error| error.to_string())
}

/// Ends a pause. False when there was none.
///
/// # Errors
/// NATS did not take it: told in words.
pub async fn resume(bucket: &Store, service: Option<&Service>) -> Result<bool, String> {
    let key = key(service);
    let told = bucket.get(&key).await.map_err(|error| error.to_string())?;
    if told.is_none() {
        return Ok(false);
    }
    bucket
        .delete(&key)
        .await
        .map(|()| true)
        .map_err(|error| error.to_string())
}

/// The pause of a service's warming, or of all, that holds at `now_ms`. What cannot be read counts as one: whoever wrote it
/// wanted something.
///
/// # Errors
/// NATS does not say: told in words.
pub async fn paused(bucket: &Store, service: Option<&Service>, now_ms: u64) -> Result<Option<Pause>, String> {
    let told = bucket
        .get(key(service))
        .await
        .map_err(|error| error.to_string())?;
    let pause = told.map(|told| {
        serde_json::from_slice(&told)
            .unwrap_or_else(|error| Pause::new(&format!("unreadable: {error}"), 0, None))
    });
    Ok(pause.filter(|pause| pause.holds(now_ms)))
}

fn key(service: Option<&Service>) -> String {
    service.map_or_else(|| WARM_PAUSED.to_owned(), Service::warm_paused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_it_says_so() {
        let hour = Pause::new("ada\n", 1_000, Some(Duration::from_secs(3_600)));
        assert!(hour.holds(3_600_999) && !hour.holds(3_601_000));
        assert_eq!(hour.by, "ada");
        assert!(Pause::new("x", 0, None).holds(u64::MAX));
        assert_eq!(Pause::new("x", 5, Some(Duration::MAX)).until_ms, Some(u64::MAX));
    }
}
