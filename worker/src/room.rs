//! Room for large events: how many bytes of them one worker holds at once, whatever its concurrency. Taken in one piece
//! before the bytes are there, so that nobody waits for more while holding some.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is given in units of so many bytes.
const UNIT: usize = 1024;

/// The room of one worker.
#[derive(Debug, Clone)]
pub struct Room {
    units: Arc<Semaphore>,
    most: usize,
}

/// Room that somebody has. Given back when it is dropped.
#[derive(Debug)]
pub struct Held(Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        let most = (bytes / UNIT).clamp(1, u32::MAX as usize);
        Self {
            units: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Waits for room for so many bytes, in the order of asking; for all of it where that is less.
    pub async fn take(&self, bytes: usize) -> Held {
        let units = bytes.div_ceil(UNIT).min(self.most) as u32;
        // Fails only when it is closed, which nobody does.
        Held(Arc::clone(&self.units).acquire_many_owned(units).await.ok())
    }

    /// Bytes that are free.
    pub fn free(&self) -> usize {
        self.units.available_permits() * UNIT
    }
}

impl Held {
    /// Keeps no more than so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let Some(permit) = &mut self.0 else { return };
        let more = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        drop(permit.split(more));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_held_is_not_free_and_comes_back() {
        let room = Room::new(10 * UNIT);
        let mut first = room.take(6 * UNIT).await;
        assert!(room.take(5 * UNIT).now_or_never().is_none(), "no room for both");
        first.shrink(5 * UNIT - 1);
        let second = room.take(5 * UNIT).await;
        assert_eq!(room.free(), 0);
        drop((first, second));
        // More than there is: all of it, alone.
        let all = room.take(100 * UNIT).await;
        assert_eq!(room.free(), 0);
        drop(all);
        assert_eq!(room.free(), 10 * UNIT);
    }
}
