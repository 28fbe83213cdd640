//! Stage 7: what happens to an event, from the message to the ack, in order.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use shared::event::Event;
use shared::failpoint;
use shared::failure::Failure;
use tokio::time::timeout;
use tracing::Instrument;

use crate::delivery::Delivery;
use crate::handler::Completion;
use crate::limits::TENANT;
use crate::outcome::{self, Verdict};
use crate::pool::Pool;
use crate::quota::{Ticket, Wait};
use crate::settle::settle;
use crate::store::Finding;
use crate::{alive, trace};

/// Waits for a limit up to this long are spent here while places are plenty; longer ones in the retry stream, so that
/// the place is free for an event that may go.
pub const LONGEST_NAP: Duration = Duration::from_secs(1);
/// The same while places are short.
const SHORT_NAP: Duration = Duration::from_millis(250);

/// Pause before an event comes again whose result was refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Takes one delivery through all stages. It ends settled, unless the process dies; then the server delivers the
/// message again, and what is recorded by then is not done again.
pub async fn process(delivery: Delivery, ticket: Option<Ticket>, pool: &Pool) {
    failpoint::hit("worker.pulled");
    let started = Instant::now();
    let event = delivery.decode(&pool.stream);
    let span = trace::process_span(pool, &delivery, event.as_ref().ok());
    let stages = async {
        let outcome = match &event {
            Ok(event) => attempt(event, &delivery, ticket, pool).await,
            Err(error) => Some(Err(Failure::permanent("undecodable", error))),
        };
        let verdict = outcome::decide(outcome, &delivery, &pool.config.retries, rand::random());
        let recorded = record(&event, &delivery, &verdict, started, pool).await;
        (verdict, recorded)
    };
    let staying_alive = alive::while_running(&delivery, pool.streams.ack_wait, &pool.hand_back, stages);
    let finished = staying_alive.instrument(span.clone()).await;
    failpoint::hit("worker.recorded");
    async {
        match finished {
            Some((verdict, true)) => settle(delivery, verdict, event.as_ref().ok(), started, pool).await,
            // Refused by the database for what it is; once more, not at once, until the backstop buries it.
            Some((_, false)) => delivery.hand_back(Some(REFUSED_PAUSE)).await,
            None => delivery.hand_back(None).await,
        }
    }
    .instrument(span)
    .await;
}

/// One attempt: not done already, allowed by the limits, handled. `None` when it was done before.
async fn attempt(
    event: &Event,
    delivery: &Delivery,
    ticket: Option<Ticket>,
    pool: &Pool,
) -> Option<Result<Completion, Failure>> {
    if let Some(store) = &pool.store {
        match store.find(event.id.clone()).await {
            Finding::Done => return None,
            Finding::Open => {}
        }
    }
    let places = pool.permits.available_permits();
    let patience = if places > pool.config.concurrency / 2 {
        LONGEST_NAP
    } else {
        SHORT_NAP
    };
    let mut charges = pool.handler.charges(event, &pool.limits);
    let tenant = event.tenant.as_ref().map_or("", |tenant| tenant.as_str());
    charges.extend(pool.limits.charge_of(TENANT, tenant, 1));
    let in_turn = delivery.planned().is_some();
    let turn = match pool.quota.turn(ticket, charges, patience, in_turn).await {
        Ok(turn) => turn,
        Err(wait) => return Some(Err(put_off(&wait))),
    };
    let call = AssertUnwindSafe(pool.handler.handle(event, &turn)).catch_unwind();
    Some(match timeout(pool.config.timeout, call).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::permanent("panic", "the handler panicked on this event")),
        Err(_) => Err(Failure::transient(
            "timeout",
            format!("no answer within {:?}", pool.config.timeout),
        )),
    })
}

fn put_off(wait: &Wait) -> Failure {
    Failure::throttled(outcome::OWN_LIMIT, wait, wait.after)
}

/// Makes the attempt durable; `false` when that cannot be.
async fn record(
    event: &Result<Event, shared::wire::WireError>,
    delivery: &Delivery,
    verdict: &Verdict,
    started: Instant,
    pool: &Pool,
) -> bool {
    let (Some(store), false) = (
        &pool.store,
        matches!(verdict, Verdict::Duplicate | Verdict::Defer { .. }),
    ) else {
        return true;
    };
    let id = event
        .as_ref()
        .map_or_else(|_| delivery.fallback_id(&pool.stream), |event| event.id.clone());
    let row = outcome::row(id, delivery, verdict, started, pool);
    store.commit(row).instrument(trace::commit_span()).await
}
