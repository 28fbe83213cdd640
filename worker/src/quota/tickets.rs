//! Tickets: what is left over first, then what Redis grants.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use shared::limiter::Charge;

use super::book::counts_flights;
use super::slot::Slot;
use super::turn::Ticket;
use super::{Answer, BLOCK, Desk, Wait, Why, gone, limit};

/// What the last look said is believed for so long.
const FRESH: Duration = Duration::from_millis(20);

impl Desk {
    /// See [`Quota::open`](super::Quota::open).
    pub(super) async fn open(&self) -> Result<(), Wait> {
        let base = self.parts.limits.base();
        if let Some(after) = self.book().paused(Instant::now()) {
            let why = Why::Refused;
            return Err(Wait { after, why });
        }
        let seen = *self.seen_open.lock().unwrap_or_else(PoisonError::into_inner);
        if base.is_empty()
            || seen.is_some_and(|seen| seen.elapsed() < FRESH)
            || self.book().spares(Instant::now()) > 0
        {
            return Ok(());
        }
        if self.away.away().is_some() {
            return if self.away.shares() { Ok(()) } else { Err(gone()) };
        }
        match self.ask(&base, 0).await {
            Ok(Answer { grant, .. }) if grant.start <= self.parts.ahead => {
                *self.seen_open.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(())
            }
            Ok(Answer { grant, .. }) => Err(Wait {
                after: grant.start.saturating_sub(self.parts.ahead / 2),
                why: limit(&base, grant.which),
            }),
            Err(_) if self.away.shares() => Ok(()),
            Err(wait) => Err(wait),
        }
    }

    /// See [`Quota::tickets`](super::Quota::tickets).
    pub(super) async fn tickets(self: &Arc<Self>, most: usize) -> Result<Vec<Ticket>, Wait> {
        let base = self.parts.limits.base();
        let now = Instant::now();
        {
            let mut book = self.book();
            if let Some(after) = book.paused(now) {
                let why = Why::Refused;
                return Err(Wait { after, why });
            }
            let spare = book.spare(most, now);
            if spare.is_empty()
                && let Some(booked) = book.booked_until(now).filter(|booked| *booked > self.parts.ahead)
            {
                return Err(Wait {
                    after: booked.saturating_sub(self.parts.ahead / 2),
                    why: limit(&base, Some(0)),
                });
            }
            if !spare.is_empty() {
                book.hand_out(spare.len(), BLOCK, now);
                let ticket = |slot| Ticket::new(self, &mut book, Some(slot));
                return Ok(spare.into_iter().map(ticket).collect());
            }
        }
        if base.is_empty() {
            let mut book = self.book();
            return Ok((0..most).map(|_| Ticket::new(self, &mut book, None)).collect());
        }
        // At high rates those that are about to be wanted come along, unless they count while they wait.
        let soon = self.book().hand_out(0, BLOCK, now);
        let want = if base.iter().any(counts_flights) {
            most
        } else {
            most.max(soon)
        };
        let answer = match self.away.away() {
            None => self.ask(&base, want as u32).await,
            // Whether Redis is back is looked at elsewhere.
            Some(_) => Err(gone()),
        };
        // The gate stays closed until the tickets are in hand, or the next question would not count them as held.
        let Answer {
            grant,
            asked,
            answered,
            gate: _gate,
        } = match answer {
            Ok(answer) => answer,
            Err(wait) => return self.without_redis(&base, wait),
        };
        if grant.calls == 0 {
            return Err(Wait {
                after: grant
                    .start
                    .saturating_sub(self.parts.ahead / 2)
                    .max(Duration::from_millis(1)),
                why: limit(&base, grant.which),
            });
        }
        let mut book = self.book();
        book.booked(answered + grant.due(grant.calls - 1));
        let mut slots = Slot::of(&grant, &base, asked, answered, book.generation);
        let taken: Vec<_> = slots.by_ref().take(most).collect();
        let mut tickets = Vec::with_capacity(taken.len());
        for slot in taken {
            tickets.push(Ticket::new(self, &mut book, Some(slot)));
        }
        book.hand_out(tickets.len(), BLOCK, answered);
        slots.for_each(|slot| book.keep(slot, answered));
        Ok(tickets)
    }

    /// A ticket under the policy for Redis being away, if it has one.
    fn without_redis(self: &Arc<Self>, base: &[Charge], wait: Wait) -> Result<Vec<Ticket>, Wait> {
        match self.away.pass(base) {
            Ok(()) => {
                self.parts.metrics.shared.inc();
                Ok(vec![Ticket::new(self, &mut self.book(), None)])
            }
            Err(Some(after)) => Err(Wait { after, ..wait }),
            Err(None) => Err(wait),
        }
    }

    /// A ticket for each of so many askers, as far as they go.
    pub(super) async fn singles(self: &Arc<Self>, askers: usize) -> Vec<Result<Ticket, Wait>> {
        let mut answers = Vec::with_capacity(askers);
        while answers.len() < askers {
            match self.tickets(askers - answers.len()).await {
                Ok(tickets) => answers.extend(tickets.into_iter().map(Ok)),
                Err(wait) => answers.resize_with(askers, || Err(wait.clone())),
            }
        }
        answers
    }
}
