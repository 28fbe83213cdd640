//! When calls can be made: from the limits and from what is before them. Pure.

use std::fmt::Write as _;

use shared::limiter::Rule;
use shared::subject::Lane;

use crate::limits::buckets::Limit;
use crate::limits::reading::{Hold, rate};
use crate::moment;

/// The limits that every call waits for.
fn of_every_call(limits: &[Limit]) -> impl Iterator<Item = &Limit> {
    limits.iter().filter(|limit| !limit.shadow && !limit.apart)
}

/// The limit that is in the way of the next call: the one that is so for the longest.
pub(super) fn in_the_way(limits: &[Limit]) -> Option<&Limit> {
    let next = |limit: &Limit| limit.reading.as_ref().map_or(0.0, |reading| reading.next);
    of_every_call(limits)
        .filter(|limit| limit.holds())
        .max_by(|a, b| next(a).total_cmp(&next(b)))
}

/// What is in the way, as a sentence.
pub(super) fn because(limit: &Limit) -> String {
    let (Some(rule), Some(reading)) = (limit.rule, &limit.reading) else {
        return String::new();
    };
    let name = crate::terminal::clean(&limit.name, 80).into_owned();
    let left = reading.told.map(|(left, reset)| (left, moment::until(reset)));
    let mut text = match (reading.hold, rule) {
        (Hold::Refused, _) => format!(
            "The provider has refused a call ({name}): none begins before {}.",
            moment::until(reading.next)
        ),
        (Hold::Told, _) => format!(
            "The provider says that nothing is left of {name} until {}.",
            moment::until(reading.next)
        ),
        (Hold::Own | Hold::Nothing, Rule::Paced(_)) => format!(
            "Calls wait for {name} ({rule}): the next may start {}.",
            moment::within(reading.next)
        ),
        (Hold::Own | Hold::Nothing, Rule::Window { .. }) => format!(
            "{name} ({rule}) is used up: the next call may start at {}.",
            moment::until(reading.next)
        ),
        (Hold::Own | Hold::Nothing, Rule::AtOnce(_)) => {
            format!("{name} ({rule}): that many calls are under way, and one must end first.")
        }
    };
    if reading.hold == Hold::Own
        && let Some((left, until)) = left
    {
        let _ = write!(text, " The provider says that {left:.0} are left until {until}.");
    }
    text
}

