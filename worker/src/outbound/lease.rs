//! An attempt and its upstream: where its calls go, whether they may still begin, and what they have shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use shared::breaker::Standing;
use shared::failure::Failure;

use super::breaker::Outcome;
use super::upstreams::{Line, Out, SOON, Shared, Upstream};

/// An attempt's upstream. It must be told the attempt's result; dropped without, it has shown nothing.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    at: usize,
    /// State of things in which it began.
    version: u64,
    /// A probe, and until when it must have begun.
    probe: Option<Instant>,
    seen: Arc<Seen>,
    told: bool,
}

/// How far an attempt's calls came.
#[derive(Debug, Default)]
struct Seen {
    begun: AtomicBool,
    answered: AtomicBool,
}

/// Where a turn's call goes.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    seen: Arc<Seen>,
}

impl Seen {
    fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// Of the upstream at this place; a probe with the state of things in which it was claimed and the time by which it
    /// must have begun.
    pub(super) fn new(shared: &Arc<Shared>, at: usize, probe: Option<(u64, Instant)>) -> Self {
        let breaker = shared.lines[at].breaker.as_ref();
        let version = breaker.map_or(0, |breaker| breaker.version());
        Self {
            shared: Arc::clone(shared),
            at,
            version: probe.map_or(version, |(version, _)| version),
            probe: probe.map(|(_, until)| until),
            seen: Arc::default(),
            told: false,
        }
    }

    /// The place of its upstream among the service's.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Where the attempt's calls go.
    pub fn bound(&self) -> Bound {
        Bound {
            upstream: Arc::clone(&self.line().upstream),
            seen: Arc::clone(&self.seen),
        }
    }

    /// Whether the call may still begin.
    ///
    /// # Errors
    /// The upstream went out of service meanwhile, or the probe is another's by now.
    pub fn still(&self) -> Result<(), Out> {
        let Some(breaker) = &self.line().breaker else {
            return Ok(());
        };
        let now = Instant::now();
        let after = match (self.probe, breaker.standing(now)) {
            (None, Standing::Closed) => return Ok(()),
            // A probe that was answered once, to a look-up, has shown enough to go on.
            (Some(until), _)
                if breaker.version() == self.version && (now < until || self.seen.answered()) =>
            {
                return Ok(());
            }
            (_, Standing::Open(left)) => left,
            (_, Standing::Closed | Standing::Due(_) | Standing::Probing(_)) => SOON,
        };
        let upstream = self.line().upstream.shown.clone();
        Err(Out { after, upstream })
    }

    /// What became of the attempt.
    pub fn report<T>(mut self, result: &Result<T, Failure>) {
        self.told = true;
        // What failed before any call says nothing of the upstream.
        let outcome = if self.seen.begun.load(Ordering::Relaxed) {
            shown(result, self.seen.answered())
        } else {
            Outcome::Nothing
        };
        self.tell(outcome);
    }

    fn tell(&self, outcome: Outcome) {
        let Some(breaker) = &self.line().breaker else {
            return;
        };
        let now = Instant::now();
        let news = if self.probe.is_some() {
            breaker.probed(self.version, &outcome, now);
            true
        } else {
            breaker.report(self.version, outcome, now)
        };
        if news {
            self.shared.changed();
            if let Some(fleet) = &self.shared.fleet {
                fleet.wake();
            }
        }
    }

    fn line(&self) -> &Line {
        &self.shared.lines[self.at]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Outcome::Nothing);
        }
    }
}

impl Bound {
    /// A call begins; gives where to.
    pub fn begun(&self) -> &Upstream {
        self.seen.begun.store(true, Ordering::Relaxed);
        &self.upstream
    }

    /// An answer came.
    pub fn answered(&self) {
        self.seen.answered.store(true, Ordering::Relaxed);
    }
}

/// What an attempt has shown of its upstream: no connection, no answer in time and errors of the upstream's own are
/// failures; a limit, and what the event itself is to blame for, are not. Without any call nothing is shown.
pub(super) fn shown<T>(result: &Result<T, Failure>, answered: bool) -> Outcome {
    match result {
        Err(Failure::Transient { reason, .. }) if !reason.code.starts_with("http_4") => {
            Outcome::Fails(reason.to_string())
        }
        // 501 and 505: somebody answers, but nobody knows who.
        Err(Failure::Permanent { reason }) if reason.code.starts_with("http_5") => Outcome::Nothing,
        Ok(_) | Err(Failure::Permanent { .. }) if answered => Outcome::Works,
        Ok(_) | Err(_) => Outcome::Nothing,
    }
}
