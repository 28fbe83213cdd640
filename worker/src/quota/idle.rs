//! Calls that nobody waits for: one turn at a time, at once or not at all, and only of what nobody else needs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::limiter::{Ask, Charge};

use super::book::counts_flights;
use super::slot::Part;
use super::{Desk, Quota, Turn};

/// Parts of a call that are counted.
const PARTS: u64 = 1_000;
/// The share of this worker's calls that nobody waits for, of [`PARTS`].
const SHARE: u64 = 50;
/// Most of them that may be saved up.
const SAVED: u64 = 100;
/// Pause before Redis is asked again that had nothing to spare.
const PAUSE: Duration = Duration::from_secs(1);

/// What a worker remembers of its calls for those that nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// What calls for events have earned, in [`PARTS`].
    earned: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// When the provider last refused a call.
    refused: Option<Instant>,
    /// Until when there is nothing to spare.
    until: Option<Instant>,
}

impl Idle {
    /// A call that somebody needed was answered.
    pub(super) fn earn(&self) {
        let earn = |earned: u64| Some((earned + SHARE).min(SAVED * (PARTS - SHARE)));
        let _ = self
            .earned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
    }

    /// Whether one may be made that nobody waits for; if so it counts as made.
    fn spend(&self) -> bool {
        let spend = |earned: u64| earned.checked_sub(PARTS - SHARE);
        self.earned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }

    /// It was not made.
    fn give_back(&self) {
        self.earned.fetch_add(PARTS - SHARE, Ordering::Relaxed);
    }

    /// The provider has refused a call.
    pub(super) fn refused(&self) {
        self.told().refused = Some(Instant::now());
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quota {
    /// A turn for a call that nobody waits for, under the service's limits and `extra` ones, now or not at all.
    ///
    /// `None` unless at least half of every limit [stays](shared::limiter::bucket::Part::spare), no call for an event waits
    /// for its turn, Redis and the provider are as they should be, and these were 5 % of this worker's calls at most.
    pub async fn idle_turn(&self, extra: &[Charge]) -> Option<Turn> {
        let idle = &self.desk.idle;
        if !idle.spend() {
            return None;
        }
        let turn = self.desk.idle_turn(extra).await;
        if turn.is_none() {
            idle.give_back();
        }
        turn
    }

    /// How long ago the provider last refused a call of this worker's.
    pub fn refused_ago(&self) -> Option<Duration> {
        self.desk.idle.told().refused.map(|at| at.elapsed())
    }
}

impl Desk {
    async fn idle_turn(self: &Arc<Self>, extra: &[Charge]) -> Option<Turn> {
        let now = Instant::now();
        let closed = self.idle.told().until.is_some_and(|until| now < until);
        if closed || self.away.away().is_some() || self.is_waited_for(extra, now) {
            return None;
        }
        let charges: Vec<Charge> = self.parts.limits.base().iter().chain(extra).cloned().collect();
        // Who asks now asks for events.
        let gate = self.gate.try_lock().ok()?;
        let gate = charges.iter().any(counts_flights).then_some(gate);
        let (reports, held) = self.to_tell(&charges);
        let ask = Ask {
            calls: 1,
            idle: true,
            ..Ask::default()
        };
        let asked = Instant::now();
        let grant = match self.parts.limiter.take(&charges, &reports, &held, ask).await {
            Ok(grant) => grant,
            Err(error) => {
                self.book().still_owed(&charges, &reports);
                drop(self.unavailable(&error));
                return None;
            }
        };
        if grant.calls == 0 {
            self.idle.told().until = Some(asked + PAUSE);
            return None;
        }
        self.parts.metrics.calls.inc();
        self.count(&grant.over);
        let parts = charges.into_iter().zip(grant.marks);
        let parts = parts.map(|(charge, mark)| Part::own(charge, asked, mark));
        let turn = Turn::new(self, self.book().fly(parts.collect())).of_nobody();
        drop(gate);
        Some(turn)
    }

    /// Whether calls for events wait for a turn under these limits, or none may be made.
    fn is_waited_for(&self, extra: &[Charge], now: Instant) -> bool {
        let mut book = self.book();
        book.paused(now).is_some()
            || book.booked_until(now).is_some()
            || extra.iter().any(|charge| book.queued(charge, now).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_all_calls_is_for_nobody() {
        let idle = Idle::default();
        assert!(!idle.spend(), "nothing was earned yet");
        let mut made = 0;
        for call in 1..=1_900 {
            idle.earn();
            if idle.spend() {
                made += 1;
            }
            assert!(made * 19 <= call, "{made} of {call}");
        }
        assert_eq!(made, 100);
        (0..100_000).for_each(|_| idle.earn());
        let saved = std::iter::repeat_with(|| idle.spend()).take_while(|made| *made);
        assert_eq!(saved.count() as u64, SAVED);
        idle.give_back();
        assert!(idle.spend() && !idle.spend());
    }
}
