#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use std::slice::from_ref;

use proptest::prelude::*;

use super::*;

const SHAPES: [Shape; 6] = [
    Shape::Sliding,
    Shape::Fixed,
    Shape::Aligned,
    Shape::bucket(0),
    Shape::bucket(1),
    Shape::bucket(5),
];

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn demand(limit: &str, calls: u32, per: Duration, shape: Shape) -> Demand {
    Demand::new(limit, 1, Window::new(calls, per), shape)
}

/// A limit counted as its words say, from the whole history and nothing else. Times are nanoseconds.
struct Naive {
    shape: Shape,
    calls: u32,
    per: u64,
    origin: u64,
    allowed: Vec<(u64, u32)>,
}

impl Naive {
    fn size(&self) -> u32 {
        match self.shape {
            Shape::Bucket { burst } => burst.map_or(self.calls, u32::from),
            _ => self.calls,
        }
    }

    fn spent(&self, counts: impl Fn(u64) -> bool) -> u32 {
        let counted = self.allowed.iter().filter(|(at, _)| counts(*at));
        counted.map(|(_, cost)| cost).sum()
    }

    fn opened(&self) -> Option<u64> {
        let fold = |opened: Option<u64>, (at, _): &(u64, u32)| match opened {
            Some(opened) if *at < opened + self.per => Some(opened),
            _ => Some(*at),
        };
        self.allowed.iter().fold(None, fold)
    }

    fn has_room(&self, now: u64, cost: u32) -> bool {
        let used = match self.shape {
            Shape::Sliding => self.spent(|at| at + self.per > now),
            Shape::Fixed => match self.opened() {
                Some(opened) if now < opened + self.per => self.spent(|at| at >= opened),
                _ => 0,
            },
            Shape::Aligned => {
                let window = |at: u64| (self.origin + at) / self.per;
                self.spent(|at| window(at) == window(now))
            }
            // No span since any call may hold more than a full bucket and what has come back since.
            Shape::Bucket { .. } => {
                let (per, rate) = (i128::from(self.per), i128::from(self.calls));
                let holds = |(since, _): &(u64, u32)| {
                    let spent = self.spent(|at| at >= *since) + cost;
                    i128::from(spent) * per <= i128::from(self.size()) * per + rate * i128::from(now - since)
                };
                return cost <= self.size() && self.allowed.iter().all(holds);
            }
        };
        used + cost <= self.calls
    }

    fn earliest(&self, now: u64, cost: u32) -> u64 {
        let mut later = now..now + 10 * self.per;
        later.find(|at| self.has_room(*at, cost)).unwrap()
    }

    fn remaining(&self, now: u64) -> u32 {
        let fits = (1..=self.size()).take_while(|cost| self.has_room(now, *cost));
        fits.last().unwrap_or(0)
    }

    /// When what is used now is back; as each way of counting means it.
    fn resets_at(&self, now: u64) -> u64 {
        match self.shape {
            Shape::Sliding => {
                let oldest = self.allowed.iter().find(|(at, _)| at + self.per > now);
                oldest.map_or(now, |(at, _)| *at) + self.per
            }
            Shape::Fixed => {
                let open = self.opened().filter(|opened| now < opened + self.per);
                open.unwrap_or(now) + self.per
            }
            Shape::Aligned => {
                let later = now + 1..=now + self.per;
                later
                    .into_iter()
                    .find(|at| (self.origin + at).is_multiple_of(self.per))
                    .unwrap()
            }
            Shape::Bucket { .. } => self.earliest(now, self.size()),
        }
    }
}

proptest! {
    #[test]
    fn every_way_of_counting_agrees_with_a_naive_one(
        shape in prop::sample::select(&SHAPES),
        calls in 1_u32..8,
        per in 1_u64..50,
        origin in 0_u64..1_000,
        steps in prop::collection::vec((0_u64..12, 1_u32..4), 1..80),
    ) {
        let mut naive = Naive { shape, calls, per, origin, allowed: Vec::new() };
        let mut limits = Limits::new(ns(origin));
        let mut now = 7;
        for (gap, cost) in steps {
            now += gap;
            let ask = Demand { cost, ..demand("x", calls, ns(per), shape) };
            let room = naive.has_room(now, cost);
            let admission = limits.admit(ns(now), from_ref(&ask)).unwrap();
            prop_assert_eq!(admission.breached.is_none(), room, "{} at {}", shape, now);
            if room {
                naive.allowed.push((now, cost));
            }
            let standing = admission.standings[0];
            prop_assert_eq!(limits.standing(ns(now), &ask), standing);
            prop_assert_eq!(standing.limit, naive.size());
            prop_assert_eq!(standing.remaining(), naive.remaining(now), "{} at {}", shape, now);
            prop_assert_eq!(standing.resets_at, ns(naive.resets_at(now)), "{} at {}", shape, now);
            if cost <= standing.limit {
                let earliest = naive.earliest(now, cost);
                prop_assert_eq!(standing.room_at, ns(earliest), "{} at {}", shape, now);
            }
        }
    }

    #[test]
    fn nobody_spends_more_than_the_capacity_and_the_greedy_spend_all(
        shape in prop::sample::select(&SHAPES),
        calls in 1_u32..8,
        per in 1_u64..50,
        origin in 0_u64..1_000,
        gaps in prop::collection::vec(0_u64..20, 1..200),
        until in 0_u64..400,
    ) {
        let ask = demand("x", calls, ns(per), shape);
        let mut limits = Limits::new(ns(origin));
        let mut now = 3;
        for gap in gaps {
            now += gap;
            limits.admit(ns(now), from_ref(&ask)).unwrap();
            let seen = &limits.seen(ns(now))["x"];
            prop_assert!(seen.spent <= seen.capacity, "{seen:?}");
        }
        let mut limits = Limits::new(ns(origin));
        let begin = 3;
        for now in begin..=begin + until {
            while limits.admit(ns(now), from_ref(&ask)).unwrap().breached.is_none() {}
        }
        let seen = &limits.seen(ns(begin + until))["x"];
        // A small bucket that fills between two calls wastes what would come back.
        let wasteful = match shape {
            Shape::Bucket { burst } => {
                let burst = u64::from(burst.map_or(calls, u32::from));
                per - 1 + u64::from(calls) > burst * per
            }
            _ => false,
        };
        prop_assert!(seen.spent == seen.capacity || wasteful, "{seen:?}");
        prop_assert!(seen.spent <= seen.capacity, "{seen:?}");
    }

    #[test]
    fn the_worst_window_counts_every_call(
        steps in prop::collection::vec((0_u64..12, 1_u32..4), 1..200),
    ) {
        let mut limits = Limits::default();
        let mut came: Vec<(u64, u32)> = Vec::new();
        let (mut worst, mut now) = (0, 0);
        for (gap, cost) in steps {
            now += gap;
            came.push((now, cost));
            let ask = Demand { cost, ..demand("x", 3, ms(20), Shape::Sliding) };
            limits.admit(ms(now), from_ref(&ask)).unwrap();
            let inside = came.iter().filter(|(at, _)| *at + 20 > now);
            worst = worst.max(inside.map(|(_, cost)| *cost).sum());
        }
        let seen = &limits.seen(ms(now))["x"];
        prop_assert_eq!(seen.worst, u64::from(worst));
        prop_assert_eq!(seen.allowed + seen.breaches, came.len() as u64);
    }
}

