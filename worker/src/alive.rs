//! Signs of life: while an event is worked on, the server is told, so that it does not give the message to another.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use crate::delivery::Delivery;

/// Runs `work`, telling the server of it every third of the ack wait.
pub async fn while_running<F: Future>(delivery: &Delivery, ack_wait: Duration, work: F) -> F::Output {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            output = &mut work => return output,
            () = tokio::time::sleep(ack_wait / 3) => delivery.progress().await,
        }
    }
}
