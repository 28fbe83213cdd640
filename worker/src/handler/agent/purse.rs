//! What an event has spent, over all its attempts: in Postgres, where no attempt forgets what another has paid for. A sum
//! is there before its call begins; what a worker dies with counts as spent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::event::EventId;
use shared::failure::Failure;

use super::kept::{Kept, Shelf};
use super::money::{Nano, OVER, show};

/// One event's purse.
#[derive(Debug)]
pub(super) struct Purse {
    shelf: Shelf,
    event: EventId,
    /// Most that the event may spend.
    bound: Option<Nano>,
    /// Where there is no Postgres: this delivery's calls.
    calls: Mutex<BTreeMap<String, Nano>>,
}

impl Purse {
    pub(super) fn new(shelf: Shelf, event: EventId, bound: Option<Nano>) -> Self {
        Self {
            shelf,
            event,
            bound,
            calls: Mutex::default(),
        }
    }

    /// Reserves a sum for a call.
    ///
    /// # Errors
    /// The event would be over its bound, or nobody knows.
    pub(super) async fn reserve(&self, call: &str, most: Nano) -> Result<(), Failure> {
        let fits = match self.bound {
            Some(bound) if most > bound => false,
            _ if most == 0 => true,
            bound if self.shelf.is_there() => self.shelf.reserve(&self.event, call, most, bound).await?,
            bound => {
                let mut calls = self.calls();
                let fits = bound.is_none_or(|bound| sum(&calls).saturating_add(most) <= bound);
                if fits {
                    calls.insert(call.to_owned(), most);
                }
                fits
            }
        };
        if fits {
            return Ok(());
        }
        let bound = show(self.bound.unwrap_or_default());
        let detail = format!(
            "with up to {} dollars more the event would be over its {bound}",
            show(most)
        );
        Err(Failure::permanent(OVER, detail))
    }

    /// A call without an answer has cost this, of what was reserved. Waits for Postgres.
    pub(super) async fn settle(&self, call: &str, most: Nano, cost: Nano) {
        if self.shelf.is_there() {
            if most > 0 {
                self.shelf.settle(&self.event, call, cost).await;
            }
        } else {
            self.calls().insert(call.to_owned(), cost);
        }
    }

    /// A call has this answer, which is kept with what it has cost. Waits for Postgres: it is paid for.
    pub(super) async fn keep(&self, call: &str, step: &str, kept: &Kept) {
        self.shelf.keep(&self.event, step, kept, Some(call)).await;
        self.calls().insert(call.to_owned(), kept.cost);
    }

    /// What all calls of the event have cost.
    ///
    /// # Errors
    /// Postgres does not answer.
    pub(super) async fn sum(&self) -> Result<Nano, Failure> {
        if self.shelf.is_there() {
            self.shelf.spent(&self.event).await
        } else {
            Ok(sum(&self.calls()))
        }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<String, Nano>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum(calls: &BTreeMap<String, Nano>) -> Nano {
    calls
        .values()
        .fold(0, |sum: Nano, nano| sum.saturating_add(*nano))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use std::time::Duration;

    use futures_util::future::join_all;
    use shared::servers::{Postgres, PostgresOptions};
    use shared::subject::Service;

    use super::super::money::Usage;
    use super::super::protocol::Finish;
    use super::*;

    fn kept(cost: Nano) -> Kept {
        Kept {
            text: "x".into(),
            finish: Finish::Stop,
            usage: Usage::default(),
            model: "a".into(),
            exact: "a".into(),
            cost,
            price: "1".into(),
            reused: false,
        }
    }

    async fn holds(shelf: Shelf) {
        let event = EventId::new("e").unwrap();
        let purse = Purse::new(shelf.clone(), event.clone(), Some(100));
        let calls: Vec<_> = (0..20).map(|n| format!("c{n}")).collect();
        let ends = join_all(calls.iter().map(|call| purse.reserve(call, 10))).await;
        let begun: Vec<_> = calls.iter().zip(&ends).filter(|(_, end)| end.is_ok()).collect();
        assert_eq!(
            (begun.len(), purse.sum().await),
            (10, Ok(100)),
            "at the same time"
        );
        let failure = ends.iter().find_map(|end| end.as_ref().err()).unwrap();
        assert_eq!((failure.class(), &*failure.reason().code), ("permanent", OVER));
        // What fails costs what it costs, what answers too; said twice it is the same.
        for _ in 0..2 {
            purse.settle(begun[0].0, 10, 0).await;
            purse.settle(begun[1].0, 10, 4).await;
            purse.keep(begun[2].0, "answer", &kept(13)).await;
        }
        assert_eq!(purse.sum().await, Ok(70 + 4 + 13));
        assert!(purse.reserve("more", 14).await.is_err() && purse.reserve("more", 13).await.is_ok());
        let other = Purse::new(shelf, EventId::new("f").unwrap(), Some(100));
        assert!(other.reserve("c", 101).await.is_err() && other.reserve("c", 100).await.is_ok());
        assert_eq!(purse.sum().await, Ok(100));
    }

    #[tokio::test]
    async fn an_event_spends_no_more_than_it_may() {
        let dir = shared::servers::scratch_dir().unwrap();
        let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
        server.create_database("weir").await.unwrap();
        let pool = sqlx::PgPool::connect(&server.url("weir")).await.unwrap();
        shared::store::migrate::migrate(&pool).await.unwrap();
        let service = Service::new("agent").unwrap();
        let shelf = |database| Shelf {
            database,
            service: service.clone(),
            lasts: Duration::MAX,
        };
        holds(shelf(None)).await;
        holds(shelf(Some(pool.clone()))).await;
        // Another delivery knows what was spent, and an answer that was there costs nothing more.
        let event = EventId::new("e").unwrap();
        let again = Purse::new(shelf(Some(pool.clone())), event.clone(), None);
        shelf(Some(pool)).keep(&event, "join", &kept(0), None).await;
        assert!(again.reserve("unbounded", 1_000).await.is_ok());
        assert_eq!(again.sum().await, Ok(1_100));
    }
}
