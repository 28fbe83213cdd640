//! Fetching what an event reads before anybody asks for it.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use shared::access::Found;
use shared::event::Event;
use shared::failure::Failure;
use tokio::time::timeout;

use super::Reading;
use crate::outcome;
use crate::pool::Pool;
use crate::process::{charges, no_answer};

/// What became of a fetch that nobody waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ahead {
    /// It is kept now; how long the call took.
    Fetched(Duration),
    /// There is an answer that will do, or somebody is asking for it.
    Fresh,
    /// The event does not only read, or nobody may use a kept answer to it.
    NotARead,
    /// The upstream refuses calls.
    Refused(Failure),
    /// The call failed.
    Failed(Failure),
    /// Calls are not to be spent on it now, or no upstream is to be asked.
    NoQuota,
}

/// Fetches what an event reads, unless what is kept will do. It never waits for its turn, and takes one only where others
/// leave enough.
pub async fn ahead(event: &Event, pool: &Pool) -> Ahead {
    let Some(mut reading) = Reading::of(event, SystemTime::now(), pool) else {
        return Ahead::NotARead;
    };
    if reading.wants.max_age.is_none_or(|most| most.is_zero()) || reading.wants.not_before.is_some() {
        return Ahead::NotARead;
    }
    if reading.seek().await.is_some() {
        return Ahead::Fresh;
    }
    let reads = reading.reads;
    match reads.flights.enter(reading.key.digest()) {
        Ok(lead) => reading.lead = Some(lead),
        Err(_) => return Ahead::Fresh,
    }
    let Some(lease) = pool.upstreams.preferred() else {
        return Ahead::NoQuota;
    };
    let Some(turn) = pool.quota.idle_turn(&charges(event, pool)).await else {
        return Ahead::NoQuota;
    };
    let turn = turn
        .to(lease.bound())
        .knowing(reading.knows(event).into_iter().collect());
    let asked = Instant::now();
    reading.asked(pool.responses.moment());
    let handled = AssertUnwindSafe(pool.handler.handle(event, &turn)).catch_unwind();
    let result = match timeout(pool.config.timeout, handled).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::permanent(
            outcome::PANIC,
            "the handler panicked on this read",
        )),
        Err(_) => Err(no_answer(pool.config.timeout)),
    };
    lease.report(&result);
    drop(turn);
    let took = asked.elapsed();
    let kept = match result {
        Ok(done) => {
            reading.note(Found::Unasked, Some(took));
            reading.keep(done).await
        }
        Err(failure) => Err(failure),
    };
    match kept {
        Ok(_) => Ahead::Fetched(took),
        Err(failure @ Failure::Throttled { .. }) => Ahead::Refused(failure),
        Err(failure) => Ahead::Failed(failure),
    }
}
