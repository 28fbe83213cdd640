//! From an attempt's outcome to what is to become of its message: pure.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use shared::backoff::{MAX_RETRY_AFTER, Schedule};
use shared::event::EventId;
use shared::failure::{Failure, Reason};
use shared::telemetry::propagation::millis;

use crate::delivery::Delivery;
use crate::effect::{Note, UNKNOWN};
use crate::handler::Completion;
use crate::pool::Pool;
use crate::store::{Intent, Row, State};
use crate::trace;

/// Shortest time that an event is put off for a limit.
pub const SHORTEST_DEFERRAL: Duration = Duration::from_secs(1);

/// The code of a wait for a limit of our own, whose length is this event's turn and needs no spreading.
pub const OWN_LIMIT: &str = "quota";

/// The code of an event whose handler panicked, before its call or after it.
pub const PANIC: &str = "panic";

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Its effect is done.
    Done(Completion),
    /// Its effect was done before.
    Duplicate,
    /// Another attempt later.
    Retry {
        /// How much later.
        after: Duration,
        /// Why.
        reason: Reason,
        /// Attempts that have failed by now.
        failed: u32,
        /// Whether the call may have had its effect.
        unknown: bool,
    },
    /// The same attempt later: a limit was in the way, or no upstream in service.
    Defer {
        /// How much later.
        after: Duration,
        /// What is in the way, one word.
        code: Cow<'static, str>,
    },
    /// No further attempt helps.
    Dead {
        /// Why.
        reason: Reason,
        /// Attempts that have failed by now.
        failed: u32,
        /// Whether it would have failed at any number of attempts.
        permanent: bool,
        /// Whether a call may have had its effect.
        unknown: bool,
    },
}

/// Decides. `None` stands for an event that was done before; `unit` in `0..1` spreads the retries.
pub fn decide(
    outcome: Option<Result<Completion, Failure>>,
    delivery: &Delivery,
    retries: &Schedule,
    unit: f64,
) -> Verdict {
    verdict(outcome, delivery.failed_attempts(), retries, unit)
}

fn verdict(
    outcome: Option<Result<Completion, Failure>>,
    failed_before: u32,
    retries: &Schedule,
    unit: f64,
) -> Verdict {
    let failed = failed_before.saturating_add(1);
    match outcome {
        None => Verdict::Duplicate,
        Some(Ok(completion)) => Verdict::Done(completion),
        Some(Err(Failure::Throttled { wait, reason })) => {
            let unit = if reason.code == OWN_LIMIT { 0.0 } else { unit };
            // Up to a fifth more, so that all who wait for one bucket do not come at once; and whatever the other side
            // says, not at once, or a limit that is always there makes a loop of calls.
            let wait = wait.clamp(SHORTEST_DEFERRAL, MAX_RETRY_AFTER);
            Verdict::Defer {
                after: wait.mul_f64(1.0 + 0.2 * unit.clamp(0.0, 1.0)),
                code: reason.code,
            }
        }
        Some(Err(Failure::Transient {
            reason,
            retry_after,
            unknown,
        })) => match retries.delay(failed, retry_after, unit) {
            Some(after) => Verdict::Retry {
                after,
                reason,
                failed,
                unknown,
            },
            None => Verdict::Dead {
                reason,
                failed,
                permanent: false,
                unknown,
            },
        },
        Some(Err(Failure::Permanent { reason })) => Verdict::Dead {
            failed,
            permanent: true,
            unknown: reason.code == UNKNOWN || reason.code == PANIC,
            reason,
        },
    }
}

/// The row that tells of an attempt.
pub fn row(
    id: EventId,
    delivery: &Delivery,
    verdict: &Verdict,
    note: Note,
    started: Instant,
    pool: &Pool,
) -> Row {
    let before = delivery.failed_attempts();
    let intent = note.after(verdict);
    let (state, failure, attempts, code, detail, result) = match verdict {
        Verdict::Done(done) => (
            Some(State::Done),
            None,
            before + 1,
            done.code.to_string(),
            // A start without an end may have made the call too, where it is not noted.
            match delivery.delivered {
                1 => String::new(),
                times => format!("delivered {times} times"),
            },
            done.result.clone(),
        ),
        Verdict::Retry { reason, failed, .. } => (
            None,
            Some(if matches!(intent, Intent::Unknown(_)) {
                "unknown"
            } else {
                "transient"
            }),
            *failed,
            reason.code.to_string(),
            reason.detail.clone(),
            None,
        ),
        Verdict::Dead {
            reason,
            failed,
            permanent,
            ..
        } => {
            let class = if *permanent { "permanent" } else { "transient" };
            (
                Some(State::Dead),
                Some(class),
                *failed,
                reason.code.to_string(),
                reason.detail.clone(),
                None,
            )
        }
        Verdict::Duplicate | Verdict::Defer { .. } => {
            (None, None, before, String::new(), String::new(), None)
        }
    };
    Row {
        event_id: id,
        tenant: None,
        state,
        failure,
        intent,
        attempts,
        code,
        detail,
        result: result.map(|value| value.to_string()),
        owed: Vec::new(),
        took: started.elapsed(),
        trace_id: trace::id_of(delivery),
        accepted_ms: delivery.accepted(),
        at_ms: millis(SystemTime::now()),
        service: pool.config.service.clone(),
        worker: pool.worker.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_verdict() {
        let retries: Schedule = "10s, 20s".parse().unwrap();
        let of = |outcome, before| verdict(outcome, before, &retries, 0.5);
        assert_eq!(of(None, 0), Verdict::Duplicate);
        assert!(matches!(
            of(Some(Ok(Completion::new("http_200"))), 3),
            Verdict::Done(_)
        ));
        let transient = || Some(Err(Failure::transient("http_500", "x")));
        assert!(
            matches!(of(transient(), 0), Verdict::Retry { after, failed: 1, .. } if after.as_secs() == 10)
        );
        assert!(
            matches!(of(transient(), 1), Verdict::Retry { after, failed: 2, .. } if after.as_secs() == 20)
        );
        assert!(matches!(
            of(transient(), 2),
            Verdict::Dead {
                failed: 3,
                permanent: false,
                ..
            }
        ));
        let gone = Some(Err(Failure::permanent("http_404", "x")));
        assert!(matches!(
            of(gone, 0),
            Verdict::Dead {
                failed: 1,
                permanent: true,
                ..
            }
        ));
        let throttled = Some(Err(Failure::throttled(
            "http_429",
            "x",
            Duration::from_secs(9_999_999),
        )));
        assert!(
            matches!(of(throttled, 7), Verdict::Defer { after, .. } if after.as_secs() == 3960),
            "bounded"
        );
    }
}
