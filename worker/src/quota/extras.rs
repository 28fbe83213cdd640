//! What single calls fall under beside the limits of every call: taken just before the call, never booked ahead; and the
//! queues of those who wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::limiter::{Ask, Charge};

use super::book::counts_flights;
use super::slot::Part;
use super::{Desk, Turn, Wait, Why, gone, limit};

impl Desk {
    /// Takes what single calls fall under beside the service's limits: calls under the same limits in one round trip,
    /// first come first served.
    pub(super) async fn extras(self: &Arc<Self>, asked: Vec<Vec<Charge>>) -> Vec<Result<Turn, Wait>> {
        let mut groups: HashMap<Vec<(&str, u32)>, Vec<usize>> = HashMap::new();
        for (i, charges) in asked.iter().enumerate() {
            let same = charges.iter().map(|charge| (&*charge.key, charge.cost)).collect();
            groups.entry(same).or_default().push(i);
        }
        let (count, asked) = (asked.len(), &asked);
        let asking = groups.into_values().map(|members| async move {
            let turns = self.turns(&asked[members[0]], members.len()).await;
            members.into_iter().zip(turns).collect::<Vec<_>>()
        });
        let mut answers: Vec<_> = (0..count).map(|_| Err(gone())).collect();
        for (i, turn) in join_all(asking).await.into_iter().flatten() {
            answers[i] = turn;
        }
        answers
    }

    /// Takes these limits for so many calls, as far as they go.
    async fn turns(self: &Arc<Self>, charges: &[Charge], calls: usize) -> Vec<Result<Turn, Wait>> {
        if self.away.away().is_some() {
            return (0..calls).map(|_| Err(gone())).collect();
        }
        let _gate = if charges.iter().any(counts_flights) {
            Some(self.gate.lock().await)
        } else {
            None
        };
        let (reports, held) = self.to_tell(charges);
        let ask = Ask {
            calls: calls as u32,
            ..Ask::default()
        };
        let asked = Instant::now();
        self.parts.metrics.trips.inc();
        let grant = match self.parts.limiter.take(charges, &reports, &held, ask).await {
            Ok(grant) => grant,
            Err(error) => {
                self.book().still_owed(charges, &reports);
                let wait = self.unavailable(&error);
                return (0..calls).map(|_| Err(wait.clone())).collect();
            }
        };
        self.count(&grant.over);
        let turn = |n: usize| {
            if n >= grant.calls as usize {
                return Err(Wait {
                    after: grant.start.max(grant.step).max(Duration::from_millis(1)),
                    why: limit(charges, grant.which),
                });
            }
            let parts = charges.iter().zip(&grant.marks).map(|(charge, mark)| {
                let mark = mark.behind(charge.rule.into(), charge.cost, n as u32);
                Part::own(charge.clone(), asked, mark)
            });
            Ok(Turn::new(self, self.book().fly(parts.collect())))
        };
        (0..calls).map(turn).collect()
    }

    /// When a call that would have to queue longer than `patience` may expect its turn.
    pub(super) fn queue_behind(&self, extra: &[Charge], patience: Duration) -> Option<Wait> {
        let now = Instant::now();
        let mut book = self.book();
        extra.iter().find_map(|charge| {
            let queued = book.queued(charge, now).filter(|wait| *wait > patience)?;
            let after = book.queue(charge, queued.min(patience), now);
            let why = Why::Limit(Arc::clone(&charge.key));
            Some(Wait { after, why })
        })
    }

    /// When a call that was told to wait may expect its turn.
    pub(super) fn planned(&self, extra: &[Charge], wait: Wait) -> Wait {
        let Why::Limit(key) = &wait.why else {
            return wait;
        };
        let Some(charge) = extra.iter().find(|charge| charge.key == *key) else {
            return wait;
        };
        let after = self.book().queue(charge, wait.after, Instant::now());
        Wait { after, ..wait }
    }
}