#[test]
fn a_call_exactly_one_window_later_is_allowed() {
    let two = [demand("x", 2, ms(1000), Shape::Sliding)];
    let mut limits = Limits::default();
    let breached = |limits: &mut Limits, at| limits.admit(ms(at), &two).unwrap().breached;
    assert_eq!(breached(&mut limits, 0), None);
    assert_eq!(breached(&mut limits, 500), None);
    assert_eq!(breached(&mut limits, 999), Some(0));
    assert_eq!(breached(&mut limits, 1000), None);
    assert_eq!(breached(&mut limits, 1499), Some(0));
}

#[test]
fn a_refused_call_is_counted_under_no_limit() {
    let wide = demand("wide", 10, ms(1000), Shape::Sliding);
    let narrow = demand("narrow", 1, ms(1000), Shape::Sliding);
    let mut limits = Limits::default();
    let both = [wide, narrow];
    assert_eq!(limits.admit(ms(0), &both).unwrap().breached, None);
    let second = limits.admit(ms(1), &both).unwrap();
    assert_eq!(second.breached, Some(1));
    assert_eq!(second.standings[0].used, 1);
    assert_eq!(second.standings[1].resets_at, ms(1000));
    let seen = limits.seen(ms(1));
    assert_eq!((seen["wide"].breaches, seen["narrow"].breaches), (0, 1));
}

#[test]
fn windows_begin_with_a_call_or_with_the_clock() {
    let breached = |limits: &mut Limits, shape, at| {
        let ask = [demand("hour", 2, ms(1000), shape)];
        limits.admit(ms(at), &ask).unwrap().breached
    };
    let mut fixed = Limits::new(ms(250));
    for (at, over) in [(300, None), (1290, None), (1299, Some(0)), (1300, None)] {
        assert_eq!(breached(&mut fixed, Shape::Fixed, at), over, "fixed at {at}");
    }
    let mut aligned = Limits::new(ms(250));
    for (at, over) in [
        (300, None),
        (301, None),
        (749, Some(0)),
        (750, None),
        (1749, None),
        (1749, Some(0)),
    ] {
        assert_eq!(
            breached(&mut aligned, Shape::Aligned, at),
            over,
            "aligned at {at}"
        );
    }
}

#[test]
fn use_is_told_of_whole_periods_and_of_everybody() {
    let mut limits = Limits::default();
    let mut ask = demand("x", 4, ms(100), Shape::Sliding);
    for at in [0, 10, 120] {
        limits.admit(ms(at), from_ref(&ask)).unwrap();
    }
    assert_eq!(limits.seen(ms(99))["x"].used_share(), None, "no period has ended");
    assert_eq!(limits.seen(ms(199))["x"].used_share(), Some(0.5), "two of four");
    ask.scope = 2;
    limits.admit(ms(200), from_ref(&ask)).unwrap();
    let seen = &limits.seen(ms(300))["x"];
    assert_eq!((seen.spent, seen.capacity), (3 + 1, 12 + 4));
}

#[test]
fn scopes_are_counted_apart_and_bounded() {
    let mut limits = Limits::default();
    let mut one = demand("x", 1, ms(10), Shape::Sliding);
    for scope in 0..MAX_GATES as u64 {
        one.scope = scope;
        assert_eq!(limits.admit(ms(0), from_ref(&one)).unwrap().breached, None);
    }
    one.scope = u64::MAX;
    assert!(limits.admit(ms(9), from_ref(&one)).is_err());
    assert!(
        limits.admit(ms(10), from_ref(&one)).is_ok(),
        "idle logs make room"
    );
    let seen = &limits.seen(ms(20))["x"];
    assert_eq!(
        (seen.spent, seen.capacity),
        (MAX_GATES as u64 + 1, MAX_GATES as u64 + 1),
        "what made room stays in the account"
    );
}
