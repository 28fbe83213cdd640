//! Stage 7: what happens to an event, from the message to the ack, in order.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::FutureExt;
use shared::event::Event;
use shared::failpoint;
use shared::failure::Failure;
use shared::limiter::Charge;
use tokio::time::timeout;
use tracing::Instrument;

use crate::delivery::Delivery;
use crate::effect::{self, Earlier, Note};
use crate::follow;
use crate::group::{self, Together};
use crate::handler::Completion;
use crate::limits::TENANT;
use crate::open::{Unreadable, open};
use crate::outbound::lease::Lease;
use crate::outbound::upstreams::Candidate;
use crate::outcome::{self, Verdict};
use crate::pool::Pool;
use crate::quota::{Ticket, Turn, Wait};
use crate::response::{self, Look, Reading};
use crate::settle::settle;
use crate::store::Finding;
use crate::suspect;
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
pub async fn process(delivery: Delivery, ticket: Option<Ticket>, candidate: Option<Candidate>, pool: &Pool) {
    failpoint::hit("worker.pulled");
    let started = Instant::now();
    let watch = suspect::watch(&delivery, pool).await;
    let (event, _room) = open(&delivery, &watch, pool).await;
    let span = trace::process_span(pool, &delivery, event.as_ref().ok());
    let sequence = delivery.sequence;
    let stages = async {
        let mut note = Note::None;
        let outcome = match &event {
            Ok(event) => attempt(event, &delivery, ticket, candidate, &mut note, pool).await,
            Err(error) => error.outcome(),
        };
        let verdict = outcome::decide(outcome, &delivery, &pool.config.retries, rand::random());
        let verdict = effect::told(note, verdict);
        let recorded = record(&event, &delivery, &verdict, note, started, pool).await;
        (verdict, recorded)
    };
    let finished = {
        let stages = pin!(stages);
        let staying_alive = alive::while_running(&delivery, pool.streams.ack_wait, &pool.hand_back, stages);
        staying_alive.instrument(span.clone()).await
    };
    failpoint::hit("worker.recorded");
    async {
        match finished {
            Some((verdict, true)) => settle(delivery, verdict, event.as_ref().ok(), started, pool).await,
            // Refused by the database for what it is, or what follows cannot be published; once more, not at once,
            // until the backstop buries it.
            Some((_, false)) => delivery.hand_back(Some(REFUSED_PAUSE)).await,
            None => delivery.hand_back(None).await,
        }
        watch.over(sequence, pool).await;
    }
    .instrument(span)
    .await;
}

/// One attempt: not done already, not known already, allowed by the limits, begun by nobody else, handled. `None` when it
/// was done before.
async fn attempt(
    event: &Event,
    delivery: &Delivery,
    ticket: Option<Ticket>,
    candidate: Option<Candidate>,
    note: &mut Note,
    pool: &Pool,
) -> Option<Result<Completion, Failure>> {
    if follow::only_rules(delivery) {
        return None;
    }
    if let Some(store) = &pool.store {
        match store.find(event.id.clone()).await {
            Finding::Done => return None,
            Finding::Open => {}
        }
    }
    let (mut ticket, mut candidate) = (ticket, candidate);
    let let_go = || (ticket, candidate) = (None, None);
    let mut reading = match response::look(event, delivery.accepted(), let_go, pool).await {
        Look::Answered(done) => return Some(Ok(done)),
        Look::Call(reading) => reading,
    };
    let last = delivery.failed_attempts() + 1 >= pool.config.retries.attempts();
    let called = match pool.upstreams.choose(candidate, last).await {
        Ok(lease) => {
            let told = (&mut *note, reading.as_deref_mut());
            let called = call(event, delivery, ticket, &lease, told, pool).await;
            lease.report(&called);
            called
        }
        Err(out) => Err(out.into()),
    };
    let called = response::keep(reading, called, pool).await;
    failpoint::hit("worker.called");
    called
        .map_err(|failure| effect::judge(failure, *note, pool))
        .transpose()
}

