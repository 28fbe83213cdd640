//! Limits that are changed while the worker runs: takes in what people wish ([`shared::limiter::live`]), and says what
//! is in force. Wishes that cannot be are refused, and the limits stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::kv::{Entry, EntryError, Operation, PutError, Store, WatchError, WatcherError};
use futures_util::StreamExt;
use shared::config::value::show_duration;
use shared::limiter::Rule;
use shared::limiter::live::{self, InForce, Now, Wished, Wishes};
use shared::telemetry::propagation::millis;
use shared::topology::{self, TopologyError};

use crate::handler::bucket_tag;
use crate::limits::{Set, Table};
use crate::pool::Pool;
use crate::provider::Provider;

/// Pause between two tries to learn what is wished, at start.
const START_PAUSE: Duration = Duration::from_millis(500);

/// What is wished cannot be learned, or what is in force cannot be said. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] TopologyError),
    /// A look into it.
    #[error("reading wishes: {0}")]
    Entry(#[from] EntryError),
    /// Its watch did not begin.
    #[error("watching wishes: {0}")]
    Watch(#[from] WatchError),
    /// Its watch broke.
    #[error("watching wishes: {0}")]
    Watcher(#[from] WatcherError),
    /// Its watch ended.
    #[error("watching wishes: the watch has ended")]
    Ended,
    /// A word to it.
    #[error("saying what limits are in force: {0}")]
    Put(#[from] PutError),
}

/// Puts what is wished in force, however long NATS keeps us waiting: before that no call may begin, for the settings may
/// allow more.
pub async fn catch_up(pool: &Pool, ahead: Duration) {
    let once = async || {
        let bucket = topology::limits_bucket(&pool.js, &pool.streams).await?;
        let wished = bucket.entry(pool.config.service.limits_set()).await?;
        take_in(pool, ahead, wished.as_ref());
        Ok::<_, LiveError>(())
    };
    while let Err(error) = once().await {
        let service = &pool.config.service;
        tracing::warn!(%service, %error, "not started: changes of the limits are not to be had");
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// Puts every change in force and answers it, for ever.
///
/// # Errors
/// NATS has ended the watch, or cannot be told. Another call takes up where this one ended.
pub async fn follow(pool: Arc<Pool>, ahead: Duration) -> Result<(), LiveError> {
    let service = &pool.config.service;
    let bucket = topology::limits_bucket(&pool.js, &pool.streams).await?;
    let mut changes = bucket.watch_with_history(service.limits_set()).await?;
    // Others rely on what was last said, and anybody may have written or deleted it.
    let mut said = bucket.watch(service.limits_now()).await?;
    // Nothing comes from a watch while nobody has wished anything.
    let mut wished = bucket.entry(service.limits_set()).await?;
    answer(&bucket, &pool, ahead, wished.as_ref()).await?;
    let mut answered = wished.as_ref().map_or(0, |entry| entry.revision);
    loop {
        tokio::select! {
            wish = changes.next() => {
                let entry = wish.ok_or(LiveError::Ended)??;
                // A bucket that was deleted and made anew counts from 1 again.
                if entry.revision != answered {
                    answered = entry.revision;
                    answer(&bucket, &pool, ahead, Some(&entry)).await?;
                    wished = Some(entry);
                }
            }
            word = said.next() => {
                let entry = word.ok_or(LiveError::Ended)??;
                if serde_json::from_slice::<Now>(&entry.value).is_err() {
                    tracing::warn!(%service, revision = entry.revision, "what was said of the limits in force cannot be read; saying it anew");
                    answer(&bucket, &pool, ahead, wished.as_ref()).await?;
                }
            }
        }
    }
}

async fn answer(
    bucket: &Store,
    pool: &Pool,
    ahead: Duration,
    wished: Option<&Entry>,
) -> Result<(), LiveError> {
    let refused = take_in(pool, ahead, wished);
    let now = Now {
        tag: bucket_tag(&pool.config),
        provider: pool.config.provider.as_str().to_owned(),
        limits: in_force(pool),
        models: pool.handler.models(),
        budget: pool.handler.budget(),
        away: pool.config.away.to_string(),
        ahead: ahead.as_millis() as u64,
        concurrency: u32::try_from(pool.config.concurrency).unwrap_or(u32::MAX),
        timeout: pool.config.timeout.as_millis() as u64,
        cache: pool.config.cache.as_millis() as u64,
        at: millis(SystemTime::now()),
        worker: pool.worker.to_string(),
        set: wished.map_or(0, |entry| entry.revision),
        refused,
    };
    let json = serde_json::to_vec(&now).unwrap_or_default();
    bucket.put(pool.config.service.limits_now(), json.into()).await?;
    Ok(())
}

/// Puts wishes in force, or tells why they are not.
fn take_in(pool: &Pool, ahead: Duration, wished: Option<&Entry>) -> Option<String> {
    let service = &pool.config.service;
    let wishes = match wished {
        Some(entry) if entry.operation == Operation::Put => live::read(&entry.value),
        // Deleted, or never there: all is as the settings say.
        Some(_) | None => Ok(Wishes::new()),
    };
    let old = pool.limits.table();
    let (table, refused) = match wishes {
        Ok(wishes) => merged(&pool.config.limits, &old, &wishes, pool.config.provider, ahead),
        Err(why) => (old.clone(), vec![why]),
    };
    if table != old {
        tracing::info!(%service, old = show(&old), new = show(&table), "limits are changed");
        pool.limits.change(table);
    }
    if refused.is_empty() {
        return None;
    }
    let error = refused.join("; ");
    tracing::error!(%service, error, in_force = show(&pool.limits.table()), "a change of the limits is refused");
    Some(error)
}

/// The settings' limits with what is wished instead, name by name; a wish that cannot be leaves what is in force under its
/// name. The wishes that cannot be, in words.
fn merged(
    settings: &Table,
    in_force: &Table,
    wishes: &Wishes,
    provider: Provider,
    ahead: Duration,
) -> (Table, Vec<String>) {
    let (mut table, mut refused) = (settings.clone(), Vec::new());
    for (name, wish) in wishes {
        let rule = match wish.rule {
            Wished::Gone => {
                table.remove(name);
                continue;
            }
            Wished::Rule(rule) => Ok(rule),
            Wished::AsSet => settings
                .get(name)
                .map(|set| set.rule)
                .ok_or_else(|| format!("{name}: the settings know no limit of this name")),
        };
        let shadow = wish.shadow;
        match rule.and_then(|rule| check(name, rule, provider, ahead).map(|()| Set { rule, shadow })) {
            Ok(set) => drop(table.insert(name.clone(), set)),
            Err(why) => {
                refused.push(why);
                match in_force.get(name) {
                    Some(set) => drop(table.insert(name.clone(), *set)),
                    None => drop(table.remove(name)),
                }
            }
        }
    }
    (table, refused)
}

/// Whether a limit can be kept: it has to let the most expensive call through, and calls must not be booked further
/// ahead than a quarter of its period.
///
/// # Errors
/// It cannot: the limit's name and why, in words.
pub fn check(name: &str, rule: Rule, provider: Provider, ahead: Duration) -> Result<(), String> {
    if ["born", "workers"].contains(&name) {
        return Err(format!("{name}: is a name that the limiter needs for itself"));
    }
    let cost = provider.largest_cost(name);
    if rule.most() < cost {
        return Err(format!(
            "{name}: {rule} lets no call of {cost} through: its burst must be at least that"
        ));
    }
    match rule.period() {
        Some(period) if ahead > period / 4 => Err(format!(
            "{name}: {rule} has too short a period: WEIR_WORKER_AHEAD is {}, more than a quarter of it",
            show_duration(ahead)
        )),
        Some(_) | None => Ok(()),
    }
}

fn in_force(pool: &Pool) -> BTreeMap<String, InForce> {
    let table = pool.limits.table().into_iter();
    let in_force = table.map(|(name, Set { rule, shadow })| {
        let apart = pool.limits.is_apart(&name);
        (name, InForce { rule, shadow, apart })
    });
    in_force.collect()
}

fn show(table: &Table) -> String {
    if table.is_empty() {
        return "none".into();
    }
    let limits = table.iter().map(|(name, set)| {
        let shadow = if set.shadow { " (shadow)" } else { "" };
        format!("{name}: {}{shadow}", set.rule)
    });
    limits.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;

    fn table(limits: &[(&str, &str, bool)]) -> Table {
        let set = |rule: &str, shadow| Set {
            rule: rule.parse().unwrap(),
            shadow,
        };
        let limits = limits
            .iter()
            .map(|(name, rule, shadow)| ((*name).to_owned(), set(rule, *shadow)));
        limits.collect()
    }

    fn of_github(wishes: &str) -> Result<Table, String> {
        let settings = table(&[
            ("requests", "5000 per hour, burst 100", false),
            ("points", "900 per minute, burst 18", false),
        ]);
        let ahead = Duration::from_millis(100);
        let wishes = live::read(wishes.as_bytes())?;
        match merged(&settings, &settings, &wishes, Provider::Github, ahead) {
            (table, refused) if refused.is_empty() => Ok(table),
            (_, refused) => Err(refused.join("; ")),
        }
    }

    #[test]
    fn a_wish_that_cannot_be_takes_no_other_with_it() {
        let settings = table(&[("requests", "5000 per hour, burst 100", false)]);
        let in_force = table(&[
            ("requests", "10 per hour", false),
            ("mine", "1 per minute", false),
        ]);
        let wishes = br#"{"gone": {"shadow": true}, "mine": {"rule": "3 per 300ms"},
            "requests": {"rule": "2 per minute, burst 1"}}"#;
        let wishes = live::read(wishes).unwrap();
        let (table, refused) = merged(
            &settings,
            &in_force,
            &wishes,
            Provider::Other,
            Duration::from_millis(100),
        );
        assert_eq!(
            show(&table),
            "mine: 1 per minute, burst 1; requests: 2 per minute, burst 1"
        );
        assert_eq!(refused.len(), 2, "{refused:?}");
    }

    #[test]
    fn wishes_go_over_the_settings_by_name() {
        let as_set = of_github("{}").unwrap();
        assert_eq!(
            show(&as_set),
            "points: 900 per minute, burst 18; requests: 5000 per hour, burst 100"
        );
        let changed = of_github(
            r#"{"points": {"rule": null}, "requests": {"rule": "10 per minute, burst 1"},
                "mine": {"rule": "7 at once", "shadow": true}}"#,
        );
        let expected = table(&[
            ("requests", "10 per minute, burst 1", false),
            ("mine", "7 at once", true),
        ]);
        assert_eq!(changed.unwrap(), expected);
        let shadowed = of_github(r#"{"requests": {"shadow": true}}"#).unwrap();
        assert_eq!(
            show(&shadowed),
            "points: 900 per minute, burst 18; requests: 5000 per hour, burst 100 (shadow)"
        );
    }

    #[test]
    fn wishes_that_cannot_be_change_nothing_and_say_why() {
        for (wishes, why) in [
            (
                r#"{"points": {"rule": "900 per minute, burst 4"}, "requests": {"rule": null}}"#,
                "points: 900 per minute, burst 4 lets no call of 5 through",
            ),
            (
                r#"{"requests": {"rule": "3 per 300ms"}}"#,
                "requests: 3 per 300ms, burst 1 has too short a period: WEIR_WORKER_AHEAD is 100ms",
            ),
            (
                r#"{"other": {"shadow": true}}"#,
                "other: the settings know no limit of this name",
            ),
            (r#"{"requests": {"rule": "0 per hour"}}"#, "allows no call at all"),
        ] {
            let said = of_github(wishes).unwrap_err();
            assert!(said.contains(why), "{wishes}: {said}");
        }
    }
}
