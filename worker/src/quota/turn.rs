//! The right to make one call: a ticket until its time has come, then a turn until its answer is here.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use shared::event::EventId;
use shared::failure::Failure;
use shared::limiter::Charge;

use super::Desk;
use super::book::Book;
use super::slot::Slot;
use crate::limits::dimension;
use crate::outbound::Answer;
use crate::outbound::lease::Bound;
use crate::outbound::upstreams::Upstream;
use crate::provider::{Reading, Refusal, UNCOUNTED};

/// An answer keeps the fleet from a key for at most this long, or the key's period if that is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Providers tell their resets in whole seconds: what they say of a window shorter than this is too coarse to slow down
/// for. Their refusals count.
const SHORTEST_WINDOW: Duration = Duration::from_secs(10);

/// Of a provider whose bucket refills all the time, this many seconds are foreseen.
const AS_IT_REFILLS: f64 = 1.0;

/// The right to begin a call from a certain time on; unused, it is there for another call.
#[derive(Debug)]
pub struct Ticket {
    desk: Arc<Desk>,
    /// `None` where nothing is limited, or nobody can be asked.
    slot: Option<Slot>,
}

impl Ticket {
    pub(super) fn new(desk: &Arc<Desk>, book: &mut Book, slot: Option<Slot>) -> Self {
        if slot.is_some() {
            book.hand();
        }
        let desk = Arc::clone(desk);
        Self { desk, slot }
    }

    /// Waits for its time.
    pub(super) async fn due(&self) {
        // A timer takes a millisecond to find out that its time has passed.
        if let Some(slot) = self.slot.as_ref().filter(|slot| slot.due > Instant::now()) {
            tokio::time::sleep_until(slot.due.into()).await;
        }
    }

    /// Begins the call, or goes on with one that has taken other limits already. `None` when the ticket has become void
    /// meanwhile: it was not used in time, or the provider has refused a call.
    pub(super) fn go(mut self, turn: Option<Turn>) -> Option<Turn> {
        let slot = self.slot.take();
        let mut book = self.desk.book();
        if slot.is_some() {
            book.unhand();
        }
        if let Some(slot) = &slot
            && book.void(slot, Instant::now())
        {
            book.keep(slot.clone(), Instant::now());
            drop(book);
            return None;
        }
        Some(match (turn, slot) {
            (Some(turn), None) => turn,
            (Some(turn), Some(slot)) => {
                book.join(turn.flight, &slot);
                turn
            }
            (None, slot) => {
                let flight = book.fly(slot.iter().flat_map(Slot::parts).collect());
                drop(book);
                Turn::new(&self.desk, flight)
            }
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let mut book = self.desk.book();
            book.unhand();
            book.keep(slot, Instant::now());
            drop(book);
            self.desk.wake.notify_one();
            self.desk.back.notify_one();
        }
    }
}

/// A call under way. Dropped when its answer is here.
#[derive(Debug)]
pub struct Turn {
    desk: Arc<Desk>,
    flight: u64,
    bound: Option<Bound>,
    /// The tags of what is known and too old, by event.
    known: Vec<(EventId, String)>,
    /// Whether an event waits for its answer.
    needed: bool,
}

impl Turn {
    pub(super) fn new(desk: &Arc<Desk>, flight: u64) -> Self {
        desk.stir.notify_one();
        let desk = Arc::clone(desk);
        Self {
            desk,
            flight,
            bound: None,
            known: Vec::new(),
            needed: true,
        }
    }

    /// The same turn, for a call that nobody waits for.
    #[must_use]
    pub(super) fn of_nobody(mut self) -> Self {
        self.needed = false;
        self
    }

    /// The same turn, for a call to this upstream.
    #[must_use]
    pub fn to(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }

    /// The same turn, for events of which these answers are known by their tags.
    #[must_use]
    pub fn knowing(mut self, known: Vec<(EventId, String)>) -> Self {
        self.known = known;
        self
    }

    /// The tag of what is known of an event's read and too old to be used: the API can be asked whether it holds.
    /// It can be the value of a header.
    pub fn knows(&self, event: &EventId) -> Option<&str> {
        let mut known = self.known.iter();
        known.find(|(of, _)| of == event).map(|(_, etag)| &**etag)
    }

