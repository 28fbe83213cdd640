//! The account at the end of a scenario.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::Serialize;
use shared::subject::Service;
use tokio::time::Instant;

use super::client::{Kind, Traffic};
use super::scene::Scene;
use super::{LOOK_EVERY, Trouble};
use crate::conservation::{self, Conservation, Place};
use crate::provider::Call;

/// How long the fleet may take to work off what is left.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Ids named in a problem.
const EXAMPLES: usize = 5;

/// What came of a scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Told {
    /// Every acknowledged event, in exactly one place.
    pub account: Conservation,
    /// Writes to GitHub and Slack that took place twice or more, acknowledged or not.
    pub effects_twice: u64,
    /// Events recorded as done whose effect the provider never saw.
    pub effects_missing: u64,
    /// Deliveries to the webhook receiver that came again, with the same `webhook-id`.
    pub delivered_again: u64,
    /// Answers to the client that were no 202.
    pub refused: u64,
    /// From the end of the fault until an event sent then was done.
    pub recovery: Option<Duration>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// What did not hold.
    pub problems: Vec<String>,
}

impl Told {
    /// Everything that was promised held.
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Draws up the account once everything is worked off.
pub(super) async fn draw(scene: &Scene, traffic: &Traffic) -> Result<Told, Trouble> {
    let services = ["github", "slack", "http"].map(Service::new);
    let services: Vec<Service> = services.into_iter().flatten().collect();
    let acknowledged = &traffic.acknowledged;
    let end = Instant::now() + SETTLED_WITHIN;
    let account = loop {
        let left = end.saturating_duration_since(Instant::now());
        let drawn = conservation::audit(acknowledged, &scene.js, &scene.database, &services, left, |_| {});
        match drawn.await {
            Ok(account) => break account,
            // Servers may still be coming back.
            Err(error) if Instant::now() >= end => {
                return Err(Trouble::Failed(format!("the account: {error}")));
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    let rows = conservation::postgres(acknowledged, &scene.database, &services).await;
    let rows = rows.map_err(Trouble::at("the results"))?;
    let done: BTreeSet<&str> = rows
        .iter()
        .filter(|(_, place)| *place == Place::Done)
        .map(|(id, _)| id.as_str())
        .collect();
    let effects = scene.provider.effects();
    let twice = twice(&effects, &[Kind::Comment, Kind::Message]);
    let missing: Vec<&str> = done
        .iter()
        .copied()
        .filter(|id| !effects.contains_key(*id))
        .collect();
    let recorded: Vec<String> = sqlx::query_scalar(
        "SELECT event_id FROM outcomes WHERE state = 'done' GROUP BY event_id, service HAVING count(*) > 1",
    )
    .fetch_all(&scene.database)
    .await
    .map_err(Trouble::at("the outcomes"))?;
    let mut problems = Vec::new();
    let mut problem = |what: &str, count: u64, ids: &[&str]| {
        if count > 0 {
            problems.push(format!(
                "{count} {what}, such as {:?}",
                &ids[..ids.len().min(EXAMPLES)]
            ));
        }
    };
    problem(
        "acknowledged events are lost",
        account.lost,
        &texts(&account.lost_ids),
    );
    problem(
        "events are in two places",
        account.doubled,
        &texts(&account.doubled_ids),
    );
    problem("events still wait", account.waiting, &[]);
    if !scene.at_least_once {
        problem("effects took place twice", twice.len() as u64, &twice);
    }
    problem(
        "events are done without an effect",
        missing.len() as u64,
        &missing,
    );
    problem(
        "answers 429 or 503 without Retry-After",
        traffic.without_retry_after,
        &[],
    );
    if acknowledged.is_empty() {
        problems.push("nothing was acknowledged".to_owned());
    }
    let mut notes = Vec::new();
    if !recorded.is_empty() {
        // Two workers may learn of the same effect: one that made the call, and one that looked it up meanwhile.
        notes.push(format!(
            "{} events have two records of being done",
            recorded.len()
        ));
    }
    let unexpected = if scene.at_least_once { &[][..] } else { &twice };
    for id in unexpected.iter().chain(&missing).take(EXAMPLES) {
        notes.push(story(scene, id).await?);
    }
    let accepted = traffic.answers.get("202").copied().unwrap_or(0);
    Ok(Told {
        effects_twice: twice.len() as u64,
        effects_missing: missing.len() as u64,
        delivered_again: self::twice(&effects, &[Kind::Hook, Kind::Large]).len() as u64,
        refused: traffic.answers.values().sum::<u64>() - accepted,
        account,
        recovery: None,
        notes,
        problems,
    })
}

/// What is known of one event: its calls and its records.
async fn story(scene: &Scene, id: &str) -> Result<String, Trouble> {
    let calls = scene.provider.calls(Some(id), 20);
    let call = |call: &Call| {
        format!(
            "{:.0} ms {} {:?} {}",
            call.at_ms, call.method, call.answer, call.status
        )
    };
    let calls: Vec<String> = calls.iter().map(call).collect();
    let records: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', at, attempt, outcome, code, detail, worker) FROM audit WHERE event_id = $1 ORDER BY at",
    )
    .bind(id)
    .fetch_all(&scene.database)
    .await
    .map_err(Trouble::at("the audit"))?;
    Ok(format!("{id}: calls {calls:#?}, records {records:#?}"))
}

fn twice<'a>(effects: &'a HashMap<String, u32>, kinds: &[Kind]) -> Vec<&'a str> {
    let of = |id: &str| kinds.iter().any(|kind| id.starts_with(kind.prefix()));
    let mut ids: Vec<&str> = effects
        .iter()
        .filter(|(id, times)| **times > 1 && of(id))
        .map(|(id, _)| id.as_str())
        .collect();
    ids.sort_unstable();
    ids
}

fn texts(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}
