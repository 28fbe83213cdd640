//! Fetches under way: whoever wants what is being fetched waits for it and fetches nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use super::answer::Place;
use super::entry::{Entry, Stamp};
use super::key::Digest;
use crate::failure::Failure;

/// What a fetch came to, and where its answer was.
pub(super) type Landed = Result<(Arc<Entry>, Place), Failure>;
/// Whoever waits gets it, or learns that nobody fetches any more.
pub(super) type Waiting = Shared<oneshot::Receiver<Landed>>;

struct Flight {
    id: u64,
    /// Nothing is asked for earlier than this.
    begun: Stamp,
    landed: Waiting,
}

#[derive(Default)]
struct Board {
    flights: HashMap<Digest, Flight>,
    next: u64,
}

/// All of a process.
#[derive(Default)]
pub(super) struct Flights(Mutex<Board>);

/// What there is to do for whoever wants a key.
pub(super) enum Boarded {
    /// To fetch it.
    Lead(Lead),
    /// To wait for another who does.
    Wait {
        landed: Waiting,
        id: u64,
        /// It has its answer already and is only keeping it.
        is_over: bool,
    },
}

impl Flights {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the fetch under way, if its stamp will do and it is not the one that was joined before in vain; else begins
    /// one, which from now on is the one that others join.
    pub(super) fn enter(
        self: &Arc<Self>,
        key: &Digest,
        now: Stamp,
        not: Option<u64>,
        will_do: impl FnOnce(Stamp) -> bool,
    ) -> Boarded {
        let mut board = self.board();
        if let Some(flight) = board.flights.get(key)
            && Some(flight.id) != not
            && will_do(flight.begun)
        {
            return Boarded::Wait {
                is_over: flight.landed.peek().is_some(),
                landed: flight.landed.clone(),
                id: flight.id,
            };
        }
        board.next += 1;
        let id = board.next;
        let (lands, landed) = oneshot::channel();
        let landed = landed.shared();
        let flight = Flight {
            id,
            begun: now,
            landed: landed.clone(),
        };
        board.flights.insert(*key, flight);
        Boarded::Lead(Lead {
            flights: Arc::clone(self),
            key: *key,
            id,
            lands: Some(lands),
            landed,
        })
    }
}

/// The one who fetches. Dropped without an answer it lets another do it.
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: Digest,
    id: u64,
    lands: Option<oneshot::Sender<Landed>>,
    pub(super) landed: Waiting,
}

impl Lead {
    /// Gives everybody the answer; those who come until this is dropped get it too.
    pub(super) fn land(&mut self, landed: Landed) {
        if let Some(lands) = self.lands.take() {
            // Everybody may have gone.
            let _ = lands.send(landed);
            // Whether it is there is seen only by whoever has looked.
            let _ = self.landed.clone().now_or_never();
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut board = self.flights.board();
        if board
            .flights
            .get(&self.key)
            .is_some_and(|flight| flight.id == self.id)
        {
            board.flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp {
        asked_at: 1,
        seen: 1,
        epoch: 1,
    };

    fn enter(flights: &Arc<Flights>, not: Option<u64>, will_do: bool) -> Boarded {
        flights.enter(&[0; 32], NOW, not, |_| will_do)
    }

    #[tokio::test]
    async fn one_leads_and_all_others_wait_for_it() {
        let flights = Arc::new(Flights::default());
        let Boarded::Lead(mut lead) = enter(&flights, None, true) else {
            panic!("nobody else does")
        };
        let Boarded::Wait { landed, is_over, .. } = enter(&flights, None, true) else {
            panic!("one leads")
        };
        assert!(!is_over);
        lead.land(Err(Failure::permanent("no", "")));
        assert!(landed.await.unwrap().is_err());
        let Boarded::Wait { landed, is_over, .. } = enter(&flights, None, true) else {
            panic!("it is still there")
        };
        assert!(is_over && landed.await.unwrap().is_err());
        drop(lead);
        assert!(matches!(enter(&flights, None, true), Boarded::Lead(_)));
        assert!(flights.board().flights.is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nobody_hanging() {
        let flights = Arc::new(Flights::default());
        let lead = enter(&flights, None, true);
        let Boarded::Wait { landed, .. } = enter(&flights, None, true) else {
            panic!("one leads")
        };
        drop(lead);
        assert!(landed.await.is_err());
        assert!(flights.board().flights.is_empty());
    }

    #[test]
    fn one_that_will_not_do_is_replaced_and_takes_nothing_with_it() {
        let flights = Arc::new(Flights::default());
        let Boarded::Lead(old) = enter(&flights, None, true) else {
            panic!("nobody else does")
        };
        let Boarded::Lead(new) = enter(&flights, None, false) else {
            panic!("the other will not do")
        };
        drop(old);
        assert!(matches!(enter(&flights, None, true), Boarded::Wait { id, .. } if id == new.id));
        assert!(matches!(enter(&flights, Some(new.id), true), Boarded::Lead(_)));
    }
}
