//! Events that are not to go with others any more: one of them spoils the request for all.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::event::EventId;
use shared::failure::Failure;

/// Most events remembered; the oldest are forgotten first.
const MOST: usize = 4096;
/// How long an event waits until it goes again.
const SOON: Duration = Duration::from_millis(200);

/// The events that this worker sends alone.
#[derive(Debug, Default)]
pub(super) struct Alone(Mutex<VecDeque<EventId>>);

impl Alone {
    /// Whether an event goes alone.
    pub(super) fn has(&self, id: &EventId) -> bool {
        self.ids().contains(id)
    }

    /// Lets an event go alone next time. That it came with the wrong others uses up none of its attempts.
    pub(super) fn next_time(&self, id: &EventId, why: &str) -> Failure {
        let mut ids = self.ids();
        if ids.len() == MOST {
            ids.pop_front();
        }
        ids.push_back(id.clone());
        Failure::throttled("alone", format!("a request of several was refused: {why}"), SOON)
    }

    fn ids(&self) -> MutexGuard<'_, VecDeque<EventId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
