//! How a limit stands, from its rule and its bucket: pure.

use std::time::SystemTime;

use serde_json::{Value, json};
use shared::limiter::bucket::{self, Part, Place};
use shared::limiter::{Bucket, Rule, Standing};

use crate::moment;

/// Rounding of the limiter's clock, microseconds.
const NEAR: f64 = 0.5;
/// More calls than any limit allows.
const MANY: f64 = 1e9;

/// What the next call under a limit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing.
    Nothing,
    /// The end of the provider's refusal.
    Refused,
    /// The reset of what the provider has told.
    Told,
    /// The limit itself.
    Own,
}

/// How a limit stands. Times are seconds from now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    /// Calls that could start at once.
    pub(crate) free: f64,
    /// In how long the next may.
    pub(crate) next: f64,
    /// Calls that could start at once then.
    pub(crate) at_next: f64,
    /// Calls that could start at once when what the provider has told ends.
    pub(crate) at_reset: f64,
    /// What it waits for.
    pub(crate) hold: Hold,
    /// When its window ends, where one is open.
    pub(crate) ends: Option<f64>,
    /// How much is used of the last period, of the window, or of the places; 0 to 1.
    pub(crate) used: f64,
    /// For how long the provider wants no call.
    pub(crate) blocked: Option<f64>,
    /// What the provider says is left, and until when.
    pub(crate) told: Option<(f64, f64)>,
    /// Costs granted since the bucket was made.
    pub(crate) granted: f64,
    /// Calls that it would have held up, had it not been in shadow.
    pub(crate) over: f64,
    /// By how much late arrivals have pushed it in all.
    pub(crate) push: f64,
    /// Whether Redis knows of any call in its time.
    pub(crate) known: bool,
}

impl Reading {
    /// Reads the bucket of a rule.
    pub(crate) fn new(rule: Rule, standing: &Standing) -> Self {
        let bucket = Bucket::from(rule);
        let u = standing.now;
        // One that belongs to a rule of another kind says nothing of this one.
        let fits = |place: &Place| {
            matches!(place, Place::Holders(_)) == matches!(bucket, Bucket::AtOnce { .. })
                || *place == Place::Time(0.0)
        };
        let state = standing.state.clone().filter(|state| fits(&state.place));
        let known = state.is_some();
        let part = Part::new(bucket, 1, state, standing.born.unwrap_or_default(), standing.now);
        let (first, _) = bucket::start(u, std::slice::from_ref(&part));
        let state = &part.state;
        let seconds = |at: f64| (at - u) / 1e6;
        let at_once = |u: f64| {
            let (at_start, all, _) = part.room(u, MANY, 0.0);
            at_start.min(all).max(0.0)
        };
        let free = if first > u + NEAR { 0.0 } else { at_once(u) };
        let told = (state.reset > u).then(|| ((state.ceiling - state.total).max(0.0), seconds(state.reset)));
        let hold = if first <= u + NEAR {
            Hold::Nothing
        } else if state.blocked + NEAR >= first {
            Hold::Refused
        } else if told.is_some_and(|(left, _)| left < 1.0) && state.reset + NEAR >= first {
            Hold::Told
        } else {
            Hold::Own
        };
        Self {
            free,
            next: if hold == Hold::Nothing {
                0.0
            } else {
                seconds(first)
            },
            at_next: at_once(first),
            at_reset: at_once(state.reset.max(u)),
            hold,
            ends: match (bucket, &state.place) {
                (Bucket::Window { .. }, Place::Time(end)) if *end > u => Some(seconds(*end)),
                _ => None,
            },
            used: used(bucket, &part, u),
            blocked: (state.blocked > u).then(|| seconds(state.blocked)),
            told,
            granted: state.total,
            over: state.over,
            push: state.push / 1e6,
            known,
        }
    }

