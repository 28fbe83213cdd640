//! Signs of life: while an event is worked on, the server is told, so that it does not give the message to another.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::delivery::Delivery;

/// Runs `work`, telling the server of it every third of the ack wait. `None` when `stop` came first. It is pinned
/// already, because it would be in this future twice.
pub async fn while_running<F: Future>(
    delivery: &Delivery,
    ack_wait: Duration,
    stop: &CancellationToken,
    mut work: Pin<&mut F>,
) -> Option<F::Output> {
    loop {
        tokio::select! {
            // Most work is ready before anything else needs to be asked.
            biased;
            output = &mut work => return Some(output),
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(ack_wait / 3) => delivery.progress().await,
        }
    }
}
