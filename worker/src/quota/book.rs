//! What a worker knows of its calls between two questions to Redis: places it holds, calls under way, and what it still
//! has to report of earlier ones.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::limiter::bucket::slack_of_way;
use shared::limiter::{Bucket, Charge, Grant, Report, Rule};

/// Keys whose waiting is remembered at most.
const MAX_QUEUES: usize = 10_000;

/// The right to begin one call, from its time on.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Not before this.
    pub(super) due: Instant,
    /// The earliest moment that this may have been for Redis.
    pub(super) booked: Instant,
    /// Under which limits.
    pub(super) base: Arc<[Charge]>,
    /// One for each of them: its pushes, and the total of its grants with this call.
    pub(super) marks: Vec<(f64, f64)>,
    /// A refusal makes older slots void.
    pub(super) generation: u64,
}

/// One limit of a call under way.
#[derive(Debug)]
pub(super) struct Part {
    charge: Charge,
    booked: Instant,
    push: f64,
    /// The total of grants with this call.
    total: f64,
}

/// A call that has been let go and is not answered yet.
#[derive(Debug)]
pub(super) struct Flight {
    parts: Vec<Part>,
    /// Whether it is late beyond what counts, and that has been reported.
    overdue: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    spare: VecDeque<Slot>,
    flying: HashMap<u64, Flight>,
    last_flight: u64,
    owed: BTreeMap<Arc<str>, (Charge, Report)>,
    queues: HashMap<Arc<str>, Instant>,
    /// Until when a refusal keeps this worker from calling.
    paused: Option<Instant>,
    pub(super) generation: u64,
}

/// Until how long after its time a slot may be used.
fn lasts(base: &[Charge]) -> Duration {
    let shortest = base.iter().filter_map(|charge| charge.rule.period()).min();
    shortest.map_or(Duration::MAX, |period| {
        (period / 20).clamp(Duration::from_millis(10), Duration::from_millis(250))
    })
}

/// How late a call without an answer is taken to be at most: the answer of a slow API comes long after the call's
/// arrival. A tenth of the period, at most 250 ms.
fn longest_way(period: Duration) -> Duration {
    (period / 10).min(Duration::from_millis(250))
}

impl Slot {
    /// The slots of a grant that was asked for at `asked` and came at `answered`.
    pub(super) fn of(
        grant: &Grant,
        base: &Arc<[Charge]>,
        asked: Instant,
        answered: Instant,
        generation: u64,
    ) -> impl Iterator<Item = Self> {
        (0..grant.calls).map(move |n| Self {
            due: answered + grant.due(n),
            booked: asked + grant.due(n),
            base: Arc::clone(base),
            marks: grant
                .marks
                .iter()
                .zip(base.iter())
                .map(|((push, total), charge)| (*push, total + f64::from(n + 1) * f64::from(charge.cost)))
                .collect(),
            generation,
        })
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.base
            .iter()
            .zip(&self.marks)
            .map(|(charge, (push, total))| Part {
                charge: charge.clone(),
                booked: self.booked,
                push: *push,
                total: *total,
            })
    }
}

impl Part {
    /// A limit taken for one call only.
    pub(super) fn own(charge: Charge, asked: Instant, mark: (f64, f64)) -> Self {
        let total = mark.1 + f64::from(charge.cost);
        Self {
            charge,
            booked: asked,
            push: mark.0,
            total,
        }
    }

    /// What the pushes of the bucket must come to when this call arrived no later than at `now`.
    fn late(&self, now: Instant) -> f64 {
        let Some(period) = self.charge.rule.period() else {
            return 0.0;
        };
        let way = now
            .saturating_duration_since(self.booked)
            .min(longest_way(period));
        let beyond = way.saturating_sub(slack_of_way(period));
        if beyond.is_zero() {
            return 0.0;
        }
        self.push + beyond.as_secs_f64() * 1e6
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
            (spare + flying.count()) as u32
        };
        charges.iter().map(held).collect()
    }

    /// Up to `most` slots that lie here unused.
    pub(super) fn spare(&mut self, most: usize, now: Instant) -> Vec<Slot> {
        while let Some(slot) = self.spare.front()
            && self.void(slot, now)
        {
            if let Some(slot) = self.spare.pop_front() {
                self.give_back(&slot);
            }
        }
        let most = most.min(self.spare.len());
        self.spare.drain(..most).collect()
    }

    /// Keeps a slot for another call, or gives it back when it is of no use any more.
    pub(super) fn keep(&mut self, slot: Slot, now: Instant) {
        if self.void(&slot, now) {
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
        for charge in slot.base.iter() {
            self.owe(charge).unused += f64::from(charge.cost);
        }
    }

    /// A call begins. Its number, for [`land`](Self::land).
    pub(super) fn fly(&mut self, parts: Vec<Part>) -> u64 {
        self.last_flight += 1;
        let flight = Flight {
            parts,
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
        self.note_late(&flight.parts, now);
        flight.parts.iter().any(|part| counts_flights(&part.charge))
    }

    fn note_late(&mut self, parts: &[Part], now: Instant) {
        for part in parts {
            let late = part.late(now);
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
        let (_, report) = self
            .owed
            .entry(Arc::clone(&charge.key))
            .or_insert_with(|| (charge.clone(), Report::default()));
        report
    }

    /// What is owed to these buckets, now to be told.
    pub(super) fn reports(&mut self, charges: &[Charge]) -> Vec<Option<Report>> {
        charges
            .iter()
            .map(|charge| self.owed.remove(&charge.key).map(|(_, report)| report))
            .collect()
    }

    /// All that is owed.
    pub(super) fn all_owed(&mut self) -> Vec<(Charge, Report)> {
        std::mem::take(&mut self.owed).into_values().collect()
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
            new.unused += old.unused;
            new.settle += old.settle;
            new.pause = new.pause.max(old.pause);
            if new.reset == 0.0 || (old.reset > 0.0 && old.ceiling < new.ceiling) {
                (new.ceiling, new.reset, new.tolerance) = (old.ceiling, old.reset, old.tolerance);
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