/// The limit that allows the fewest calls in the long run, and how many a second.
pub(super) fn slowest(limits: &[Limit]) -> Option<(&Limit, f64)> {
    of_every_call(limits)
        .filter_map(|limit| Some((limit, rate(limit.rule?)?)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
}

/// In how many seconds call number `n` from now may start, as far as limits know; `None` where no limit knows time.
pub(super) fn start_of(limits: &[Limit], n: u64) -> Option<f64> {
    let n = n.max(1) as f64;
    let times = of_every_call(limits).filter_map(|limit| {
        let (rule, reading) = (limit.rule?, limit.reading.as_ref()?);
        let rate = rate(rule)?;
        // The first starts when the next may, and as many with it as could start at once then.
        let at_once = reading.at_next.max(1.0);
        let mut time = reading.next;
        if n > at_once {
            time += match rule {
                Rule::Window { calls, period, .. } => {
                    let calls = f64::from(calls);
                    let first = reading.at_next;
                    let windows = ((n - first) / calls).ceil().max(0.0);
                    let end = reading.ends.filter(|_| reading.free > 0.0);
                    match end {
                        Some(end) if windows > 0.0 => end + (windows - 1.0) * period.as_secs_f64(),
                        _ => windows * period.as_secs_f64(),
                    }
                }
                Rule::Paced(_) | Rule::AtOnce(_) => (n - at_once) / rate,
            };
        }
        if let Some((left, reset)) = reading.told
            && n > left
        {
            time = time.max(reset + (n - left - reading.at_reset.max(1.0)).max(0.0) / rate);
        }
        Some(time)
    });
    times.reduce(f64::max)
}

/// How many events go before one that has `before` others of its lane before it, where the lanes hold `waiting`, most
/// urgent first: while all have work, each lane has its share.
pub(super) fn ahead_of(lane: Lane, before: u64, waiting: [u64; 3]) -> u64 {
    let own = u64::from(lane.weight());
    let others = Lane::ALL.into_iter().zip(waiting).filter(|(of, _)| *of != lane);
    let others =
        others.map(|(of, waiting)| waiting.min((before + 1).saturating_mul(of.weight().into()) / own));
    before + others.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use shared::limiter::bucket::Place;
    use shared::limiter::{Standing, State};

    use super::*;
    use crate::limits::reading::Reading;

    const NOW: f64 = 1e13;

    fn limit(name: &str, rule: &str, state: Option<State>) -> Limit {
        let rule: Rule = rule.parse().unwrap();
        let standing = Standing {
            state,
            now: NOW,
            born: Some(0.0),
        };
        Limit {
            name: name.into(),
            rule: Some(rule),
            shadow: false,
            apart: false,
            reading: Some(Reading::new(rule, &standing)),
        }
    }

    fn busy_for(seconds: f64) -> State {
        State {
            place: Place::Time(NOW + seconds * 1e6),
            epoch: NOW - 1.0,
            ..State::default()
        }
    }

    #[test]
    fn the_limit_that_holds_longest_is_the_one_in_the_way() {
        let refused = State {
            blocked: NOW + 42e6,
            ..busy_for(0.0)
        };
        let limits = [
            limit("requests", "60 per minute", Some(busy_for(0.7))),
            limit("points", "900 per minute", Some(refused)),
            limit("at-once", "100 at once", None),
        ];
        let found = in_the_way(&limits).unwrap();
        assert_eq!(found.name, "points");
        let said = because(found);
        assert!(
            said.starts_with("The provider has refused a call (points): none begins before "),
            "{said}"
        );
        assert_eq!(
            because(&limits[0]),
            "Calls wait for requests (60 per minute, burst 1): the next may start in 700ms."
        );
        let (slow, rate) = slowest(&limits).unwrap();
        assert_eq!(
            (slow.name.as_str(), rate > 0.99 && rate < 1.0),
            ("requests", true)
        );
        let mut shadowed = limits;
        shadowed[0].shadow = true;
        shadowed[1].apart = true;
        assert!(in_the_way(&shadowed).is_none());
        assert_eq!(start_of(&shadowed, 5), None);
    }

    #[test]
    fn the_time_of_a_call_is_wait_and_turns_and_the_providers_reset() {
        let near = |got: Option<f64>, expected: f64| {
            let got = got.unwrap();
            assert!(
                (got - expected).abs() < 0.01 * expected.max(1.0),
                "{got} is not {expected}"
            );
        };
        let paced = [limit("requests", "60 per minute", Some(busy_for(2.0)))];
        near(start_of(&paced, 1), 2.0);
        near(start_of(&paced, 11), 12.0);
        let idle = [limit("requests", "60 per minute, burst 10", None)];
        near(start_of(&idle, 10), 0.0);
        near(start_of(&idle, 40), 30.0);
        let told = State {
            ceiling: 5.0,
            reset: NOW + 600e6,
            ..busy_for(-600.0)
        };
        let paced = [limit("requests", "60 per minute", Some(told.clone()))];
        near(start_of(&paced, 3), 2.0);
        near(start_of(&paced, 66), 660.0);
        let with_burst = [limit("requests", "60 per minute, burst 30", Some(told))];
        near(start_of(&with_burst, 5), 0.0);
        near(start_of(&with_burst, 35), 600.0);
        near(start_of(&with_burst, 45), 610.0);
        let window = State {
            place: Place::Time(NOW + 3600e6),
            epoch: 990.0,
            ..State::default()
        };
        let window = [limit("daily", "1000 per day, fixed", Some(window))];
        near(start_of(&window, 10), 0.0);
        near(start_of(&window, 11), 3600.0);
        near(start_of(&window, 1011), 3600.0 + 86_400.0);
    }

    #[test]
    fn lanes_go_by_their_shares() {
        assert_eq!(ahead_of(Lane::Normal, 0, [0, 1, 0]), 0);
        assert_eq!(ahead_of(Lane::High, 10, [11, 5, 5]), 10 + 5 + 1);
        assert_eq!(ahead_of(Lane::Low, 9, [1000, 4, 10]), 9 + 60 + 4);
    }
}
