//! Stage 5: permits first, then quota, then as many messages as both allow. What waits for quota waits in the stream,
//! where it is cheap, visible and free for every worker.

mod lanes;
mod share;

use std::sync::Arc;
use std::time::Duration;

use shared::topology;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::delivery::Delivery;
use crate::pool::Pool;
use crate::process::process;
use lanes::{LaneError, Lanes};

/// Pause after the server refused a lane.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// Pulls and processes one service's events until shutdown.
///
/// # Errors
/// The NATS client has ended for good.
pub async fn pull(pool: Arc<Pool>, shutdown: CancellationToken) -> Result<(), LaneError> {
    let mut lanes = Lanes::new(async_nats::Client::clone(&pool.client), &pool.config.service);
    while let Some(result) = shutdown.run_until_cancelled(round(&pool, &mut lanes)).await {
        if let Err(LaneError::Closed(lane)) = result {
            // The client never comes back from this; a new process does.
            return Err(LaneError::Closed(lane));
        }
        if let Err(error) = result {
            tracing::warn!(service = %pool.config.service, %error, "cannot pull; making the topology anew");
            std::mem::replace(
                &mut lanes,
                Lanes::new(async_nats::Client::clone(&pool.client), &pool.config.service),
            )
            .close()
            .await;
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

/// One round: permits, quota, messages.
async fn round(pool: &Arc<Pool>, lanes: &mut Lanes) -> Result<(), LaneError> {
    let mut permits = permits(pool, lanes).await;
    let allowed = admitted(pool, lanes, permits.num_permits()).await;
    lanes
        .next(allowed, |message| {
            let Some(delivery) = Delivery::new(&pool.client, message) else {
                tracing::warn!(service = %pool.config.service, "a message that is no delivery was ignored");
                return;
            };
            let pool = Arc::clone(pool);
            match permits.split(1) {
                Some(permit) => drop(pool.tasks.clone().spawn(async move {
                    process(delivery, &pool).await;
                    drop(permit);
                })),
                // More than one parked request was answered at once, and quota allows fewer.
                None => drop(pool.tasks.spawn(delivery.hand_back(None))),
            }
        })
        .await
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

/// How many of `most` calls the shared limit would let through now; waits until it is at least one.
async fn admitted(pool: &Arc<Pool>, lanes: &mut Lanes, most: usize) -> usize {
    loop {
        match pool.quota.admits().await {
            Ok(Ok(left)) => return most.min(left.max(1) as usize),
            Ok(Err(wait)) => {
                lanes.stand_down().await;
                tokio::time::sleep(wait.min(Duration::from_secs(5))).await;
            }
            Err(error) => {
                pool.metrics.limiter_away.inc();
                tracing::warn!(service = %pool.config.service, %error, "limits cannot be asked: nothing is pulled");
                lanes.stand_down().await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