    /// In words, after «the next call»: what it waits for. `None` when it does not wait.
    pub(crate) fn why(&self, rule: Rule) -> Option<String> {
        Some(match (self.hold, rule) {
            (Hold::Nothing, _) => return None,
            (Hold::Refused, _) => format!("refused by the provider until {}", moment::until(self.next)),
            (Hold::Told, _) => {
                format!(
                    "the provider says nothing is left until {}",
                    moment::until(self.next)
                )
            }
            (Hold::Own, Rule::Paced(_)) => format!("next call {}", moment::within(self.next)),
            (Hold::Own, Rule::Window { .. }) => {
                format!("used up, next call at {}", moment::until(self.next))
            }
            (Hold::Own, Rule::AtOnce(calls)) => format!("all {calls} places are taken"),
        })
    }

    /// As JSON, without name and rule.
    pub(crate) fn json(&self) -> Value {
        json!({
            "free": self.free as u64,
            "next_seconds": self.next,
            "waits_for": match self.hold {
                Hold::Nothing => None,
                Hold::Refused => Some("refusal"),
                Hold::Told => Some("provider"),
                Hold::Own => Some("limit"),
            },
            "used": (self.used * 1e4).round() / 1e4,
            "blocked_until": self.blocked.map(moment::stamp),
            "told": self.told.map(|(left, reset)| json!({
                "left": left as u64,
                "until": moment::stamp(reset),
            })),
            "granted": self.granted,
            "over": self.over as u64,
            "pushed_seconds": self.push,
            "known": self.known,
        })
    }
}

/// Calls a second that a rule allows in the long run; `None` for one that knows no time.
pub(crate) fn rate(rule: Rule) -> Option<f64> {
    match Bucket::from(rule) {
        Bucket::Paced { interval, .. } => Some(1e6 / interval),
        Bucket::Window { calls, period, .. } => Some(calls * 1e6 / period),
        Bucket::AtOnce { .. } => None,
    }
}

/// The share of a bucket that is used, 0 to 1.
fn used(bucket: Bucket, part: &Part, u: f64) -> f64 {
    let state = &part.state;
    let end = match state.place {
        Place::Time(time) => time,
        Place::Holders(_) => 0.0,
    };
    let used = match bucket {
        Bucket::AtOnce { calls } => state.held(u) / calls,
        Bucket::Window { calls, .. } if u < end => state.epoch / calls,
        Bucket::Window { .. } => 0.0,
        // What was not idle of the time that the bucket remembers, half a period to a whole one, and what is booked.
        Bucket::Paced { period, .. } => {
            let half = period / 2.0;
            let (epoch, prev, cur) = if u >= state.epoch + period {
                (u - half, 0.0, 0.0)
            } else if u >= state.epoch + half {
                (state.epoch + half, state.cur, 0.0)
            } else {
                (state.epoch, state.prev, state.cur)
            };
            let gap = (u - end).max(0.0);
            let here = gap.min(u - epoch);
            let idle = (cur + here).min(half) + (prev + (gap - here).min(half)).min(half);
            let span = u - epoch + half;
            (span - idle) / span + (end - u).max(0.0) / period
        }
    };
    if used.is_finite() {
        used.clamp(0.0, 1.0) + 0.0
    } else {
        0.0
    }
}

