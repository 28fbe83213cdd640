//! What a worker knows of its calls between two questions to Redis: places it holds, calls under way, and what it still
//! has to report of earlier ones.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::limiter::{Bucket, Charge, Report, Rule};

use super::owed::{Owed, aged};
use super::quickest::Quickest;
use super::slot::{Part, Slot, lasts, longest_way, micros};

/// Keys whose waiting is remembered at most.
const MAX_QUEUES: usize = 10_000;

/// A call that has been let go and is not answered yet.
#[derive(Debug)]
pub(super) struct Flight {
    parts: Vec<Part>,
    begun: Instant,
    /// Whether it is late beyond what counts, and that has been reported.
    overdue: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    spare: VecDeque<Slot>,
    /// Tickets in somebody's hands.
    handed: usize,
    flying: HashMap<u64, Flight>,
    last_flight: u64,
    quickest: Quickest,
    owed: BTreeMap<Arc<str>, Owed>,
    queues: HashMap<Arc<str>, Instant>,
    /// Until when a refusal keeps this worker from calling.
    paused: Option<Instant>,
    pub(super) generation: u64,
    rate: Rate,
    /// The time of the last slot that was booked.
    booked: Option<Instant>,
}

/// How many tickets a second are handed out.
#[derive(Debug)]
struct Rate {
    since: Instant,
    count: usize,
    a_second: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
            a_second: 0.0,
        }
    }
}

impl Book {
    /// For each of these limits, the calls that count against it: those under way and those that could begin.
    pub(super) fn held(&self, charges: &[Charge]) -> Vec<u32> {
        let held = |charge: &Charge| {
            if !counts_flights(charge) {
                return 0;
            }
            let falls = |other: &Charge| other.key == charge.key;
            let spare = self
                .spare
                .iter()
                .filter(|slot| slot.base.iter().any(falls))
                .count();
            let flying = self
                .flying
                .values()
                .filter(|flight| flight.parts.iter().any(|part| falls(&part.charge)));
            (spare + self.handed + flying.count()) as u32
        };
        charges.iter().map(held).collect()
    }

    /// Up to `most` slots that lie here unused.
    pub(super) fn spare(&mut self, most: usize, now: Instant) -> Vec<Slot> {
        let most = most.min(self.spares(now));
        self.spare.drain(..most).collect()
    }

    /// How many there are.
    pub(super) fn spares(&mut self, now: Instant) -> usize {
        while let Some(slot) = self.spare.front()
            && self.void(slot, now)
        {
            if let Some(slot) = self.spare.pop_front() {
                self.give_back(&slot);
            }
        }
        self.spare.len()
    }

    /// The last slot that was booked has this time.
    pub(super) fn booked(&mut self, until: Instant) {
        self.booked = Some(until);
    }

    /// How far ahead slots have been booked already: nobody gets one sooner.
    pub(super) fn booked_until(&self, now: Instant) -> Option<Duration> {
        self.booked?.checked_duration_since(now)
    }

