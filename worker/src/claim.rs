//! Events whose bytes lie in the object store: fetched before they are decoded, removed once they are done. What is
//! retried or buried keeps them; the reference travels on in its header.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::PublishError;
use bytes::Bytes;
use shared::claim::{self, Broken, Name, ReadError};
use shared::subject::{header, headers};
use shared::wire::{self, MAX_BYTES};
use tokio::time::Instant;

use crate::delivery::Delivery;
use crate::pool::Pool;
use crate::room::Held;
use crate::store::Finding;

/// Code of an event whose bytes are gone.
pub const LOST: &str = "claim_lost";
/// Code of a reference that the message may not have.
pub const REFUSED: &str = "claim_refused";
/// Code of bytes that cannot be had for now.
pub const AWAY: &str = "claim_away";

/// So often a body must be missing or broken before it counts as lost: a leader that is new may not know it yet, and one
/// that is written anew is whole again at once.
const MISSES: u32 = 3;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a place is held while the server is there and its object store is not; then the event is put off.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long removing a body may hold up the next event; the scheduler removes what is left.
const REMOVE_WITHIN: Duration = Duration::from_secs(2);

/// Why the bytes of an event are not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfetched {
    /// The message may not refer to them.
    #[error("{0}")]
    Refused(String),
    /// They are gone, and the event is not done.
    #[error("{0}")]
    Lost(String),
    /// They are gone, and the event is done.
    #[error("the event was done before")]
    Done,
    /// The object store does not answer.
    #[error("{0}")]
    Away(String),
}

/// The bytes that a delivery refers to, and the room that they and their decompressed form take.
pub async fn fetch(
    delivery: &Delivery,
    encoding: Option<&str>,
    pool: &Pool,
) -> Result<(Bytes, Held), Unfetched> {
    let id = delivery.fallback_id(&pool.stream);
    let name = match claim::of(delivery.headers(), &pool.config.service, &id) {
        Some(Ok(name)) => name,
        Some(Err(wrong)) => return Err(Unfetched::Refused(format!("header {} {wrong}", headers::CLAIM))),
        None => {
            return Err(Unfetched::Refused(format!(
                "header {} is missing",
                headers::CLAIM
            )));
        }
    };
    if delivery.payload_len() > 0 {
        let what = format!(
            "a message with the header {} must have no payload",
            headers::CLAIM
        );
        return Err(Unfetched::Refused(what));
    }
    let mut misses = 0;
    let mut away_since = None;
    loop {
        match look(&name, encoding, pool).await {
            Ok(found) => return Ok(found),
            Err(ReadError::Broken(what)) => {
                misses += 1;
                if misses == MISSES {
                    return Err(lost(&what, &name, &id, pool).await);
                }
            }
            Err(ReadError::Away(what)) => {
                // Without the server nobody can do anything else with this place.
                if pool.client.connection_state() == State::Connected {
                    let since: Instant = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(Unfetched::Away(what.to_string()));
                    }
                } else {
                    away_since = None;
                }
                tracing::warn!(service = %pool.config.service, %name, %what, "waiting for the body of an event");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(name: &Name, encoding: Option<&str>, pool: &Pool) -> Result<(Bytes, Held), ReadError> {
    let Some(object) = claim::find(&pool.js, name).await? else {
        return Err(ReadError::Broken(Broken("it is not in the object store".into())));
    };
    // How large it is decompressed, only its bytes tell.
    let decompressed = encoding.map_or(0, |_| MAX_BYTES);
    let mut held = pool.room.take(object.size + decompressed).await;
    let bytes = claim::read(&pool.js, &object).await?;
    let decompressed = encoding.map_or(0, |_| wire::plain_size(&bytes, encoding));
    held.shrink(bytes.len() + decompressed);
    Ok((bytes, held))
}

/// A body is removed when its event is done: one that comes again, because its ack was lost or somebody replayed it, is
/// told from one that was never done.
async fn lost(what: &Broken, name: &Name, id: &shared::event::EventId, pool: &Pool) -> Unfetched {
    if let Some(store) = &pool.store
        && matches!(store.find(id.clone()).await, Finding::Done)
    {
        return Unfetched::Done;
    }
    Unfetched::Lost(format!("the body {name} of this event is lost: {what}"))
}

/// The object that a delivery may refer to, if it does.
fn name(delivery: &Delivery, pool: &Pool) -> Option<Name> {
    header(delivery.headers(), headers::CLAIM)?;
    let id = delivery.fallback_id(&pool.stream);
    claim::of(delivery.headers(), &pool.config.service, &id)?.ok()
}

/// Acks a delivery whose event is done, and removes its body. Not before the server has confirmed the ack: a message
/// that came again without its body would look like a loss.
pub async fn ack(delivery: Delivery, pool: &Pool) {
    match name(&delivery, pool) {
        None => delivery.ack().await,
        Some(name) => Box::pin(ack_and_remove(delivery, &name, pool)).await,
    }
}

async fn ack_and_remove(delivery: Delivery, name: &Name, pool: &Pool) {
    if !delivery.moved().await {
        return;
    }
    let removed = tokio::time::timeout(REMOVE_WITHIN, claim::remove(&pool.js, name)).await;
    let what = match removed {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".into(),
    };
    tracing::warn!(service = %pool.config.service, %name, what, "the body of an event that is done remains for now");
}

/// Tells that the reference of a delivery is about to be moved; see [`claim::moving`].
pub async fn moving(delivery: &Delivery, pool: &Pool) -> Result<(), PublishError> {
    match name(delivery, pool) {
        Some(name) => claim::moving(&pool.js, &name).await,
        None => Ok(()),
    }
}
