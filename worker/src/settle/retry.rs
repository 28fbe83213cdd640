//! Keeps an event for later in the retry stream.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::context::PublishError;
use shared::dead_letter::{Attempt, history_header};
use shared::event::{EventId, Tenant};
use shared::failure::Reason;
use shared::schedule::{Scheduled, publish_at};
use shared::subject::{headers, without};
use shared::telemetry::propagation::millis;

use crate::claim;
use crate::delivery::Delivery;
use crate::handler::agent::money::OVER;
use crate::outbound::upstreams::OUT_OF_SERVICE;
use crate::pool::Pool;

/// Why a message is kept for later.
pub(super) enum Why<'a> {
    /// An attempt failed; so many have by now.
    Failed(&'a Reason, u32),
    /// This was in the way of it, which is no failure.
    PutOff(&'a str),
}

/// Schedules the message again, with what happened to it.
pub(super) async fn keep(
    delivery: &Delivery,
    id: &str,
    after: Duration,
    why: Why<'_>,
    pool: &Pool,
) -> Result<(), PublishError> {
    claim::moving(delivery, pool).await?;
    let mut map = without(delivery.headers(), &[headers::PLANNED, headers::PUT_OFF]);
    let at = SystemTime::now() + after;
    map.insert(headers::ACCEPTED, delivery.accepted().to_string());
    match why {
        Why::Failed(reason, failed) => {
            let mut history = delivery.history();
            history.push(Attempt::now(reason));
            map.insert(headers::HISTORY, history_header(&history));
            map.insert(headers::ATTEMPTS, failed.to_string());
        }
        // No turn is planned: whoever comes first when the upstream is back goes first.
        Why::PutOff(OUT_OF_SERVICE) => map.insert(headers::PUT_OFF, OUT_OF_SERVICE),
        Why::PutOff(code) => {
            if code == OVER {
                map.insert(headers::PUT_OFF, OVER);
            }
            map.insert(headers::PLANNED, millis(at).to_string());
        }
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
