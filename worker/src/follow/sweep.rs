//! What events owe whose messages never come again: they were purged, or taken off their stream by hand, after their
//! outcome was committed and before all that they owed was published. Workers look for it by its age.

use std::time::Duration;

use async_nats::jetstream;
use shared::subject::Service;
use sqlx::PgPool;

use super::publish::publish;
use crate::store::follow_ups;

/// Publishes what lies in the table for longer than two ack waits, and goes on doing so. Two workers may publish the
/// same: the server keeps it once, by its id.
pub async fn sweep(
    database: PgPool,
    js: jetstream::Context,
    services: Vec<Service>,
    ack_wait: Duration,
) -> Result<(), sqlx::Error> {
    loop {
        // Spread, so that the workers of a fleet do not all look at the same time.
        tokio::time::sleep(ack_wait.mul_f64(0.75 + 0.5 * rand::random::<f64>())).await;
        if let Err(error) = round(&database, &js, &services, ack_wait * 2).await {
            tracing::warn!(%error, "follow-up events that were left behind cannot be looked for");
        }
    }
}

async fn round(
    database: &PgPool,
    js: &jetstream::Context,
    services: &[Service],
    age: Duration,
) -> Result<(), sqlx::Error> {
    let left = follow_ups::left_behind(database, services, age).await?;
    let (mut published, mut refused) = (Vec::new(), Vec::new());
    for (place, message) in left {
        match publish(&message, js).await {
            Ok(()) => {
                tracing::info!(event = %place, rule = message.rule, "published what was left behind");
                published.push(place);
            }
            Err(what) => {
                tracing::warn!(event = %place, rule = message.rule, what, "what was left behind cannot be published");
                refused.push(place);
            }
        }
    }
    // What cannot be published must not stand before what can.
    follow_ups::put_off(database, &refused).await?;
    follow_ups::remove(database, &published).await
}
