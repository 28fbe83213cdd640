//! Conservation by id: every accepted event is done, dead or waiting, in exactly one of them and once.

mod read;
#[cfg(test)]
mod tests;
mod took;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use async_nats::jetstream;

use serde::Serialize;
use shared::subject::Service;
use sqlx::PgPool;

pub use self::{
    read::{ReadError, idle, postgres, sightings},
    took::accept_to_done,
};

/// How long to look again before a loss or a double is believed: an event that moves while it is looked for can be
/// missed or met twice.
const DOUBT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Ids listed as examples of what is lost or doubled.
const EXAMPLES: usize = 20;

/// Where an event's id was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A row of `results` that says done.
    Done,
    /// A row of `results` that says dead.
    Dead,
    /// A message among the dead letters.
    DeadLetter,
    /// A message in a service's stream or waiting for its retry.
    Waiting,
}

/// The account of all accepted events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conservation {
    /// Events accepted.
    pub accepted: u64,
    /// Those whose effect is recorded.
    pub done: u64,
    /// Those among the dead letters or recorded as dead.
    pub dead: u64,
    /// Those that still wait.
    pub waiting: u64,
    /// Those found nowhere.
    pub lost: u64,
    /// The first of them in order.
    pub lost_ids: Vec<String>,
    /// Those found in more than one place, or done or dead more than once.
    pub doubled: u64,
    /// The first of them in order, each with where it was found.
    pub doubled_ids: Vec<String>,
    /// Ids found that are none of the accepted: other publishers', or of requests whose answer was lost.
    pub others: u64,
}

impl Conservation {
    /// Nothing lost and nothing doubled.
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.doubled == 0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    done: u32,
    dead: u32,
    letters: u32,
    waiting: u32,
}

impl Seen {
    fn at(&mut self, place: Place) {
        let counter = match place {
            Place::Done => &mut self.done,
            Place::Dead => &mut self.dead,
            Place::DeadLetter => &mut self.letters,
            Place::Waiting => &mut self.waiting,
        };
        *counter += 1;
    }

    /// A dead event has a row and a letter; that is one death told twice.
    fn dead(&self) -> u32 {
        self.dead.max(self.letters)
    }

    /// A message may lie in the retries and in its stream at once for a moment; it waits all the same.
    fn waits(&self) -> u32 {
        self.waiting.min(1)
    }

    fn total(&self) -> u32 {
        self.done + self.dead() + self.waits()
    }

    fn describe(&self, id: &str) -> String {
        format!(
            "{id}: done {}, dead {} (letters {}), waiting {}",
            self.done, self.dead, self.letters, self.waiting
        )
    }
}

/// Waits until the streams are empty, at most `settle` (what is left then counts as waiting), and draws up the account;
/// a loss or a double is told only when it is still there after five seconds. `progress` hears how many messages are
/// left.
pub async fn audit(
    accepted: &BTreeSet<String>,
    js: &jetstream::Context,
    pool: &PgPool,
    services: &[Service],
    settle: Duration,
    progress: impl FnMut(u64),
) -> Result<Conservation, ReadError> {
    idle(js, services, settle, progress).await?;
    let end = tokio::time::Instant::now() + DOUBT;
    loop {
        let found = account(accepted, sightings(accepted, js, pool, services).await?);
        if found.holds() || tokio::time::Instant::now() >= end {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Draws up the account of `accepted` from everything that was seen.
pub fn account<'a>(
    accepted: &'a BTreeSet<String>,
    sightings: impl IntoIterator<Item = (String, Place)>,
) -> Conservation {
    let mut seen: HashMap<&'a str, Seen> = accepted.iter().map(|id| (id.as_str(), Seen::default())).collect();
    let mut others = HashSet::new();
    for (id, place) in sightings {
        match seen.get_mut(id.as_str()) {
            Some(seen) => seen.at(place),
            None => {
                others.insert(id);
            }
        }
    }
    let mut account = Conservation {
        accepted: accepted.len() as u64,
        others: others.len() as u64,
        ..Conservation::default()
    };
    let mut lost: Vec<String> = Vec::new();
    let mut doubled: Vec<String> = Vec::new();
    for (id, seen) in seen {
        match seen.total() {
            0 => lost.push(id.to_owned()),
            1 => {
                account.done += u64::from(seen.done);
                account.dead += u64::from(seen.dead());
                account.waiting += u64::from(seen.waits());
            }
            _ => doubled.push(seen.describe(id)),
        }
    }
    account.lost = lost.len() as u64;
    account.doubled = doubled.len() as u64;
    account.lost_ids = first(lost);
    account.doubled_ids = first(doubled);
    account
}

fn first(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids.truncate(EXAMPLES);
    ids
}
