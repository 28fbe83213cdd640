//! From a message to its event: small ones at once; large ones when there is room for them, on a thread of their own,
//! their bytes fetched first where they lie elsewhere.

use shared::event::Event;
use shared::failure::Failure;
use shared::subject::{header, headers};
use shared::wire::{self, WireError};

use crate::alive;
use crate::claim::{self, Unfetched};
use crate::delivery::Delivery;
use crate::handler::Completion;
use crate::outcome;
use crate::pool::Pool;
use crate::room::Held;
use crate::suspect::Watch;

/// Decompressed events up to this many bytes take no room: the number of places bounds them well enough.
const SMALL: usize = 64 * 1024;
/// Events above this many bytes are decoded on a thread of their own: they would hold up everybody else for a
/// millisecond and more.
const LONG: usize = 256 * 1024;

/// Why a message gave no event.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its bytes are none.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Its bytes, which lie elsewhere, were not to be had.
    #[error(transparent)]
    Claim(#[from] Unfetched),
    /// It ends whoever begins it.
    #[error("not run: its workers died of it")]
    Condemned(Failure),
    /// Reading it failed for a reason that is not in it.
    #[error("{0}")]
    Interrupted(String),
}

impl Unreadable {
    /// What that means for the message, as an attempt's outcome. `None`: the event was done before.
    pub fn outcome(&self) -> Option<Result<Completion, Failure>> {
        let away =
            |what: &dyn std::fmt::Display| Failure::throttled(claim::AWAY, what, outcome::SHORTEST_DEFERRAL);
        Some(Err(match self {
            Self::Wire(error) => Failure::permanent("undecodable", error),
            Self::Condemned(failure) => failure.clone(),
            Self::Claim(Unfetched::Done) => return None,
            Self::Claim(error @ Unfetched::Refused(_)) => Failure::permanent(claim::REFUSED, error),
            Self::Claim(error @ Unfetched::Lost(_)) => Failure::permanent(claim::LOST, error),
            Self::Claim(error @ Unfetched::Away(_)) => away(error),
            Self::Interrupted(what) => away(what),
        }))
    }
}

/// The event of a delivery, and the room that it takes for as long as it is held.
pub async fn open(
    delivery: &Delivery,
    watch: &Watch,
    pool: &Pool,
) -> (Result<Event, Unreadable>, Option<Held>) {
    if let Err(condemned) = watch.verdict() {
        return (Err(Unreadable::Condemned(condemned)), None);
    }
    let encoding = header(delivery.headers(), headers::CONTENT_ENCODING);
    let refers = header(delivery.headers(), headers::CLAIM).is_some();
    let payload = delivery.payload();
    if !refers && wire::plain_size(&payload, encoding) <= SMALL {
        return (delivery.decode(payload, &pool.stream).map_err(Into::into), None);
    }
    // On the heap: few events come this way, and the others need not carry the space for it.
    let mut work = Box::pin(async {
        match open_large(delivery, refers, pool).await {
            Ok((event, held)) => (Ok(event), Some(held)),
            Err(error) => (Err(error), None),
        }
    });
    let stopped = || Unreadable::Interrupted("this worker stops".into());
    alive::while_running(delivery, pool.streams.ack_wait, &pool.hand_back, work.as_mut())
        .await
        .unwrap_or_else(|| (Err(stopped()), None))
}

async fn open_large(delivery: &Delivery, refers: bool, pool: &Pool) -> Result<(Event, Held), Unreadable> {
    let encoding = header(delivery.headers(), headers::CONTENT_ENCODING);
    let (payload, mut held) = if refers {
        claim::fetch(delivery, encoding, pool).await?
    } else {
        let payload = delivery.payload();
        let held = pool.room.take(wire::plain_size(&payload, encoding)).await;
        (payload, held)
    };
    let plain = wire::plain_size(&payload, encoding);
    let event = if plain > LONG {
        let (encoding, id) = (encoding.map(str::to_owned), delivery.fallback_id(&pool.stream));
        // The room goes with the bytes: nobody gets it before the thread is done with them, even when we are gone.
        let decode = move || {
            let plain = wire::decompress(payload, encoding.as_deref())?;
            held.shrink(plain.len());
            wire::decode(&plain, || id).map(|event| (event, held))
        };
        let decoded = tokio::task::spawn_blocking(decode).await;
        decoded.map_err(|e| Unreadable::Interrupted(e.to_string()))?
    } else {
        delivery.decode(payload, &pool.stream).map(|event| {
            held.shrink(plain);
            (event, held)
        })
    };
    let (event, held) = event?;
    if refers && event.id != delivery.fallback_id(&pool.stream) {
        let what = "the body is that of another event than the message's headers say";
        return Err(Unfetched::Refused(what.into()).into());
    }
    Ok((event, held))
}
