//! `weir limits set`, `shadow` and `reset`: a wish, written if nobody else has written meanwhile, and a worker's answer.

use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Store, UpdateErrorKind};
use futures_util::StreamExt;
use serde_json::json;
use shared::limiter::live::{self, InForce, Now, Wish, Wished, Wishes};
use shared::subject::Service;
use shared::topology;
use worker::provider::Provider;

use super::now;
use crate::args::{LimitsReset, LimitsSet, LimitsShadow, Turned, Where};
use crate::failure::Failure;
use crate::fleet;
use crate::terminal::{self, clean};

/// How long a worker's answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often a change is tried that others were faster than.
const TRIES: usize = 8;

pub(super) async fn set(set: LimitsSet) -> Result<(), Failure> {
    let edit = |wishes: &mut Wishes, now: Option<&Now>| {
        if let (Wished::Rule(rule), Some(now)) = (set.rule, now)
            && let Some(provider) = Provider::named(&now.provider)
        {
            worker::live::check(&set.name, rule, provider, Duration::from_millis(now.ahead))
                .map_err(|why| Failure::Usage(format!("RULE: {why}")))?;
        }
        if set.rule == Wished::Gone {
            is_there(now, wishes, &set.service, &set.name)?;
        }
        let wish = wishes.entry(set.name.clone()).or_default();
        wish.rule = set.rule;
        wish.shadow &= set.rule != Wished::Gone;
        Ok(())
    };
    change(&set.service, &set.fleet, set.json, edit).await
}

pub(super) async fn shadow(shadow: LimitsShadow) -> Result<(), Failure> {
    let edit = |wishes: &mut Wishes, now: Option<&Now>| {
        is_there(now, wishes, &shadow.service, &shadow.name)?;
        let wish = wishes.entry(shadow.name.clone()).or_default();
        wish.shadow = shadow.turned == Turned::On;
        if *wish == Wish::default() {
            wishes.remove(&shadow.name);
        }
        Ok(())
    };
    change(&shadow.service, &shadow.fleet, shadow.json, edit).await
}

pub(super) async fn reset(reset: LimitsReset) -> Result<(), Failure> {
    let edit = |wishes: &mut Wishes, _: Option<&Now>| {
        match &reset.name {
            Some(name) => drop(wishes.remove(name)),
            None => wishes.clear(),
        }
        Ok(())
    };
    change(&reset.service, &reset.fleet, reset.json, edit).await
}

/// Whether the service has this limit, as far as anybody has said.
fn is_there(now: Option<&Now>, wishes: &Wishes, service: &Service, name: &str) -> Result<(), Failure> {
    let Some(now) = now else { return Ok(()) };
    let wished = wishes
        .get(name)
        .is_some_and(|wish| matches!(wish.rule, Wished::Rule(_)));
    if wished || now.limits.contains_key(name) {
        return Ok(());
    }
    let known: Vec<&str> = now.limits.keys().map(String::as_str).collect();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Err(Failure::Usage(format!(
        "NAME {name:?}: {service} has no such limit; it has {known}"
    )))
}

/// A wish that is written.
struct Written {
    /// What was wished before.
    old: Wishes,
    revision: u64,
}

