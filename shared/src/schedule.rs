//! Delivery at a later time, by the server itself: retries, and events that their publisher wants later.

use std::time::SystemTime;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use bytes::Bytes;
use uuid::Uuid;

use crate::event::EventId;
use crate::subject::headers as names;
use crate::subject::{Lane, Service};
use crate::telemetry::propagation::rfc3339;

/// A message that is to come to its service's stream at a time.
#[derive(Debug)]
pub struct Scheduled<'a> {
    /// Whose event.
    pub service: &'a Service,
    /// In which lane.
    pub lane: Lane,
    /// Of which tenant.
    pub tenant: Option<&'a str>,
    /// The event's id; it travels in `Weir-Id`, because the server strips the message id on delivery.
    pub id: &'a EventId,
    /// Tells this scheduling from others of the same event, for example the number of the attempt: the same id and
    /// turn twice is one delivery.
    pub turn: &'a str,
    /// When.
    pub at: SystemTime,
    /// Headers to deliver.
    pub headers: HeaderMap,
    /// Bytes to deliver.
    pub payload: Bytes,
}

/// Keeps a message until its time and waits until the server has it. `true` when the server had it already.
pub async fn publish_at(js: &jetstream::Context, message: Scheduled<'_>) -> Result<bool, PublishError> {
    let Scheduled {
        service,
        lane,
        tenant,
        id,
        turn,
        at,
        mut headers,
        payload,
    } = message;
    let message_id = format!("{service}:{id}:{turn}");
    // The subject must be the message's own, and an id may hold what a subject may not.
    let token = Uuid::new_v5(&Uuid::NAMESPACE_OID, message_id.as_bytes())
        .simple()
        .to_string();
    let (subject, target) = service.retry(lane, tenant, &token);
    headers.insert(names::MESSAGE_ID, message_id);
    headers.insert(names::ID, id.as_str());
    headers.insert(names::SCHEDULE, format!("@at {}", rfc3339(at)));
    headers.insert(names::SCHEDULE_TARGET, target);
    let ack = js.publish_with_headers(subject, headers, payload).await?.await?;
    Ok(ack.duplicate)
}
