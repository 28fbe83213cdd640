//! Calls whose effect must not happen twice. A note is made before such a call and goes with its outcome; one that is
//! left, by a worker that died or an answer that never came, says that nobody knows what became of the call. What then
//! happens is the service's policy.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use shared::event::Event;
use shared::failure::Failure;

use crate::handler::Completion;
use crate::outcome::Verdict;
use crate::pool::Pool;
use crate::quota::Turn;
use crate::store::{Asked, Begun, Intent};

/// Code of a dead letter whose call may have had its effect.
pub const UNKNOWN: &str = "unknown";
/// Code of an event that waits for another delivery of itself.
const ELSEWHERE: &str = "under_way";
/// An API's clock may be so far behind that of NATS.
const SKEW: Duration = Duration::from_secs(300);
/// A call that was begun is over at the latest so long after its timeout.
const GRACE: Duration = Duration::from_secs(5);

/// What it means to make an event's call once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it reads, or the other side does it once all the same.
    Repeatable,
    /// The effect is there twice.
    Once,
}

/// What an earlier call is found to have done.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Its effect.
    Done(Completion),
    /// Nothing.
    Nothing,
    /// The API has no way to tell.
    CannotTell,
}

/// A call whose end nobody knows, as far as it can be dated.
#[derive(Debug, Clone, Copy)]
pub struct Earlier {
    /// When its event was accepted, on the clock of NATS.
    pub accepted: SystemTime,
    /// How long ago it was begun.
    pub ago: Duration,
}

impl Earlier {
    /// From when on the API's list is asked for what the call has made.
    pub fn asked_from(&self) -> SystemTime {
        self.accepted.checked_sub(SKEW).unwrap_or(self.accepted)
    }

    /// Whether the call was made after [`asked_from`](Self::asked_from) on the API's own clock, which says `now`, or on ours
    /// where it says nothing. No list that begins later can tell anything.
    pub fn is_covered(&self, now: Option<SystemTime>) -> bool {
        let made = now.unwrap_or_else(SystemTime::now).checked_sub(self.ago);
        made.is_some_and(|made| made >= self.asked_from())
    }
}

/// `WEIR_SERVICE_<NAME>_UNKNOWN`: what happens to an event when nobody knows whether its call had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The call is made again: at least once.
    Retry,
    /// It becomes a dead letter, for people to decide: at most once.
    Dead,
    /// The API is asked whether the effect is there; where it cannot be asked, a dead letter.
    LookUp,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "retry" => Ok(Self::Retry),
            "dead" => Ok(Self::Dead),
            "look-up" => Ok(Self::LookUp),
            other => Err(format!("is {other:?}: must be look-up, dead or retry")),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::LookUp => "look-up",
        })
    }
}

/// What is noted of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Note {
    /// Nothing.
    #[default]
    None,
    /// That it begins.
    Begun(Asked),
    /// That an earlier one was begun, first so long ago, of which nothing is known yet.
    Unknown(Asked, Duration),
    /// The same, of an event that was replayed: unless it is found done, it is to be done now.
    Replayed(Asked, Duration),
    /// That it begins, and another has done it in the meantime.
    TooLate(Asked),
}

impl Note {
    /// What becomes of the note with this verdict.
    pub fn after(self, verdict: &Verdict) -> Intent {
        match (self, verdict) {
            (Self::None, _) => Intent::None,
            (Self::TooLate(asked), _)
            | (
                Self::Begun(asked) | Self::Unknown(asked, _) | Self::Replayed(asked, _),
                Verdict::Done(_) | Verdict::Duplicate,
            ) => Intent::Over(asked),
            // A dead letter too: another delivery of the event must not begin as if nothing had been.
            (Self::Unknown(asked, _) | Self::Replayed(asked, _), _)
            | (
                Self::Begun(asked),
                Verdict::Retry { unknown: true, .. } | Verdict::Dead { unknown: true, .. },
            ) => Intent::Unknown(asked),
            (Self::Begun(asked), Verdict::Retry { .. } | Verdict::Dead { .. } | Verdict::Defer { .. }) => {
                Intent::Over(asked)
            }
        }
    }
}

/// For how long a call may be under way after its note was asked for: it begins within [`latest_start`] and ends within
/// its timeout.
pub fn longest_call(timeout: Duration) -> Duration {
    latest_start(timeout) + timeout + GRACE
}

/// How long after its note was asked for a call may still begin: a look-up and a turn fit in.
fn latest_start(timeout: Duration) -> Duration {
    timeout + GRACE
}

