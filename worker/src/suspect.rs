//! Messages that came again without an outcome: a worker may have died of them. One that was begun twice more and never
//! ended runs alone, so that nobody else dies with it; after the third time it is buried unseen.

use shared::failure::Failure;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::alive;
use crate::delivery::Delivery;
use crate::pool::Pool;

/// Code of what is buried here.
pub const LETHAL: &str = "ends_its_worker";
/// Starts, this one included, with which a message runs alone.
const ALONE_FROM: u32 = 2;
/// Starts, this one included, with which it is not run any more.
const BURIED_FROM: u32 = 3;

/// One such message at a time in this process.
static ALONE: Semaphore = Semaphore::const_new(1);

/// A message under suspicion, or one free of it.
#[derive(Debug)]
pub enum Watch {
    /// It came for the first time, or nothing is kept of starts.
    Free,
    /// Its start is noted; with a permit it runs alone.
    Watched(Option<SemaphorePermit<'static>>),
    /// It is not to be run: how often it was begun before.
    Condemned(u32),
}

/// Notes the start of a message that came again.
pub async fn watch(delivery: &Delivery, pool: &Pool) -> Watch {
    let Some(store) = pool.store.as_ref().filter(|_| delivery.delivered > 1) else {
        return Watch::Free;
    };
    let mut noted = Box::pin(async {
        // Before the start is noted: one that waits here for its turn has not begun, and must not be blamed when the
        // one that runs ends the process.
        let alone = if delivery.delivered > u64::from(ALONE_FROM) {
            ALONE.acquire().await.ok()
        } else {
            None
        };
        match store.suspect(delivery.sequence).await {
            starts if starts >= BURIED_FROM => Watch::Condemned(starts - 1),
            starts => Watch::Watched(alone.filter(|_| starts >= ALONE_FROM)),
        }
    });
    let noted = alive::while_running(delivery, pool.streams.ack_wait, &pool.hand_back, noted.as_mut()).await;
    noted.unwrap_or(Watch::Free)
}

impl Watch {
    /// Why the message is not to be run, if so.
    pub fn verdict(&self) -> Result<(), Failure> {
        match self {
            Self::Free | Self::Watched(_) => Ok(()),
            Self::Condemned(starts) => Err(Failure::permanent(
                LETHAL,
                format!(
                    "came again after each of {starts} starts, the last of them alone: its workers died of it"
                ),
            )),
        }
    }

    /// The message has come to an end.
    pub async fn over(self, sequence: u64, pool: &Pool) {
        match (self, &pool.store) {
            (Self::Free, _) | (_, None) => {}
            (Self::Watched(_) | Self::Condemned(_), Some(store)) => store.clear(sequence).await,
        }
    }
}
