//! Keeps an event for later in the retry stream.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::context::PublishError;
use shared::dead_letter::{Attempt, history_header};
use shared::event::{EventId, Tenant};
use shared::failure::Reason;
use shared::schedule::{Scheduled, publish_at};
use shared::subject::{headers, without};
use shared::telemetry::propagation::millis;

use crate::delivery::Delivery;
use crate::pool::Pool;

/// Schedules the message again, with what happened to it; without `failure` nothing is added to its history.
pub(super) async fn keep(
    delivery: &Delivery,
    id: &str,
    after: Duration,
    failure: Option<(&Reason, u32)>,
    pool: &Pool,
) -> Result<(), PublishError> {
    let mut map = without(delivery.headers(), &[headers::PLANNED]);
    let at = SystemTime::now() + after;
    map.insert(headers::ACCEPTED, delivery.accepted().to_string());
    if let Some((reason, failed)) = failure {
        let mut history = delivery.history();
        history.push(Attempt::now(reason));
        map.insert(headers::HISTORY, history_header(&history));
        map.insert(headers::ATTEMPTS, failed.to_string());
    } else {
        map.insert(headers::PLANNED, millis(at).to_string());
    }
    let (lane, tenant) = delivery.lane_and_tenant();
    let message = Scheduled {
        service: &pool.config.service,
        lane,
        // Any token can stand in a subject; only a tenant may be scheduled for.
        tenant: tenant.filter(|tenant| Tenant::new(*tenant).is_ok()),
        id: &EventId::new(id).unwrap_or_else(|_| delivery.fallback_id(&pool.stream)),
        // The same message redelivered makes the same schedule; each later message of the event another.
        turn: &delivery.sequence.to_string(),
        at,
        headers: map,
        payload: delivery.payload(),
    };
    publish_at(&pool.js, message).await?;
    Ok(())
}
