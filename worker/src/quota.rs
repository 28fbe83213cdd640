//! The shared limits as one service meets them: tickets before messages are pulled, a turn for each call, and what its
//! answer tells about the limits.

pub mod away;
mod book;
mod extras;
mod idle;
mod owed;
mod quickest;
mod report;
mod slot;
mod tickets;
mod turn;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::limiter::{Ask, Charge, Grant, Limiter};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::batch::{Batcher, Gone};
use crate::forecast::Forecast;
use crate::limits::Limits;
use crate::metrics::QuotaMetrics;
use crate::provider::Provider;
use away::{Away, Policy};
use book::Book;
use idle::Idle;
pub use turn::{Ticket, Turn};

/// Tickets booked at once lie at most this far from each other (half of how far ahead they are booked, if that is less):
/// at high rates many, at low ones few. A worker that is killed takes so much of the rate with it.
const BLOCK: Duration = Duration::from_millis(50);
/// Most calls decided in one round trip.
const BATCH: usize = 512;
/// For how long a forecast holds.
const FORESEEN: Duration = Duration::from_secs(10);
/// Pause before Redis is asked again that did not answer.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// No call may begin yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// In how long it is worthwhile to ask again.
    pub after: Duration,
    /// What is in the way.
    pub why: Why,
}

/// What is in the way of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The limit behind this key.
    Limit(Arc<str>),
    /// The provider has refused a call.
    Refused,
    /// Redis cannot be asked.
    Away,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Why::Limit(key) => write!(f, "waits for {}", crate::limits::dimension(key)),
            Why::Refused => f.write_str("the provider has refused a call"),
            Why::Away => f.write_str("limits cannot be asked"),
        }
    }
}

/// What a service's quota is made of.
#[derive(Debug)]
pub struct Parts {
    /// The shared buckets.
    pub limiter: Limiter,
    /// The service's limits.
    pub limits: Arc<Limits>,
    /// How the API words its limits.
    pub provider: Provider,
    /// What happens while Redis is away.
    pub away: Policy,
    /// How far ahead calls are booked.
    pub ahead: Duration,
    /// Counts.
    pub metrics: QuotaMetrics,
}

/// The limits of one service.
#[derive(Debug)]
pub struct Quota {
    desk: Arc<Desk>,
    singles: Batcher<(), Result<Ticket, Wait>>,
    extras: Batcher<Vec<Charge>, Result<Turn, Wait>>,
    _end: DropGuard,
}

/// What tickets and turns come back to.
#[derive(Debug)]
struct Desk {
    parts: Parts,
    away: Away,
    book: Mutex<Book>,
    /// One question at a time: what is held must be known when it is asked.
    gate: tokio::sync::Mutex<()>,
    wake: Notify,
    /// A refusal does not wait for a question to ride on.
    urgent: Notify,
    /// A call begins: there will be something to look at.
    stir: Notify,
    /// A ticket has come back unused.
    back: Notify,
    idle: Idle,
    seen_open: Mutex<Option<Instant>>,
    forecast: Mutex<Forecast>,
    /// How far apart calls of the lowest lane must be, and since when.
    lowest: Mutex<Option<(Duration, Instant)>>,
}

/// What Redis has granted.
struct Answer<'a> {
    grant: Grant,
    asked: Instant,
    answered: Instant,
    gate: tokio::sync::MutexGuard<'a, ()>,
}

impl Quota {
    /// Starts the tasks of a service's quota; they end when it is dropped, after giving back what is unused.
    pub fn start(tasks: &TaskTracker, parts: Parts) -> Self {
        let desk = Arc::new(Desk {
            away: Away::new(parts.away),
            parts,
            book: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            urgent: Notify::new(),
            stir: Notify::new(),
            back: Notify::new(),
            idle: Idle::default(),
            seen_open: Mutex::default(),
            forecast: Mutex::default(),
            lowest: Mutex::default(),
        });
        let singles = Batcher::start(tasks, BATCH, 1, {
            let desk = Arc::clone(&desk);
            move |askers: Vec<()>| {
                let desk = Arc::clone(&desk);
                async move { desk.singles(askers.len()).await }
            }
        });
        let extras = Batcher::start(tasks, BATCH, 1, {
            let desk = Arc::clone(&desk);
            move |asked| {
                let desk = Arc::clone(&desk);
                async move { desk.extras(asked).await }
            }
        });
        let end = CancellationToken::new();
        tasks.spawn(Arc::clone(&desk).report(end.clone()));
        Self {
            desk,
            singles,
            extras,
            _end: end.drop_guard(),
        }
    }

    /// Whether a call could begin about now. Books nothing.
    pub async fn open(&self) -> Result<(), Wait> {
        self.desk.open().await
    }

    /// A ticket has come back unused since this was asked last: [`tickets`](Self::tickets) may have it.
    pub async fn returned(&self) {
        self.desk.back.notified().await;
    }

    /// At least one ticket and at most `most`, for as many messages.
    pub async fn tickets(&self, most: usize) -> Result<Vec<Ticket>, Wait> {
        self.desk.tickets(most).await
    }

    /// How far apart calls of the lowest lane must be, because what the provider leaves would not last for all lanes
    /// until more comes.
    pub fn lowest_every(&self) -> Option<Duration> {
        let (every, said) = (*self.desk.lowest())?;
        (said.elapsed() < FORESEEN).then_some(every)
    }