/// Whether the note is still good for a call that begins now. An old one may be taken for that of a dead worker.
pub fn still_ours(note: Note, asked: Instant, pool: &Pool) -> Result<(), Failure> {
    if note == Note::None || asked.elapsed() < latest_start(pool.config.timeout) {
        return Ok(());
    }
    let detail = "the note of its call has become too old to begin it";
    Err(Failure::throttled(ELSEWHERE, detail, GRACE))
}

/// The verdict with a reason that tells people that a call may have had its effect, where that is so.
pub fn told(note: Note, verdict: Verdict) -> Verdict {
    let unknown = matches!(note.after(&verdict), Intent::Unknown(_));
    match verdict {
        Verdict::Dead {
            reason,
            failed,
            permanent,
            ..
        } if unknown && reason.code != UNKNOWN => Verdict::Dead {
            reason: undecided(&reason.to_string()).reason().clone(),
            failed,
            permanent,
            unknown,
        },
        verdict => verdict,
    }
}

/// Whether a note is made of this event's call.
pub fn is_noted(event: &Event, pool: &Pool) -> bool {
    pool.store.is_some() && pool.config.unknown != Policy::Retry && pool.handler.effect(event) == Effect::Once
}

/// Makes the note. `Err` when the call may be under way elsewhere.
pub async fn begin(event: &Event, replay: u64, pool: &Pool) -> Result<Note, Failure> {
    let Some(store) = pool.store.as_ref().filter(|_| is_noted(event, pool)) else {
        return Ok(Note::None);
    };
    let elsewhere = |wait: Duration| {
        let detail = "another delivery of this event may be at the same call";
        Err(Failure::throttled(ELSEWHERE, detail, wait))
    };
    match store.begin(event.id.clone(), replay).await {
        Some((Begun::First, asked)) => Ok(Note::Begun(asked)),
        Some((Begun::Done, asked)) => Ok(Note::TooLate(asked)),
        Some((Begun::Unknown(ago), asked)) => Ok(Note::Unknown(asked, ago)),
        Some((Begun::Replayed(ago), asked)) => Ok(Note::Replayed(asked, ago)),
        Some((Begun::Elsewhere(wait), _)) => elsewhere(wait),
        None => elsewhere(longest_call(pool.config.timeout)),
    }
}

/// What is to become of an event whose earlier call nobody knows the end of: it was done, or is to be done now, or
/// neither can be said, unless somebody has `decided`.
pub async fn resolve(
    event: &Event,
    earlier: Earlier,
    decided: bool,
    turn: &Turn,
    pool: &Pool,
) -> Result<Option<Completion>, Failure> {
    let found = match pool.config.unknown {
        Policy::Retry => Found::Nothing,
        Policy::Dead => Found::CannotTell,
        Policy::LookUp => {
            let looked =
                tokio::time::timeout(pool.config.timeout, pool.handler.look_up(event, earlier, turn));
            looked
                .await
                .unwrap_or_else(|_| Err(Failure::transient("timeout", "no answer to a look-up")))?
        }
    };
    match found {
        Found::Done(completion) => Ok(Some(completion)),
        Found::Nothing => Ok(None),
        Found::CannotTell if decided => Ok(None),
        Found::CannotTell => Err(undecided("an earlier attempt did not come to an end")),
    }
}

/// The failure of a call whose end nobody knows, under the service's policy.
pub fn judge(failure: Failure, note: Note, pool: &Pool) -> Failure {
    match failure {
        Failure::Transient {
            reason,
            unknown: true,
            ..
        } if note != Note::None && pool.config.unknown == Policy::Dead => undecided(&reason.to_string()),
        failure => failure,
    }
}

fn undecided(what: &str) -> Failure {
    let detail = format!("{what}: the call may have had its effect; look there before this is replayed");
    Failure::permanent(UNKNOWN, detail)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_list_tells_nothing_of_what_is_before_its_beginning_on_the_apis_clock() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let earlier = Earlier {
            accepted: at(10_000),
            ago: Duration::from_secs(60),
        };
        // Called at 10,020 on our clock, asked for now, at 10,080.
        for (clock, covered) in [
            (10_080, true),
            (13_680, true),
            (9_800, true),
            (6_480, false),
            (9_700, false),
        ] {
            assert_eq!(earlier.is_covered(Some(at(clock))), covered, "{clock}");
        }
        let just_now = Earlier {
            accepted: SystemTime::now(),
            ..earlier
        };
        assert!(just_now.is_covered(None), "by our own clock");
        assert!(
            !Earlier {
                ago: Duration::from_secs(660),
                ..just_now
            }
            .is_covered(None)
        );
    }
}