    /// So many tickets are handed out: how many are in a time of `block` of late.
    pub(super) fn hand_out(&mut self, tickets: usize, block: Duration, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.rate.since).as_secs_f64();
        if passed > 0.1 {
            self.rate.a_second = self.rate.count as f64 / passed;
            (self.rate.since, self.rate.count) = (now, 0);
        }
        self.rate.count += tickets;
        (self.rate.a_second * block.as_secs_f64()) as usize
    }

    /// A ticket is in somebody's hands.
    pub(super) fn hand(&mut self) {
        self.handed += 1;
    }

    /// A ticket is used, or comes back.
    pub(super) fn unhand(&mut self) {
        self.handed = self.handed.saturating_sub(1);
    }

    /// Keeps a slot for another call, or gives it back when it is of no use any more.
    pub(super) fn keep(&mut self, slot: Slot, now: Instant) {
        // A place among calls at a time that nobody uses is in the way of others.
        if self.void(&slot, now) || slot.base.iter().any(counts_flights) {
            self.give_back(&slot);
        } else {
            let at = self.spare.partition_point(|other| other.due <= slot.due);
            self.spare.insert(at, slot);
        }
    }

    /// Whether a slot can no longer be used.
    pub(super) fn void(&self, slot: &Slot, now: Instant) -> bool {
        slot.generation < self.generation || now > slot.due + lasts(&slot.base).min(Duration::from_secs(3600))
    }

    fn give_back(&mut self, slot: &Slot) {
        let age = slot.booked.elapsed();
        for (charge, mark) in slot.base.iter().zip(&slot.marks) {
            // A slot of long ago helps nobody, and would take the younger ones with it.
            if charge.rule.period().is_none_or(|period| age < period) {
                self.owe(charge)
                    .add_unused(charge.cost.into(), *mark, micros(age));
            }
        }
    }

    /// A call under way has cost so much more than was taken for it, or less.
    pub(super) fn settle(&mut self, flight: u64, charge: &Charge, more: f64) {
        let part = |part: &&Part| part.charge.key == charge.key;
        let parts = self.flying.get(&flight).map(|flight| &flight.parts[..]);
        let Some(booked) = parts
            .unwrap_or_default()
            .iter()
            .find(part)
            .map(|part| part.booked)
        else {
            return;
        };
        let age = booked.elapsed();
        let report = self.owe(charge);
        if more > 0.0 {
            report.settle += more;
        } else if charge.rule.period().is_none_or(|period| age < period) {
            let before = if report.settle < 0.0 {
                report.settle_age
            } else {
                0.0
            };
            report.settle += more;
            report.settle_age = before.max(micros(age));
        }
    }

    /// A call begins. Its number, for [`land`](Self::land).
    pub(super) fn fly(&mut self, parts: Vec<Part>) -> u64 {
        self.last_flight += 1;
        let flight = Flight {
            parts,
            begun: Instant::now(),
            overdue: false,
        };
        self.flying.insert(self.last_flight, flight);
        self.last_flight
    }

    /// A call that has begun falls under these limits too.
    pub(super) fn join(&mut self, number: u64, slot: &Slot) {
        if let Some(flight) = self.flying.get_mut(&number) {
            flight.parts.extend(slot.parts());
        }
    }

    /// Gives all unused slots back.
    pub(super) fn clear(&mut self) {
        for slot in std::mem::take(&mut self.spare) {
            self.give_back(&slot);
        }
    }

    /// What a call under way falls under, with the total of grants with this call.
    pub(super) fn charges(&self, number: u64) -> Vec<(Charge, f64)> {
        let parts = self.flying.get(&number).map(|flight| &flight.parts[..]);
        let parts = parts.unwrap_or_default().iter();
        parts.map(|part| (part.charge.clone(), part.total)).collect()
    }

    /// A call is over. Whether others may wait for its end.
    pub(super) fn land(&mut self, number: u64, now: Instant) -> bool {
        let Some(flight) = self.flying.remove(&number) else {
            return false;
        };
        self.quickest
            .saw(now.saturating_duration_since(flight.begun), now);
        self.note_late(&flight.parts, now);
        flight.parts.iter().any(|part| counts_flights(&part.charge))
    }

    fn note_late(&mut self, parts: &[Part], now: Instant) {
        let quickest = self.quickest.least();
        for part in parts {
            let late = part.late(now, quickest);
            if late > 0.0 {
                let report = self.owe(&part.charge);
                report.late = report.late.max(late);
            }
        }
    }

    /// Reports calls that take long as late as they can count. Whether any call is under way.
    pub(super) fn note_overdue(&mut self, now: Instant) -> bool {
        let mut flying = std::mem::take(&mut self.flying);
        for flight in flying.values_mut().filter(|flight| !flight.overdue) {
            let late = |part: &Part| {
                let way = part.charge.rule.period().map_or(Duration::MAX, longest_way);
                now.saturating_duration_since(part.booked) >= way
            };
            if flight.parts.iter().all(late) {
                flight.overdue = true;
                self.note_late(&flight.parts, now);
            }
        }
        self.flying = flying;
        !self.flying.is_empty()
    }

    /// What is owed to this bucket, to be added to.
    pub(super) fn owe(&mut self, charge: &Charge) -> &mut Report {
        let now = Instant::now();
        let owed = self.owed.entry(Arc::clone(&charge.key)).or_insert_with(|| Owed {
            charge: charge.clone(),
            report: Report::default(),
            since: now,
        });
        if now > owed.since {
            // All times in a report count from one moment.
            owed.report = aged(owed.report, micros(now.duration_since(owed.since)));
            owed.since = now;
        }
        &mut owed.report
    }

    /// What is owed to these buckets, now to be told.
    pub(super) fn reports(&mut self, charges: &[Charge]) -> Vec<Option<Report>> {
        let now = Instant::now();
        let told = |charge: &Charge| Some(self.owed.remove(&charge.key)?.told(now).1);
        charges.iter().map(told).collect()
    }

    /// All that is owed.
    pub(super) fn all_owed(&mut self) -> Vec<(Charge, Report)> {
        let now = Instant::now();
        let owed = std::mem::take(&mut self.owed);
        owed.into_values().map(|owed| owed.told(now)).collect()
    }

    /// Whether something is owed.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// What could not be told is owed still.
    pub(super) fn still_owed(&mut self, charges: &[Charge], reports: &[Option<Report>]) {
        for (charge, report) in charges.iter().zip(reports) {
            let Some(old) = report else { continue };
            let new = self.owe(charge);
            new.late = new.late.max(old.late);
            // Redis may have heard of it after all: what would give room must not be told twice.
            new.settle += old.settle.max(0.0);
            new.pause = new.pause.max(old.pause);
            if new.reset == 0.0 || (old.reset > 0.0 && old.ceiling < new.ceiling) {
                (new.ceiling, new.left) = (old.ceiling, old.left);
                (new.reset, new.tolerance) = (old.reset, old.tolerance);
            }
        }
    }

    /// A refusal: nothing begins before `until`, and what was booked before is void.
    pub(super) fn pause(&mut self, until: Instant) {
        self.generation += 1;
        self.paused = self.paused.max(Some(until));
    }

    /// Until when nothing begins.
    pub(super) fn paused(&mut self, now: Instant) -> Option<Duration> {
        self.paused = self.paused.filter(|until| *until > now);
        self.paused.map(|until| until - now)
    }

    /// In how long an event may expect its turn at a bucket that let nobody through until `wait` from now: behind all
    /// that were told so before. Nothing is booked; it is when to ask again.
    pub(super) fn queue(&mut self, charge: &Charge, wait: Duration, now: Instant) -> Duration {
        if self.queues.len() >= MAX_QUEUES {
            self.queues.retain(|_, next| *next > now);
            if self.queues.len() >= MAX_QUEUES {
                return wait;
            }
        }
        let next = self.queues.entry(Arc::clone(&charge.key)).or_insert(now);
        let turn = (*next).max(now + wait);
        *next = turn + interval(charge);
        turn - now
    }

    /// In how long a bucket that others wait for lets somebody through; `None` when nobody is known to wait.
    pub(super) fn queued(&mut self, charge: &Charge, now: Instant) -> Option<Duration> {
        let next = *self.queues.get(&charge.key)?;
        if next <= now {
            self.queues.remove(&charge.key);
            return None;
        }
        Some(next - now)
    }
}

/// The time between two calls in the long run.
fn interval(charge: &Charge) -> Duration {
    let micros = match Bucket::from(charge.rule) {
        Bucket::Paced { interval, .. } => interval * f64::from(charge.cost),
        Bucket::Window { calls, period, .. } => period / calls * f64::from(charge.cost),
        Bucket::AtOnce { .. } => 0.0,
    };
    Duration::from_secs_f64(micros / 1e6)
}

/// Whether a limit counts calls under way.
pub(super) fn counts_flights(charge: &Charge) -> bool {
    matches!(charge.rule, Rule::AtOnce(_))
}
