//! Stage 11: tells the server what has become of a message. What must lie elsewhere lies there before the message is
//! taken off its stream; when that fails, it is handed back and comes again.

mod dead_letter;
mod retry;

use std::time::{Duration, Instant, SystemTime};

use async_nats::jetstream::context::PublishError;
use shared::event::Event;
use shared::failpoint;
use shared::telemetry::propagation::millis;

use crate::claim;
use crate::delivery::Delivery;
use crate::outcome::Verdict;
use crate::pool::Pool;
use retry::Why;

/// Pause before a message comes again that could not be moved: the server has trouble.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// Settles a delivery whose verdict is recorded. What moves a message is on the heap: most are acked.
pub async fn settle(
    delivery: Delivery,
    verdict: Verdict,
    event: Option<&Event>,
    started: Instant,
    pool: &Pool,
) {
    let metrics = &pool.metrics;
    let accepted = delivery.accepted();
    let service = &pool.config.service;
    let id = event.map(|event| event.id.as_str()).unwrap_or_default();
    match &verdict {
        Verdict::Done(done) => {
            if let Some(event) = event {
                metrics.idle.done(&event.kind, done);
            }
            claim::ack(delivery, pool).await;
            let waited = millis(SystemTime::now()).saturating_sub(accepted);
            metrics.accept_to_done.observe(waited as f64 / 1e3);
        }
        Verdict::Duplicate => {
            tracing::debug!(%service, id, "done before");
            claim::ack(delivery, pool).await;
        }
        Verdict::Retry {
            after,
            reason,
            failed,
            ..
        } => {
            tracing::warn!(%service, id, failed, code = %reason.code, detail = reason.detail, ?after, "to be retried");
            let kept = Box::pin(retry::keep(
                &delivery,
                id,
                *after,
                Why::Failed(reason, *failed),
                pool,
            ))
            .await;
            Box::pin(moved(delivery, kept, "worker.scheduled", pool)).await;
        }
        Verdict::Defer { after, code } => {
            tracing::debug!(%service, id, ?after, %code, "put off");
            let kept = Box::pin(retry::keep(&delivery, id, *after, Why::PutOff(code), pool)).await;
            Box::pin(moved(delivery, kept, "worker.scheduled", pool)).await;
        }
        Verdict::Dead { reason, failed, .. } => {
            tracing::warn!(%service, id, failed, code = %reason.code, detail = reason.detail, "dead letter");
            let kept = Box::pin(dead_letter::keep(&delivery, event, reason, *failed, pool)).await;
            Box::pin(moved(delivery, kept, "worker.buried", pool)).await;
        }
    }
    failpoint::hit("worker.acked");
    metrics.settled(&verdict, started.elapsed());
}

/// Takes a message off its stream once it lies elsewhere.
async fn moved(delivery: Delivery, kept: Result<(), PublishError>, at: &'static str, pool: &Pool) {
    match kept {
        Ok(()) => {
            failpoint::hit(at);
            delivery.moved().await;
        }
        Err(error) => {
            tracing::warn!(service = %pool.config.service, %error, "a message could not be moved: it comes again");
            delivery.hand_back(Some(TROUBLE_PAUSE)).await;
        }
    }
}
