//! What Redis is told without being asked: late arrivals, refusals, calls that are over; and that this worker lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::limiter::{Ask, Charge};
use tokio_util::sync::CancellationToken;

use super::book::counts_flights;
use super::{AWAY_PAUSE, Desk};

/// How long reports wait for a question to ride on.
const RIDE: Duration = Duration::from_millis(5);
/// How often calls under way are looked at, and reports told that found none.
const LOOK: Duration = Duration::from_millis(50);
/// How often a worker shows that it lives.
const PRESENCE: Duration = Duration::from_secs(5);

impl Desk {
    /// Tells Redis what no question carries: late arrivals, refusals, calls that are over.
    pub(super) async fn report(self: Arc<Self>, end: CancellationToken) {
        let mut shown = None::<Instant>;
        while !end.is_cancelled() {
            self.something_to_do(&end).await;
            if end.is_cancelled() {
                self.book().clear();
            }
            let base = self.parts.limits.base();
            let show = shown.is_none_or(|shown| shown.elapsed() > PRESENCE) && !base.is_empty();
            let holds = base.iter().any(counts_flights);
            let away = self.away.away().is_some();
            if self.book().owes() || holds && (show || end.is_cancelled()) || away && !base.is_empty() {
                self.flush(if holds || away { &base } else { &[] }).await;
            }
            // Where only some calls fall under limits there is nothing to ask for all of them.
            if show && !away || base.is_empty() && away {
                shown = Some(Instant::now());
                if let Ok(workers) = self
                    .parts
                    .limiter
                    .workers(&self.parts.limits.key("requests"))
                    .await
                {
                    self.away.workers(workers);
                    self.away.found();
                }
            }
        }
    }

    /// Waits until there is something to tell, or to look at.
    async fn something_to_do(&self, end: &CancellationToken) {
        loop {
            let busy = {
                let mut book = self.book();
                book.note_overdue(Instant::now()) || book.owes()
            };
            let (away, holds) = (
                self.away.away().is_some(),
                self.parts.limits.base().iter().any(counts_flights),
            );
            let pause = if away {
                AWAY_PAUSE
            } else if busy {
                LOOK
            } else {
                PRESENCE
            };
            let ended = async {
                self.wake.notified().await;
                tokio::time::sleep(RIDE).await;
            };
            tokio::select! {
                () = ended, if holds => return,
                () = self.urgent.notified() => return,
                () = self.stir.notified(), if !busy && !away => {}
                () = tokio::time::sleep(pause) => return,
                () = end.cancelled() => return,
            }
        }
    }

    /// One question that asks for nothing and tells all that is owed.
    async fn flush(&self, held: &[Charge]) {
        let _gate = self.gate.lock().await;
        let (charges, reports, held) = {
            let mut book = self.book();
            let mut charges = held.to_vec();
            let mut reports = book.reports(held);
            for (charge, report) in book.all_owed() {
                charges.push(charge);
                reports.push(Some(report));
            }
            let held = book.held(&charges);
            (charges, reports, held)
        };
        self.parts.metrics.trips.inc();
        match self
            .parts
            .limiter
            .take(&charges, &reports, &held, Ask::default())
            .await
        {
            Ok(_) => self.away.found(),
            Err(error) => {
                self.book().still_owed(&charges, &reports);
                self.unavailable(&error);
            }
        }
    }
}