async fn change(
    service: &Service,
    place: &Where,
    json: bool,
    edit: impl Fn(&mut Wishes, Option<&Now>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let reached = fleet::reach(place, None).await?;
    if reached.js.get_stream(service.stream()).await.is_err() {
        return Err(Failure::Failed(format!(
            "SERVICE: {service} is none of the fleet's: it has no stream"
        )));
    }
    let bucket = topology::limits_bucket(&reached.js, &reached.fleet.streams)
        .await
        .map_err(Failure::failed)?;
    let before = now(&reached.js, service).await?;
    let Some(written) = write(&bucket, service, |wishes| edit(wishes, before.as_ref())).await? else {
        if json {
            terminal::out_json(&json!({"service": service.as_str(), "changed": false, "confirmed_by": null}));
        } else {
            terminal::out(format_args!("{service}: that is as it was wished already"));
        }
        return Ok(());
    };
    let answer = answer(&bucket, service, written.revision).await?;
    if let Some(why) = answer.as_ref().and_then(|now| now.refused.as_ref()) {
        take_back(&bucket, service, &written).await;
        return Err(Failure::Failed(format!(
            "a worker refuses it, and it is taken back: {}",
            clean(why, 300)
        )));
    }
    let old = before.as_ref().map(|now| &now.limits);
    let mut lines = Vec::new();
    if let Some(now) = &answer {
        let mut names: Vec<&String> = now
            .limits
            .keys()
            .chain(old.into_iter().flat_map(|old| old.keys()))
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (was, is) = (old.and_then(|old| old.get(name)), now.limits.get(name));
            if was != is {
                lines.push((name.clone(), was.copied(), is.copied()));
            }
        }
    }
    if json {
        let show = |limit: &Option<InForce>| json!(limit);
        terminal::out_json(&json!({
            "service": service.as_str(),
            "changed": true,
            "revision": written.revision,
            "confirmed_by": answer.as_ref().map(|now| &now.worker),
            "limits": lines.iter().map(|(name, was, is)| json!({
                "name": name, "was": show(was), "is": show(is),
            })).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    let Some(now) = answer else {
        terminal::out(format_args!(
            "{service}: written, and in force as soon as a worker runs"
        ));
        terminal::note(format_args!(
            "no worker has answered within {} s: is one running?",
            ANSWER_WITHIN.as_secs()
        ));
        return Ok(());
    };
    for (name, was, is) in &lines {
        terminal::out(sentence(service, name, was.as_ref(), is.as_ref()));
    }
    if lines.is_empty() {
        terminal::out(format_args!("{service}: its limits were so already"));
    }
    terminal::out(format_args!(
        "in force: worker {} says so",
        clean(&now.worker, 80)
    ));
    Ok(())
}

fn sentence(service: &Service, name: &str, was: Option<&InForce>, is: Option<&InForce>) -> String {
    let show = |limit: &InForce| {
        let shadow = if limit.shadow {
            ", only counted (shadow)"
        } else {
            ""
        };
        format!("{}{shadow}", limit.rule)
    };
    let name = clean(name, 80);
    match (was, is) {
        (Some(was), Some(is)) => format!("{service} {name}: {} (was {})", show(is), show(was)),
        (None, Some(is)) if is.apart => format!("{service} {name}: {} (new, for some calls)", show(is)),
        (None, Some(is)) => format!("{service} {name}: {} (new, for every call)", show(is)),
        (Some(was), None) => format!("{service} {name}: no limit any more (was {})", show(was)),
        (None, None) => format!("{service} {name}: no limit"),
    }
}

/// Writes what `edit` makes of the wishes; `None` when that changes nothing.
async fn write(
    bucket: &Store,
    service: &Service,
    edit: impl Fn(&mut Wishes) -> Result<(), Failure>,
) -> Result<Option<Written>, Failure> {
    let doing = || format!("changing the limits of {service}");
    for _ in 0..TRIES {
        let entry = bucket
            .entry(service.limits_set())
            .await
            .map_err(Failure::at(doing()))?;
        let (old, revision) = match &entry {
            Some(entry) if entry.operation == Operation::Put => {
                // Nobody could live under wishes that make no sense: they give way.
                (live::read(&entry.value).unwrap_or_default(), entry.revision)
            }
            Some(entry) => (Wishes::new(), entry.revision),
            None => (Wishes::new(), 0),
        };
        let mut wishes = old.clone();
        edit(&mut wishes)?;
        let broken = entry.is_some_and(|e| e.operation == Operation::Put && live::read(&e.value).is_err());
        if wishes == old && !broken {
            return Ok(None);
        }
        let json = serde_json::to_vec(&wishes).map_err(Failure::at(doing()))?;
        live::read(&json).map_err(|why| Failure::Usage(format!("{}: {why}", doing())))?;
        match bucket.update(service.limits_set(), json.into(), revision).await {
            Ok(revision) => return Ok(Some(Written { old, revision })),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", doing()))),
        }
    }
    Err(Failure::Failed(format!(
        "{}: somebody else changes them all the time",
        doing()
    )))
}

/// A worker's answer to this revision or a later one; `None` when none comes in time.
async fn answer(bucket: &Store, service: &Service, revision: u64) -> Result<Option<Now>, Failure> {
    let doing = || format!("waiting for a worker of {service}");
    let mut said = bucket
        .watch_with_history(service.limits_now())
        .await
        .map_err(Failure::at(doing()))?;
    let wait = async {
        while let Some(entry) = said.next().await {
            let entry = entry.map_err(Failure::at(doing()))?;
            if let Ok(now) = serde_json::from_slice::<Now>(&entry.value)
                && now.set >= revision
            {
                return Ok(Some(now));
            }
        }
        Ok(None)
    };
    tokio::time::timeout(ANSWER_WITHIN, wait)
        .await
        .unwrap_or(Ok(None))
}

/// Puts the wishes from before in place of refused ones, unless somebody has written others meanwhile.
async fn take_back(bucket: &Store, service: &Service, written: &Written) {
    if let Ok(json) = serde_json::to_vec(&written.old) {
        let _ = bucket
            .update(service.limits_set(), json.into(), written.revision)
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_with_what_was_before() {
        let github = Service::new("github").unwrap();
        let limit = |rule: &str, shadow, apart| InForce {
            rule: rule.parse().unwrap(),
            shadow,
            apart,
        };
        let (slow, fast) = (
            limit("10 per minute", false, false),
            limit("90 per 30s, burst 9", true, true),
        );
        for (was, is, said) in [
            (
                Some(&slow),
                Some(&fast),
                "github x: 90 per 30s, burst 9, only counted (shadow) (was 10 per minute, burst 1)",
            ),
            (
                None,
                Some(&slow),
                "github x: 10 per minute, burst 1 (new, for every call)",
            ),
            (
                Some(&slow),
                None,
                "github x: no limit any more (was 10 per minute, burst 1)",
            ),
        ] {
            assert_eq!(sentence(&github, "x", was, is), said);
        }
    }
}
