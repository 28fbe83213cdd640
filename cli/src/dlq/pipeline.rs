//! Many letters at once, a bounded number of them and of their bytes.

use std::sync::Arc;

use indicatif::ProgressBar;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::patience::Halt;
use crate::terminal;

/// Letters in flight.
const LETTERS: usize = 256;
/// Kibibytes of payloads in flight.
const ROOM: usize = 16 * 1024;
/// Kibibytes that a letter counts beside its payload: its headers and what the tasks need.
const BESIDE: u64 = 4;
/// Letters that are told one by one when they cannot be dealt with; the others are only counted.
const TOLD: u64 = 10;

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// What was asked for.
    Yes,
    /// There was no such letter.
    Missing,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) missing: u64,
    /// Letters that cannot be dealt with.
    pub(super) refused: u64,
    /// Why it was ended before its time.
    pub(super) ended: Option<Halt>,
}

/// Letters in flight.
pub(super) struct Pipeline {
    slots: Arc<Semaphore>,
    room: Arc<Semaphore>,
    tasks: JoinSet<(u64, Result<Done, Halt>)>,
    stop: CancellationToken,
    bar: ProgressBar,
    tally: Tally,
    /// Whether a letter that is not there is told.
    tell_missing: bool,
}

impl Pipeline {
    /// `stop` ends it from outside, and is cancelled when a letter gives up.
    pub(super) fn new(stop: CancellationToken, bar: ProgressBar, tell_missing: bool) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(LETTERS)),
            room: Arc::new(Semaphore::new(ROOM)),
            tasks: JoinSet::new(),
            stop,
            bar,
            tally: Tally::default(),
            tell_missing,
        }
    }

    /// A place for a letter with so many bytes of payload; `None` when nothing more is to be taken.
    pub(super) async fn place(&mut self, bytes: u64) -> Option<Place> {
        let room = (bytes / 1024 + BESIDE).min(ROOM as u64) as u32;
        let permits = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let room = Arc::clone(&self.room).acquire_many_owned(room).await;
            slot.ok().zip(room.ok())
        };
        let permits = self.stop.run_until_cancelled(permits).await.flatten();
        while let Some(ended) = self.tasks.try_join_next() {
            self.count(ended);
        }
        if self.stop.is_cancelled() {
            return None;
        }
        permits.map(|(slot, room)| Place {
            _slot: slot,
            _room: room,
        })
    }

    /// Lets a letter begin.
    pub(super) fn begin(
        &mut self,
        place: Place,
        sequence: u64,
        work: impl Future<Output = Result<Done, Halt>> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            let done = work.await;
            drop(place);
            (sequence, done)
        });
    }

    /// Waits for what is in flight.
    pub(super) async fn finish(mut self) -> Tally {
        while let Some(ended) = self.tasks.join_next().await {
            self.count(ended);
        }
        if self.tally.ended.is_none() && self.stop.is_cancelled() {
            self.tally.ended = Some(Halt::Stopped);
        }
        self.tally
    }

    fn count(&mut self, ended: Result<(u64, Result<Done, Halt>), tokio::task::JoinError>) {
        let (sequence, ended) = match ended {
            Ok(ended) => ended,
            Err(error) => (0, Err(Halt::GaveUp(error.to_string()))),
        };
        let tell = |what: &dyn std::fmt::Display| self.bar.suspend(|| terminal::note(what));
        match ended {
            Ok(Done::Yes) => {
                self.tally.done += 1;
                self.bar.set_message(format!("{} done", self.tally.done));
            }
            Ok(Done::Missing) => {
                self.tally.missing += 1;
                if self.tell_missing && self.tally.missing <= TOLD {
                    tell(&format_args!("there is no dead letter {sequence}"));
                }
            }
            Err(Halt::Letter(why)) => {
                self.tally.refused += 1;
                if self.tally.refused <= TOLD {
                    tell(&format_args!("dead letter {sequence} {why}"));
                }
            }
            Err(Halt::Stopped) => {}
            Err(Halt::GaveUp(why)) => {
                self.stop.cancel();
                self.tally.ended.get_or_insert(Halt::GaveUp(why));
            }
        }
    }
}

/// A letter's place among those in flight.
pub(super) struct Place {
    _slot: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}
