//! The breaker of one upstream as this worker sees it: what it counts itself, what others told, and the record that all
//! share. Everything here is at once and without the network; [`super::fleet`] brings it in step with the others.

mod view;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use shared::breaker::{Counts, Now, Record, Rule, Standing, State, Tally};
use shared::telemetry::propagation::millis;

use crate::metrics::BreakerMetrics;
use view::{Tell, View};

/// How long no call begins while the others' counts are awaited, before a breaker is opened.
const HEAR: Duration = Duration::from_millis(200);
/// After that was in vain, how long until it is awaited again: a worker that alone fails goes on, slowly.
const REST: Duration = Duration::from_secs(1);
/// A look into the bucket may show what was there some time ago: whatever was learned later than that holds.
const SETTLED: Duration = Duration::from_secs(2);

/// What a call has shown of its upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It answers.
    Works,
    /// It does not, or with an error of its own.
    Fails(String),
    /// Nothing.
    Nothing,
}

/// What a look into the bucket has found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) revision: u64,
    /// `None` when it was deleted; the reason when it cannot be read.
    pub(super) record: Option<Result<Record, String>>,
}

/// One upstream's breaker.
#[derive(Debug)]
pub struct Breaker {
    rule: Rule,
    /// The worker's name, for people.
    name: String,
    service: String,
    unused: Record,
    view: Mutex<View>,
    metrics: BreakerMetrics,
}

/// A probe to be claimed: the record to be written over this revision.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) record: Record,
    pub(super) revision: u64,
    version: u64,
}

impl Breaker {
    pub(super) fn new(
        rule: Rule,
        name: &str,
        service: &str,
        unused: Record,
        metrics: BreakerMetrics,
    ) -> Self {
        let view = View::new(&unused, rule.window());
        Self {
            rule,
            name: name.to_owned(),
            service: service.to_owned(),
            unused,
            view: Mutex::new(view),
            metrics,
        }
    }

    /// Whether a call may go there now.
    pub fn standing(&self, now: Instant) -> Standing {
        self.view().standing(now)
    }

