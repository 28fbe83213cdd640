//! Stage 5: an upstream in service and permits first, then quota, then as many messages as both allow. What waits for quota waits in the stream,
//! where it is cheap, visible and free for every worker.

mod care;
mod lanes;
mod share;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::subject::Lane;
use shared::topology;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::Delivery;
use crate::outbound::upstreams::{Admission, Candidate};
use crate::pool::Pool;
use crate::process::process;
use crate::quota::Wait;
use care::Care;
use lanes::{LaneError, Lanes, Which};

/// Limits can be changed while one waits for them: after so long they are asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Pause after the server refused a lane.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// Pulls and processes one service's events until shutdown.
///
/// # Errors
/// The NATS client has ended for good.
pub async fn pull(pool: Arc<Pool>, shutdown: CancellationToken) -> Result<(), LaneError> {
    let new = || {
        let client = async_nats::Client::clone(&pool.client);
        Lanes::new(client, pool.connects.clone(), &pool.config.service)
    };
    let mut lanes = new();
    let mut care = Care::new(pool.connects.clone(), pool.streams.ack_wait);
    let mut lowest = Lowest {
        every: None,
        next: Instant::now(),
    };
    while let Some(result) = shutdown
        .run_until_cancelled(round(&pool, &mut lanes, &mut care, &mut lowest))
        .await
    {
        if let Err(LaneError::Closed(lane)) = result {
            // The client never comes back from this; a new process does.
            return Err(LaneError::Closed(lane));
        }
        if let Err(error) = result {
            tracing::warn!(service = %pool.config.service, %error, "cannot pull; making the topology anew");
            std::mem::replace(&mut lanes, new()).close().await;
            let again = async {
                tokio::time::sleep(REFUSED_PAUSE).await;
                let services = std::slice::from_ref(&pool.config.service);
                topology::ensure(&pool.js, services, &pool.streams).await
            };
            if let Some(Err(error)) = shutdown.run_until_cancelled(again).await {
                tracing::warn!(service = %pool.config.service, %error, "the topology is not to be had");
            }
        }
    }
    lanes.close().await;
    Ok(())
}

/// One round: permits, tickets, messages, several for a ticket where events go together. While nothing is known to wait, no ticket is held: a message that comes then
/// gets its own.
async fn round(
    pool: &Arc<Pool>,
    lanes: &mut Lanes,
    care: &mut Care,
    lowest: &mut Lowest,
) -> Result<(), LaneError> {
    let mut candidate = admitted(pool, lanes).await;
    let mut permits = permits(pool, lanes).await;
    let which = lowest.which(pool.quota.lowest_every());
    let waiting = usize::try_from(lanes.waiting(which)).unwrap_or(usize::MAX);
    let (mut tickets, mut wanted) = (Vec::new(), 0);
    if waiting > 0 {
        let places = if candidate.is_some() {
            1
        } else {
            permits.num_permits()
        };
        wanted = care.most(places).min(waiting);
        let each = pool.groups.each();
        tickets = allowed(pool, lanes, || pool.quota.tickets(wanted.div_ceil(each))).await;
        wanted = wanted.min(tickets.len() * each);
    } else {
        allowed(pool, lanes, || pool.quota.open()).await;
    }
    // The one whose time comes first is taken first, from the end.
    tickets.reverse();
    let mut pulled = [0, 0];
    let begin = |message| {
        let Some(delivery) = Delivery::new(&pool.client, message) else {
            tracing::warn!(service = %pool.config.service, "a message that is no delivery was ignored");
            return;
        };
        pulled[usize::from(delivery.lane_and_tenant().0 == Lane::Low)] += 1;
        let (ticket, candidate) = (tickets.pop(), candidate.take());
        let pool = Arc::clone(pool);
        match permits.split(1) {
            Some(permit) => drop(pool.tasks.clone().spawn(async move {
                process(delivery, ticket, candidate, &pool).await;
                drop(permit);
            })),
            // More than one parked request was answered at once, and there are fewer places.
            None => drop(pool.tasks.spawn(delivery.hand_back(None))),
        }
    };
    let swept = if wanted > 0 {
        lanes.sweep(which, wanted, begin).await
    } else if which == Which::Upper {
        // The lowest lane's turn ends the wait for the others.
        let parked = tokio::time::timeout_at(lowest.next, lanes.park(which, begin));
        parked.await.unwrap_or(Ok(()))
    } else {
        lanes.park(which, begin).await
    };
    lowest.took(pulled[1]);
    pool.quota.pulled(pulled[0], pulled[1]);
    swept
}

/// When the lowest lane may be asked, while the quota has to last for the others.
struct Lowest {
    every: Option<Duration>,
    next: Instant,
}

impl Lowest {
    fn which(&mut self, every: Option<Duration>) -> Which {
        self.every = every;
        if every.is_some() && self.next > Instant::now() {
            Which::Upper
        } else {
            Which::All
        }
    }

    fn took(&mut self, calls: usize) {
        if let Some(every) = self.every.filter(|_| calls > 0) {
            self.next = Instant::now() + every * calls as u32;
        }
    }
}

/// Waits until calls may be made. With a candidate it is one call only, which tries whether an upstream is back.
async fn admitted(pool: &Arc<Pool>, lanes: &mut Lanes) -> Option<Candidate> {
    loop {
        match pool.upstreams.admission() {
            Admission::Free => return None,
            Admission::One(candidate) => return Some(candidate),
            Admission::Wait { after, seen } => {
                lanes.stand_down().await;
                pool.upstreams.moved(after, seen).await;
            }
        }
    }
}

/// At least one permit and at most a batch of them.
async fn permits(pool: &Arc<Pool>, lanes: &mut Lanes) -> OwnedSemaphorePermit {
    let first = match Arc::clone(&pool.permits).try_acquire_owned() {
        Ok(permit) => Some(permit),
        Err(_) => {
            lanes.stand_down().await;
            Arc::clone(&pool.permits).acquire_owned().await.ok()
        }
    };
    let Some(mut permits) = first else {
        return std::future::pending().await;
    };
    let more = pool.permits.available_permits().min(pool.batch.saturating_sub(1)) as u32;
    if let Ok(more) = Arc::clone(&pool.permits).try_acquire_many_owned(more) {
        permits.merge(more);
    }
    permits
}

/// Asks until the limits allow it.
async fn allowed<T, F>(pool: &Arc<Pool>, lanes: &mut Lanes, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Wait>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(wait) => {
                tracing::trace!(service = %pool.config.service, %wait, after = ?wait.after);
                lanes.stand_down().await;
                // An event that made no call leaves its ticket to another.
                tokio::select! {
                    () = tokio::time::sleep(wait.after.min(LONGEST_WAIT)) => {}
                    () = pool.quota.returned() => {}
                }
            }
        }
    }
}