/// The call in its turn, and what is noted of it before. `None` when another delivery of the event was quicker.
async fn call(
    event: &Event,
    delivery: &Delivery,
    ticket: Option<Ticket>,
    lease: &Lease,
    (note, reading): (&mut Note, Option<&mut Reading<'_>>),
    pool: &Pool,
) -> Result<Option<Completion>, Failure> {
    let known = reading.as_ref().and_then(|reading| reading.knows(event));
    let ticket = match pool.groups.key(event, delivery, lease, pool) {
        Some(key) => {
            let together = group::together(key, (event, known.clone()), delivery, ticket, lease, pool);
            match Box::pin(together).await {
                Together::Ended(outcome, asked) => {
                    if let Some(reading) = reading {
                        reading.asked(asked);
                    }
                    return outcome.map(Some);
                }
                Together::Alone => None,
            }
        }
        None => ticket,
    };
    let mut turn = take_turn(charges(event, pool), delivery, ticket, lease, pool).await?;
    let asked = Instant::now();
    *note = effect::begin(event, delivery.replayed(), pool).await?;
    if let Note::TooLate(_) = *note {
        return Ok(None);
    }
    if let Note::Unknown(ours, ago) | Note::Replayed(ours, ago) = *note {
        let accepted = UNIX_EPOCH + Duration::from_millis(delivery.accepted());
        let earlier = Earlier { accepted, ago };
        let decided = matches!(*note, Note::Replayed(..));
        let done_before = effect::resolve(event, earlier, decided, &turn, pool).await?;
        if done_before.is_some() {
            return Ok(done_before);
        }
        *note = Note::Begun(ours);
        drop(turn);
        turn = take_turn(charges(event, pool), delivery, None, lease, pool).await?;
    }
    effect::still_ours(*note, asked, pool)?;
    failpoint::hit("worker.intended");
    let turn = turn.knowing(known.into_iter().collect());
    if let Some(reading) = reading {
        reading.asked(pool.responses.moment());
    }
    let handled = AssertUnwindSafe(pool.handler.handle(event, &turn)).catch_unwind();
    match timeout(pool.config.timeout, handled).await {
        Ok(Ok(result)) => result.map(Some),
        Ok(Err(_)) => Err(Failure::permanent(
            outcome::PANIC,
            "the handler panicked on this event",
        )),
        Err(_) => Err(no_answer(pool.config.timeout)),
    }
}

/// The failure of a call that takes longer than it may.
pub(crate) fn no_answer(timeout: Duration) -> Failure {
    Failure::unknown("timeout", format!("no answer within {timeout:?}"))
}

/// The limits that an event's own call falls under beside those of every call.
pub(crate) fn charges(event: &Event, pool: &Pool) -> Vec<Charge> {
    let mut charges = pool.handler.charges(event, &pool.limits);
    let tenant = event.tenant.as_ref().map_or("", |tenant| tenant.as_str());
    charges.extend(pool.limits.charge_of(TENANT, tenant, 1));
    charges
}

/// Waits for a call's turn under all of its limits, as long as that is worth a place and its upstream in service.
pub(crate) async fn take_turn(
    charges: Vec<Charge>,
    delivery: &Delivery,
    ticket: Option<Ticket>,
    lease: &Lease,
    pool: &Pool,
) -> Result<Turn, Failure> {
    let places = pool.permits.available_permits();
    let patience = if places > pool.config.concurrency / 2 {
        LONGEST_NAP
    } else {
        SHORT_NAP
    };
    let in_turn = delivery.planned().is_some();
    let turn = pool.quota.turn(ticket, charges, patience, in_turn).await;
    let turn = turn.map_err(|wait| put_off(&wait))?;
    lease.still()?;
    Ok(turn.to(lease.bound()))
}

pub(crate) fn put_off(wait: &Wait) -> Failure {
    Failure::throttled(outcome::OWN_LIMIT, wait, wait.after)
}

/// Makes the attempt durable, and publishes what follows from it; `false` when either cannot be.
async fn record(
    event: &Result<Event, Unreadable>,
    delivery: &Delivery,
    verdict: &Verdict,
    note: Note,
    started: Instant,
    pool: &Pool,
) -> bool {
    let owed = follow::owed(event, delivery, verdict, pool).await;
    let to_commit = owed.to_commit();
    let without_effect = matches!(verdict, Verdict::Duplicate | Verdict::Defer { .. });
    let nothing_to_tell = without_effect && note == Note::None && to_commit.is_empty();
    if let (Some(store), false) = (&pool.store, nothing_to_tell) {
        let id = event
            .as_ref()
            .map_or_else(|_| delivery.fallback_id(&pool.stream), |event| event.id.clone());
        let mut row = outcome::row(id, delivery, verdict, note, started, pool);
        row.tenant = event.as_ref().ok().and_then(|event| event.tenant.clone());
        row.owed = to_commit;
        if !store.commit(row).instrument(trace::commit_span()).await {
            return false;
        }
    }
    owed.publish(event, delivery, pool).await
}