    /// How long the last opening was to last.
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_millis(self.view().record.lasts)
    }

    /// Which state of things a call begins in; what it shows later than that says nothing.
    pub(super) fn version(&self) -> u64 {
        self.view().version
    }

    /// Takes in what a call has shown that began in this state of things. `true` when others should know.
    pub(super) fn report(&self, version: u64, outcome: Outcome, now: Instant) -> bool {
        let mut view = self.view();
        if view.version != version || view.record.state != State::Closed {
            return false;
        }
        match outcome {
            Outcome::Nothing => return false,
            Outcome::Works => view.window.count(false, now),
            Outcome::Fails(why) => {
                view.window.count(true, now);
                view.why = why;
                view.tell = view.tell.max(Tell::Failures);
            }
        }
        self.weigh(&mut view, now);
        view.tell != Tell::Nothing || view.unsaved
    }

    /// Opens when enough has failed, once the others had the time to tell how they fare.
    fn weigh(&self, view: &mut View, now: Instant) {
        let own = view.window.counts(now);
        let counts = own + view.heard.counts(self.rule.window(), now);
        let trips = view.record.state == State::Closed && own.failures > 0 && self.rule.trips(counts);
        match view.hold {
            Some(hold) if now < hold => {}
            Some(_) if trips => self.open(view, counts, now),
            Some(_) => (view.hold, view.rested) = (None, Some(now)),
            None if trips && view.rested.is_none_or(|rested| now >= rested + REST) => {
                (view.hold, view.tell) = (Some(now + HEAR), Tell::Question);
            }
            None => {}
        }
    }

    /// Decides what was waited for. `true` when it is open now.
    pub(super) fn settle(&self, now: Instant) -> bool {
        let mut view = self.view();
        if view.hold.is_some() {
            self.weigh(&mut view, now);
        }
        view.unsaved
    }

    fn open(&self, view: &mut View, counts: Counts, now: Instant) {
        let why = view.why.clone();
        let record = view
            .record
            .opened(&self.rule, counts, &why, rand::random(), self.now());
        self.change(view, record, now);
    }

    /// The probe that may be made now, if one may.
    pub(super) fn claim(&self, lasts: Duration, now: Instant) -> Option<Claim> {
        let view = self.view();
        matches!(view.standing(now), Standing::Due(_)).then(|| Claim {
            record: view.record.claimed(lasts, self.now()),
            revision: view.revision,
            version: view.version,
        })
    }

    /// The claim stands under this revision, or with `None` for this worker alone, because the bucket is away. Gives the
    /// state of things in which the probe is made; `None` when there is another one by now.
    pub(super) fn claimed(&self, claim: Claim, revision: Option<u64>, now: Instant) -> Option<u64> {
        let mut view = self.view();
        // The look at the bucket may have been faster than the answer to the claim.
        if view.version != claim.version && view.record != claim.record {
            return None;
        }
        self.change(&mut view, claim.record, now);
        if let Some(revision) = revision {
            (view.revision, view.unsaved) = (revision, false);
        }
        Some(view.version)
    }

    /// Takes in what the probe has shown that was claimed in this state of things.
    pub(super) fn probed(&self, version: u64, outcome: &Outcome, now: Instant) {
        let mut view = self.view();
        let ours = view.version == version && view.record.state == State::HalfOpen;
        let record = match outcome {
            Outcome::Works if ours || view.record.state == State::HalfOpen => view.record.closed(self.now()),
            Outcome::Fails(why) if ours => {
                let counts = view.record.counts;
                let (unit, by) = (rand::random(), self.now());
                view.record.opened(&self.rule, counts, why, unit, by)
            }
            Outcome::Nothing if ours => view.record.released(self.now()),
            // The claim was lost, and others have gone on since.
            _ => return,
        };
        self.change(&mut view, record, now);
    }

    /// What is to be written: the record, over which revision, and which state of things it is.
    pub(super) fn unsaved(&self) -> Option<(Record, u64, u64)> {
        let view = self.view();
        view.unsaved
            .then(|| (view.record.clone(), view.revision, view.version))
    }

    /// This state of things is in the bucket under this revision.
    pub(super) fn saved(&self, version: u64, revision: u64) {
        let mut view = self.view();
        view.revision = view.revision.max(revision);
        if view.version == version {
            view.unsaved = false;
        }
    }

    /// Takes in what a look has found that began at `began`. `true` when it was news.
    pub(super) fn take_in(&self, found: Option<Found>, began: Instant) -> bool {
        let now = Instant::now();
        let mut view = self.view();
        let last = view.looked.replace(began);
        let revision = found.as_ref().map_or(0, |found| found.revision);
        let late = began.saturating_duration_since(view.changed) > SETTLED;
        // A lower one: the look was earlier than what is known, or the bucket was made anew.
        if revision == view.revision || revision < view.revision && !late {
            return false;
        }
        view.revision = revision;
        let record = match found.and_then(|found| found.record) {
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                let (service, upstream) = (&self.service, &self.unused.upstream);
                tracing::error!(%service, %upstream, error, "a breaker's record cannot be read; taken for closed");
                self.unused.clone()
            }
            None if view.unsaved => return false,
            None => self.unused.clone(),
        };
        if view.unsaved && view.record.prevails_over(&record) {
            return true;
        }
        let age = record.age(millis(SystemTime::now()));
        // Clocks differ: what was not there at the last look is no older than that.
        let most = last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        self.change(&mut view, record, now);
        view.unsaved = false;
        view.began = now
            .checked_sub(age.min(most).min(self.rule.open_for(u32::MAX, 1.0)))
            .unwrap_or(now);
        true
    }

    /// Another worker's counts.
    pub(super) fn hear(&self, tally: &Tally, now: Instant) {
        let mut view = self.view();
        view.heard.hear(&tally.worker, tally.counts, now);
        if tally.ask {
            view.tell = view.tell.max(Tell::Answer);
        }
        self.weigh(&mut view, now);
    }

    /// What the others are to be told now: the own counts, and whether theirs are wanted.
    pub(super) fn to_tell(&self, now: Instant) -> Option<(Counts, bool)> {
        let mut view = self.view();
        if view.tell_at().is_none_or(|at| at > now) {
            return None;
        }
        let tell = std::mem::replace(&mut view.tell, Tell::Nothing);
        view.told = Some(now);
        Some((view.window.counts(now), tell == Tell::Question))
    }

    /// When there is something to tell or to decide next.
    pub(super) fn next(&self) -> Option<Instant> {
        let view = self.view();
        [view.tell_at(), view.hold].into_iter().flatten().min()
    }

    /// Puts another record in force and says so.
    fn change(&self, view: &mut View, record: Record, now: Instant) {
        let old = std::mem::replace(&mut view.record, record);
        view.began = now;
        view.changed = now;
        view.version += 1;
        view.unsaved = true;
        view.window.clear();
        view.heard.clear();
        (view.hold, view.tell) = (None, Tell::Nothing);
        let new = &view.record;
        let known = match new.state {
            State::Closed => old.state == State::Closed,
            // Two workers may have opened it at once, and one of them learns that the other's record holds.
            State::Open => (old.state, old.openings) == (State::Open, new.openings),
            State::HalfOpen => *new == old,
        };
        if !known {
            self.tell(new);
        }
    }

    fn tell(&self, record: &Record) {
        let Record {
            upstream,
            state,
            openings,
            lasts,
            counts,
            why,
            by,
            ..
        } = record;
        let service = &self.service;
        match state {
            State::Open if *lasts == 0 => tracing::info!(
                %service, upstream, by, "an upstream is out of service still: its probe was not made after all"
            ),
            State::Open => tracing::warn!(
                %service, upstream, by, lasts_ms = lasts, openings, calls = counts.calls, failures = counts.failures,
                why, "an upstream is out of service"
            ),
            State::HalfOpen => {
                tracing::info!(%service, upstream, by, "one call probes an upstream that is out of service");
            }
            State::Closed => tracing::info!(%service, upstream, by, "an upstream is back in service"),
        }
        self.metrics.changed(*state);
    }

    fn now(&self) -> Now<'_> {
        Now {
            at: millis(SystemTime::now()),
            by: &self.name,
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
