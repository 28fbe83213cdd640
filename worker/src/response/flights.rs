//! Which reads are under way in this process: whoever asks the same waits until the one before has ended, in the order of
//! coming. The next one looks again whether it is still to be asked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};
use tokio::time::timeout;

type Digest = [u8; 32];

/// The reads of one service that are under way. There are at most as many as events in flight.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Arc<Lock<()>>>>);

/// A read that is ours to make. Dropped when its answer is kept, or there is none.
#[derive(Debug)]
pub(super) struct Lead<'f> {
    // Before the place: whoever is last clears up.
    _held: OwnedMutexGuard<()>,
    _place: Line<'f>,
}

/// A place in the line of those who want the same.
#[derive(Debug)]
pub(super) struct Line<'f> {
    flights: &'f Flights,
    digest: Digest,
}

impl Flights {
    /// Leads, if nobody does; `Err` with a place behind whoever does.
    pub(super) fn enter(&self, digest: Digest) -> Result<Lead<'_>, Line<'_>> {
        let lock = Arc::clone(self.all().entry(digest).or_default());
        let line = Line {
            flights: self,
            digest,
        };
        match lock.try_lock_owned() {
            Ok(held) => Ok(Lead {
                _held: held,
                _place: line,
            }),
            Err(_) => Err(line),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Lock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'f> Line<'f> {
    /// Waits until it leads, at most so long.
    pub(super) async fn lead(self, longest: Duration) -> Option<Lead<'f>> {
        let lock = Arc::clone(self.flights.all().entry(self.digest).or_default());
        let held = timeout(longest, lock.lock_owned()).await.ok()?;
        Some(Lead {
            _held: held,
            _place: self,
        })
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut all = self.flights.all();
        if let Entry::Occupied(lock) = all.entry(self.digest)
            && Arc::strong_count(lock.get()) == 1
        {
            lock.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_leads_and_the_others_follow_in_their_order() {
        let flights = Flights::default();
        let first = flights.enter([1; 32]).unwrap();
        assert!(flights.enter([2; 32]).is_ok(), "another read");
        let second = flights.enter([1; 32]).unwrap_err();
        let third = flights.enter([1; 32]).unwrap_err();
        let mut second = Box::pin(second.lead(LONG));
        let mut third = Box::pin(third.lead(LONG));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        let second = second.now_or_never().unwrap();
        assert!(second.is_some());
        drop(second);
        assert!(third.now_or_never().unwrap().is_some());
        assert!(flights.all().is_empty(), "nothing stays behind");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_too_long_or_has_gone_leaves_nothing_behind() {
        let flights = Flights::default();
        let first = flights.enter([1; 32]).unwrap();
        let second = flights.enter([1; 32]).unwrap_err();
        assert!(second.lead(Duration::from_secs(1)).await.is_none());
        let third = flights.enter([1; 32]).unwrap_err();
        let mut third = Box::pin(third.lead(LONG));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        // It has the lock by now, and has not heard of it.
        drop(third);
        assert!(flights.all().is_empty());
    }
}