/// `37 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// When figures were read: now, RFC 3339.
pub(crate) fn read_at() -> String {
    shared::telemetry::propagation::rfc3339(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use shared::limiter::State;
    use shared::limiter::bucket::Holding;

    use super::*;

    const NOW: f64 = 1e13;
    const SECOND: f64 = 1e6;

    fn read(rule: &str, state: Option<State>) -> Reading {
        let standing = Standing {
            state,
            now: NOW,
            born: Some(0.0),
        };
        Reading::new(rule.parse().unwrap(), &standing)
    }

    fn why(rule: &str, state: State) -> String {
        let reading = read(rule, Some(state));
        reading.why(rule.parse().unwrap()).unwrap_or_default()
    }

    #[test]
    fn an_idle_limit_is_free_and_a_busy_one_tells_its_next_call() {
        let idle = read("5000 per hour, burst 100", None);
        assert_eq!((idle.free, idle.next, idle.hold), (100.0, 0.0, Hold::Nothing));
        assert_eq!((percent(idle.used), idle.known), ("0 %".to_owned(), false));
        let busy = State {
            place: Place::Time(NOW + 0.4 * SECOND),
            epoch: NOW - 900.0 * SECOND,
            ..State::default()
        };
        let reading = read("5000 per hour, burst 100", Some(busy.clone()));
        assert_eq!((reading.free, reading.hold), (0.0, Hold::Own));
        assert_eq!(percent(reading.used), "100 %");
        assert_eq!(why("5000 per hour, burst 100", busy), "next call in 400ms");
        let half_idle = State {
            place: Place::Time(NOW),
            epoch: NOW - 900.0 * SECOND,
            prev: 900.0 * SECOND,
            cur: 450.0 * SECOND,
            ..State::default()
        };
        let reading = read("5000 per hour, burst 100", Some(half_idle));
        assert_eq!((reading.free, percent(reading.used)), (100.0, "50 %".to_owned()));
    }

    #[test]
    fn refusals_and_what_the_provider_tells_come_first() {
        let refused = State {
            place: Place::Time(NOW),
            blocked: NOW + 42.0 * SECOND,
            ..State::default()
        };
        let said = why("60 per minute", refused.clone());
        assert!(
            said.starts_with("refused by the provider until ") && said.ends_with("(in 42s)"),
            "{said}"
        );
        assert_eq!(read("60 per minute", Some(refused)).blocked, Some(42.0));
        let told = State {
            place: Place::Time(NOW - 1e9),
            epoch: NOW - 1.0,
            total: 30.0,
            ceiling: 30.0,
            reset: NOW + 600.0 * SECOND,
            ..State::default()
        };
        let said = why("60 per minute", told.clone());
        assert!(
            said.starts_with("the provider says nothing is left until ") && said.ends_with("(in 10m)"),
            "{said}"
        );
        let some_left = read(
            "60 per minute, burst 10",
            Some(State {
                ceiling: 33.0,
                ..told
            }),
        );
        assert_eq!((some_left.free, some_left.told), (3.0, Some((3.0, 600.0))));
    }

    #[test]
    fn windows_and_places_tell_what_is_used() {
        let window = State {
            place: Place::Time(NOW + 3600.0 * SECOND),
            epoch: 750.0,
            ..State::default()
        };
        let reading = read("1000 per day, fixed", Some(window.clone()));
        assert_eq!((reading.free, percent(reading.used)), (250.0, "75 %".to_owned()));
        let full = State {
            epoch: 1000.0,
            ..window
        };
        let said = why("1000 per day, fixed", full);
        assert!(
            said.starts_with("used up, next call at ") && said.ends_with("(in 60m)"),
            "{said}"
        );
        let holder = |calls: f64, until: f64| {
            [
                Holding::Name("w".into()),
                Holding::Number(calls),
                Holding::Number(until),
            ]
        };
        let held = State {
            place: Place::Holders([holder(3.0, NOW + 1.0), holder(9.0, NOW - 1.0)].concat()),
            ..State::default()
        };
        let reading = read("4 at once", Some(held.clone()));
        assert_eq!((reading.free, percent(reading.used)), (1.0, "75 %".to_owned()));
        assert_eq!(why("3 at once", held.clone()), "all 3 places are taken");
        // The bucket of a rule that was another kind's before.
        let reading = read("60 per minute, burst 5", Some(held));
        assert_eq!((reading.free, reading.known), (5.0, false));
    }

    #[test]
    fn rates_are_those_of_the_long_run() {
        let of = |rule: &str| rate(rule.parse().unwrap());
        assert!((of("3600 per hour").unwrap() - 1.0).abs() < 0.01);
        assert!((of("120 per minute, fixed").unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(of("5 at once"), None);
    }
}