    /// Where the call goes, which begins now.
    ///
    /// # Errors
    /// Nobody has said where: a mistake in this code.
    pub fn upstream(&self) -> Result<&Upstream, Failure> {
        let bound = self.bound.as_ref();
        bound
            .map(Bound::begun)
            .ok_or_else(|| Failure::permanent("upstream", "the call has none"))
    }

    /// Takes in what an answer to this call tells about the limits: what is left, what it cost, whether it was refused.
    /// The whole fleet knows with its next question.
    pub fn answered(&self, answer: &Answer) -> Reading {
        if let Some(bound) = &self.bound {
            bound.answered();
        }
        if self.needed {
            self.desk.idle.earn();
        }
        let reading = self.desk.parts.provider.read(answer, SystemTime::now());
        self.desk.parts.metrics.absurd.inc_by(reading.absurd.into());
        let charges = self.desk.book().charges(self.flight);
        self.left(&reading, &charges);
        self.spent(&reading, &charges);
        if let Some(refusal) = reading
            .refusal
            .filter(|refusal| refusal.dimension != Some(UNCOUNTED))
        {
            self.refused(&refusal, &charges);
        }
        reading
    }

    fn left(&self, reading: &Reading, charges: &[(Charge, f64)]) {
        let refills = self.desk.parts.provider.refills();
        let mut book = self.desk.book();
        for standing in reading
            .standings
            .iter()
            .filter(|standing| !standing.reset.is_zero())
        {
            let Some((charge, total)) = about(standing.dimension, charges) else {
                continue;
            };
            if charge.rule.period().is_none_or(|period| period < SHORTEST_WINDOW) {
                continue;
            }
            let calls = f64::from(charge.rule.calls());
            let period = charge.rule.period().unwrap_or_default();
            let reset = standing.reset.min(period.max(LONGEST_PAUSE));
            let (left, reset) = (standing.remaining as f64, reset.as_secs_f64());
            let limit = standing.limit.map_or(calls, |limit| limit as f64);
            let (left, reset) = if refills {
                (
                    left + (limit - left).max(0.0) / reset * AS_IT_REFILLS,
                    AS_IT_REFILLS,
                )
            } else {
                (left, reset)
            };
            let report = book.owe(charge);
            report.ceiling = total + left;
            report.left = left;
            report.reset = reset * 1e6;
            report.tolerance = if limit < calls {
                0.0
            } else {
                (calls / 100.0).max(1.0)
            };
        }
    }

    fn spent(&self, reading: &Reading, charges: &[(Charge, f64)]) {
        let mut book = self.desk.book();
        for (name, used) in &reading.usage {
            if let Some((charge, _)) = about(name, charges) {
                // One answer makes a debt of one period at most, whatever it says.
                let used = (*used).min(charge.rule.calls().into());
                self.desk.parts.limits.learn(name, used);
                book.settle(self.flight, charge, used as f64 - f64::from(charge.cost));
            }
        }
    }

    /// Keeps the fleet from the key that the refusal is about; from the service's own where it does not say.
    fn refused(&self, refusal: &Refusal, charges: &[(Charge, f64)]) {
        self.desk.parts.metrics.refused.inc();
        self.desk.idle.refused();
        let base = self.desk.parts.limits.base();
        let named = refusal
            .dimension
            .and_then(|name| about(name, charges))
            .map(|(charge, _)| charge);
        let charge = named.or_else(|| base.iter().find(|charge| !charge.shadow));
        let pause = bounded(refusal, charge);
        let mut book = self.desk.book();
        if let Some(charge) = charge {
            let report = book.owe(charge);
            report.pause = report.pause.max(micros(pause));
        }
        match charge.filter(|charge| base.iter().all(|base| base.key != charge.key)) {
            None => book.pause(Instant::now() + pause),
            Some(own) => drop(book.queue(own, pause, Instant::now())),
        }
        drop(book);
        self.desk.urgent();
    }
}

/// The charge for what the provider calls by this name, one channel's or method's too.
fn about<'a>(name: &str, charges: &'a [(Charge, f64)]) -> Option<&'a (Charge, f64)> {
    charges.iter().find(|(charge, _)| {
        let known = dimension(&charge.key);
        known == name || known.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
    })
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.desk.book().land(self.flight, Instant::now()) {
            self.desk.wake.notify_one();
        }
    }
}

fn bounded(refusal: &Refusal, charge: Option<&Charge>) -> Duration {
    let period = charge.and_then(|charge| charge.rule.period()).unwrap_or_default();
    refusal.wait.min(period.max(LONGEST_PAUSE))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