    /// So many messages were pulled from the upper lanes and from the lowest.
    pub fn pulled(&self, upper: usize, lowest: usize) {
        self.desk.forecast().pulled(upper, lowest);
    }

    /// Waits for a ticket, if there is none, and for its time; `Err` when that is further away than `patience`.
    pub async fn due(&self, ticket: Option<Ticket>, patience: Duration) -> Result<Ticket, Wait> {
        let mut ticket = ticket;
        loop {
            let held = match ticket.take() {
                Some(ticket) => Ok(ticket),
                None => self.singles.ask(()).await.unwrap_or_else(|Gone| Err(gone())),
            };
            match held {
                Ok(held) => {
                    held.due().await;
                    return Ok(held);
                }
                Err(wait) if wait.after > patience => return Err(wait),
                Err(wait) => tokio::time::sleep(wait.after).await,
            }
        }
    }

    /// Waits for the time to make a call under the service's limits and `extra` ones; `Err` when that is further away
    /// than `patience`. With `in_turn`, the call has waited for its turn and need not queue behind others.
    pub async fn turn(
        &self,
        ticket: Option<Ticket>,
        extra: Vec<Charge>,
        patience: Duration,
        in_turn: bool,
    ) -> Result<Turn, Wait> {
        let mut ticket = ticket;
        loop {
            if !in_turn && let Some(wait) = self.desk.queue_behind(&extra, patience) {
                return Err(wait);
            }
            let held = match ticket.take() {
                Some(ticket) => Ok(ticket),
                None => self.singles.ask(()).await.unwrap_or_else(|Gone| Err(gone())),
            };
            let held = match held {
                Ok(held) => held,
                Err(wait) if wait.after <= patience => {
                    tokio::time::sleep(wait.after).await;
                    continue;
                }
                Err(wait) => return Err(wait),
            };
            held.due().await;
            if extra.is_empty() {
                if let Some(turn) = held.go(None) {
                    return Ok(turn);
                }
                continue;
            }
            match self
                .extras
                .ask(extra.clone())
                .await
                .unwrap_or_else(|Gone| Err(gone()))
            {
                Ok(turn) => {
                    if let Some(turn) = held.go(Some(turn)) {
                        return Ok(turn);
                    }
                }
                Err(wait) => {
                    drop(held);
                    if wait.after > patience {
                        return Err(self.desk.planned(&extra, wait));
                    }
                    tokio::time::sleep(wait.after).await;
                }
            }
        }
    }
}

fn gone() -> Wait {
    Wait {
        after: AWAY_PAUSE,
        why: Why::Away,
    }
}

impl Desk {
    /// Has what is owed told at once.
    fn urgent(&self) {
        self.urgent.notify_one();
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forecast(&self) -> MutexGuard<'_, Forecast> {
        self.forecast.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lowest(&self) -> MutexGuard<'_, Option<(Duration, Instant)>> {
        self.lowest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks ahead at the limit of which the least is left for its time.
    fn foresee(&self, grant: &Grant) {
        let (now, workers) = (Instant::now(), self.away.known_workers());
        let mut forecast = self.forecast();
        if let Some(mark) = grant.marks.first() {
            forecast.observe(now, mark.total);
        }
        let lefts = grant.left.iter().flatten();
        let slowest = lefts
            .filter_map(|(left, reset)| forecast.lowest_every(*left, *reset, workers))
            .max();
        drop(forecast);
        *self.lowest() = slowest.map(|every| (every, now));
    }

    /// Asks for up to `calls` under the service's limits.
    async fn ask(&self, base: &[Charge], calls: u32) -> Result<Answer<'_>, Wait> {
        let gate = self.gate.lock().await;
        if self.away.settle() {
            // Calls were made that Redis has not heard of.
            self.parts.limiter.start_anew(&base[0].key);
        }
        let (reports, held) = self.to_tell(base);
        let ask = Ask {
            calls,
            ahead: self.parts.ahead,
            block: BLOCK.min(self.parts.ahead / 2),
            idle: false,
        };
        let asked = Instant::now();
        self.parts.metrics.trips.inc();
        match self.parts.limiter.take(base, &reports, &held, ask).await {
            Ok(grant) => {
                self.parts.metrics.calls.inc_by(grant.calls.into());
                self.count(&grant.over);
                self.foresee(&grant);
                Ok(Answer {
                    grant,
                    asked,
                    answered: Instant::now(),
                    gate,
                })
            }
            Err(error) => {
                self.book().still_owed(base, &reports);
                Err(self.unavailable(&error))
            }
        }
    }

    fn to_tell(&self, charges: &[Charge]) -> (Vec<Option<shared::limiter::Report>>, Vec<u32>) {
        let mut book = self.book();
        (book.reports(charges), book.held(charges))
    }

    fn count(&self, over: &[u32]) {
        self.parts
            .metrics
            .over
            .inc_by(over.iter().copied().map(u64::from).sum());
    }

    fn unavailable(&self, error: &shared::limiter::Unavailable) -> Wait {
        self.away.lost();
        self.stir.notify_one();
        self.parts.metrics.away.inc();
        tracing::warn!(%error, policy = if self.away.shares() { "share" } else { "stop" }, "Redis cannot be asked for limits");
        gone()
    }
}

fn limit(charges: &[Charge], which: Option<usize>) -> Why {
    match which.and_then(|which| charges.get(which)) {
        Some(charge) => Why::Limit(Arc::clone(&charge.key)),
        None => Why::Away,
    }
}
