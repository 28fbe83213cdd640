//! Puts a message among the dead letters.

use async_nats::jetstream::context::PublishError;
use shared::dead_letter::{Attempt, Burial, bury};
use shared::event::Event;
use shared::failure::Reason;

use crate::claim;
use crate::delivery::Delivery;
use crate::pool::Pool;

/// Buries a message, bytes intact; `event` is `None` when they did not decode.
pub(super) async fn keep(
    delivery: &Delivery,
    event: Option<&Event>,
    reason: &Reason,
    failed: u32,
    pool: &Pool,
) -> Result<(), PublishError> {
    claim::moving(delivery, pool).await?;
    let fallback;
    let id = match event {
        Some(event) => &event.id,
        None => {
            fallback = delivery.fallback_id(&pool.stream);
            &fallback
        }
    };
    let mut history = delivery.history();
    history.push(Attempt::now(reason));
    let burial = Burial {
        service: &pool.config.service,
        sequence: delivery.sequence,
        subject: delivery.subject(),
        id,
        headers: delivery.headers(),
        payload: delivery.payload(),
        reason,
        attempts: failed,
        history: &history,
        accepted: delivery.accepted(),
    };
    bury(&pool.js, burial).await
}
