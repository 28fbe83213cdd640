#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DRAIN: Duration = Duration::from_secs(60);
const FRAME: Frame = Frame {
    drain: DRAIN,
    most_unacked: 20_000,
    in_service: true,
};

fn load(arrivals: f64, time: f64, pending: u64, unacked: u64) -> Load {
    Load {
        arrivals,
        service_time: Some(time),
        pending,
        unacked,
    }
}

fn capacity(concurrency: u32) -> Capacity {
    Capacity {
        concurrency,
        timeout: Duration::from_secs(30),
        per_second: None,
        at_once: None,
    }
}

fn workers(load: Load, capacity: Capacity) -> (f64, Bound) {
    let demand = demand(load, Some(capacity), FRAME);
    (demand.milli as f64 / 1_000.0, demand.bound)
}

#[test]
fn demand_is_what_arrivals_and_backlog_call_for() {
    // 20 a second that take 2 s each keep 40 calls going: ten workers of four.
    assert_eq!(workers(load(20.0, 2.0, 0, 0), capacity(4)), (10.0, Bound::Load));
    // 3,000 of 2 s within a minute keep another 100 going.
    assert_eq!(
        workers(load(20.0, 2.0, 3_000, 0), capacity(4)),
        (35.0, Bound::Load)
    );
    // Nothing comes and nothing waits: nobody is needed.
    assert_eq!(workers(load(0.0, 2.0, 0, 0), capacity(4)), (0.0, Bound::Load));
    // One message that takes no time still takes a worker.
    assert_eq!(workers(load(0.0, 0.0, 1, 0), capacity(4)), (1.0, Bound::Floor));
    assert_eq!(workers(load(0.0, 0.001, 0, 1), capacity(4)), (1.0, Bound::Floor));
}

#[test]
fn nothing_is_scaled_up_to_wait_for_quota() {
    let limited = Capacity {
        per_second: Some(5.0),
        ..capacity(4)
    };
    // 5 a second that take 2 s keep ten calls going, and a quarter more: three workers, whatever waits.
    for backlog in [3_000, 10_000_000] {
        assert_eq!(
            workers(load(20.0, 2.0, backlog, 0), limited),
            (3.125, Bound::Quota)
        );
    }
    let at_once = Capacity {
        at_once: Some(8),
        ..limited
    };
    assert_eq!(workers(load(20.0, 2.0, 3_000, 0), at_once), (2.5, Bound::Quota));
    assert_eq!(workers(load(1.0, 2.0, 0, 2), at_once), (1.0, Bound::Floor));
    // What the server lets be unacked.
    assert_eq!(
        workers(load(0.0, 30.0, 10_000_000, 0), capacity(20)),
        (1_000.0, Bound::Unacked)
    );
}

#[test]
fn nobody_is_started_to_wait_for_an_upstream() {
    let frame = Frame {
        in_service: false,
        ..FRAME
    };
    let told = |load| {
        let demand = demand(load, Some(capacity(4)), frame);
        (demand.milli, demand.bound)
    };
    assert_eq!(told(load(20.0, 2.0, 3_000, 0)), (1_000, Bound::OutOfService));
    assert_eq!(told(load(0.1, 2.0, 0, 0)), (50, Bound::Load));
    assert_eq!(told(load(0.0, 0.0, 0, 0)), (0, Bound::Load));
}

#[test]
fn what_was_never_measured_calls_for_one_worker_or_those_at_work() {
    let unmeasured = Load {
        service_time: None,
        ..load(50.0, 0.0, 3_000, 0)
    };
    let told = |load, capacity| {
        let demand = demand(load, capacity, FRAME);
        (demand.milli, demand.bound)
    };
    assert_eq!(told(unmeasured, None), (1_000, Bound::Unmeasured));
    assert_eq!(told(unmeasured, Some(capacity(4))), (1_000, Bound::Unmeasured));
    let busy = Load {
        unacked: 10,
        ..unmeasured
    };
    assert_eq!(told(busy, Some(capacity(4))), (2_500, Bound::Unmeasured));
    assert_eq!(told(busy, None), (1_000, Bound::Unmeasured));
    let idle = Load {
        pending: 0,
        ..unmeasured
    };
    assert_eq!(told(idle, None), (0, Bound::Unmeasured));
}

#[test]
fn an_attempt_takes_no_longer_than_it_may() {
    let stuck = workers(load(1.0, 3_600.0, 0, 0), capacity(10));
    assert_eq!(stuck, (3.0, Bound::Load));
}

fn sample(at: f64, last: u64, delivered: u64, pending: u64, unacked: u64) -> Sample {
    Sample {
        at: Duration::from_secs_f64(at),
        made: 1,
        last_sequence: last,
        delivered,
        pending,
        unacked,
    }
}

#[test]
fn rates_are_those_of_the_queue() {
    let mut rates = Rates::new(Duration::from_secs(20));
    assert_eq!(rates.look(sample(0.0, 0, 0, 0, 0)), None);
    // 10 a second come, 10 a second go, 20 are held: each takes 2 s.
    let mut last = None;
    for n in 1..=60 {
        let come = u64::from(n as u32) * 50;
        last = rates.look(sample(f64::from(n) * 5.0, come, come, 0, 20));
    }
    let seen = last.unwrap();
    assert!((seen.arrivals - 10.0).abs() < 0.01, "{seen:?}");
    assert!((seen.service_time.unwrap() - 2.0).abs() < 0.05, "{seen:?}");
}

#[test]
fn messages_that_are_purged_are_no_attempts() {
    let mut rates = Rates::new(Duration::from_secs(20));
    let mut time = |n: u32, pending, unacked| {
        let ended = u64::from(n) * 5;
        let look = sample(f64::from(n) * 5.0, 100_000, ended + unacked, pending, unacked);
        rates.look(look).and_then(|load| load.service_time)
    };
    // One attempt a second ends, 10 are held.
    let before = (0..60).map(|n| time(n, 90_000, 10)).last().flatten().unwrap();
    assert!((before - 10.0).abs() < 0.1, "{before}");
    let after = time(60, 0, 10).unwrap();
    assert!((after - before).abs() < 0.1, "{after}");
}

#[test]
fn a_stream_made_anew_a_gap_and_a_clock_that_stands_still_begin_anew() {
    let mut rates = Rates::new(Duration::from_secs(20));
    // Nothing is told before looks of 15 s.
    let begun = [(0.0, 1_000), (5.0, 1_100), (10.0, 1_200)];
    for (at, last) in begun {
        assert_eq!(rates.look(sample(at, last, last, 0, 10)), None);
    }
    let time = rates
        .look(sample(15.0, 1_300, 1_300, 0, 10))
        .unwrap()
        .service_time;
    assert!(time.is_some());
    // Counts from 1 again.
    let anew = |at: u64, last_sequence| Sample {
        made: 2,
        at: Duration::from_secs(at),
        ..sample(0.0, last_sequence, 0, last_sequence, 0)
    };
    for (at, last) in [(20, 5), (25, 10), (30, 15)] {
        assert_eq!(rates.look(anew(at, last)), None);
    }
    let seen = rates.look(anew(35, 20)).unwrap();
    assert!((seen.arrivals - 1.0).abs() < 1e-9);
    assert_eq!(seen.service_time, time);
    // Made anew while nobody looked, and further than the old one already.
    let further = Sample {
        made: 3,
        ..anew(38, 5_000)
    };
    assert_eq!(rates.clone().look(further), None);
    // A leader that knows less, though the stream is the same.
    let behind = anew(40, 7);
    assert_eq!(rates.look(behind), None);
    // A sequence that was made to jump: begins anew, and what comes after it is a rate again.
    let jumped = (0..4).map(|n| rates.clone().look(anew(38 + 5 * n, 1_000_000_000_000 + n * 5)));
    assert!(jumped.flatten().all(|seen| seen.arrivals < 10.0));
    // The same moment twice.
    assert_eq!(rates.look(behind), None);
    // Nobody looked for a while; what came meanwhile is no rate.
    for at in [80, 85, 90] {
        assert_eq!(rates.look(anew(at, 9_000)), None);
    }
    assert!(rates.look(anew(95, 9_000)).unwrap().arrivals < f64::EPSILON);
}

#[test]
fn a_count_is_raised_at_once_and_lowered_after_a_rest() {
    let thresholds = Thresholds::default();
    let mut adviser = Adviser::default();
    let mut at = |minutes: u64, demand: u64| {
        adviser
            .decide(Duration::from_mins(minutes), demand, &thresholds)
            .workers
    };
    assert_eq!(at(0, 0), 2);
    assert_eq!(at(1, 1_500), 2, "a load of 0.75");
    assert_eq!(at(2, 1_600), 3, "a load of 0.8");
    assert_eq!(at(3, 100_000), 10, "no more than the most");
    assert_eq!(at(4, 0), 10, "not rested");
    assert_eq!(at(7, 3_100), 10, "not rested");
    assert_eq!(at(8, 3_100), 10, "a load of 0.31");
    assert_eq!(at(9, 3_000), 6, "a load of 0.3");
    assert_eq!(at(10, 0), 6, "not rested");
    assert_eq!(at(14, 0), 2);
    let mut adviser = Adviser::default();
    adviser.decide(Duration::ZERO, 1_000, &thresholds);
    let soon = adviser.decide(Duration::from_secs(59), 9_000, &thresholds);
    assert_eq!((soon.workers, soon.load), (2, 4.5), "not decided yet");
}

prop_compose! {
    fn any_load()(
        arrivals in prop_oneof![0.0..1e6, any::<f64>()],
        service_time in proptest::option::of(prop_oneof![0.0..1e4, any::<f64>()]),
        pending in prop_oneof![0..10_000_u64, any::<u64>()],
        unacked in prop_oneof![0..10_000_u64, any::<u64>()],
    ) -> Load {
        Load { arrivals, service_time, pending, unacked }
    }
}

prop_compose! {
    fn any_capacity()(
        concurrency in prop_oneof![0..200_u32, any::<u32>()],
        timeout in 0..3_600_000_u64,
        per_second in proptest::option::of(prop_oneof![1e-4..1e4, any::<f64>()]),
        at_once in proptest::option::of(1..10_000_u32),
    ) -> Capacity {
        Capacity { concurrency, timeout: Duration::from_millis(timeout), per_second, at_once }
    }
}

proptest! {
    #[test]
    fn never_without_a_worker_while_something_waits_and_never_out_of_bounds(
        load in any_load(), capacity in proptest::option::of(any_capacity()),
        drain in 0..7_200_000_u64, most_unacked in any::<u64>(), in_service in any::<bool>(),
    ) {
        let frame = Frame { drain: Duration::from_millis(drain), most_unacked, in_service };
        let told = demand(load, capacity, frame);
        let most = if in_service { MOST_WORKERS } else { 1 };
        prop_assert!(told.milli <= most * 1_000);
        if load.pending > 0 || load.unacked > 0 {
            prop_assert!(told.milli >= 1_000);
        }
    }

    #[test]
    fn more_work_never_calls_for_fewer_workers(
        arrivals in 0.0..1e3, more_arrivals in 0.0..1e3, time in 0.001..60.0, more_time in 0.0..60.0,
        backlog in 0..100_000_u64, more_backlog in 0..100_000_u64, capacity in any_capacity(),
    ) {
        let less = demand(load(arrivals, time, backlog, 0), Some(capacity), FRAME).milli;
        let more = load(arrivals + more_arrivals, time + more_time, backlog + more_backlog, 0);
        prop_assert!(demand(more, Some(capacity), FRAME).milli >= less);
    }

    #[test]
    fn a_quota_is_never_outgrown(
        arrivals in 0.0..1e3, time in 0.001..60.0, backlog in 0..1_000_000_u64, rate in 0.01..100.0,
        concurrency in 1..100_u32,
    ) {
        let capacity = Capacity { per_second: Some(rate), ..capacity(concurrency) };
        let told = demand(load(arrivals, time, backlog, 0), Some(capacity), FRAME).milli;
        let useful = rate * time.min(30.0) * QUOTA_HEADROOM / f64::from(concurrency);
        prop_assert!(told as f64 <= (useful * 1_000.0).ceil().max(1_000.0));
    }

    /// Whatever the server says, in whatever order.
    #[test]
    fn rates_are_never_negative_nor_beyond_what_was_seen(
        looks in proptest::collection::vec((0..60_000_u64, 0..3_i128, 0..5_000_u64, 0..5_000_u64, 0..5_000_u64, 0..200_u64), 1..60),
    ) {
        let mut rates = Rates::new(Duration::from_secs(20));
        let mut fastest = 0.0_f64;
        let mut previous: Option<Sample> = None;
        for (at, made, last_sequence, delivered, pending, unacked) in looks {
            let sample = Sample {
                at: Duration::from_millis(at), made, last_sequence, delivered, pending, unacked,
            };
            if let Some(before) = previous.filter(|before| before.at < sample.at) {
                let span = sample.at.abs_diff(before.at).as_secs_f64();
                fastest = fastest.max(last_sequence.saturating_sub(before.last_sequence) as f64 / span);
            }
            previous = Some(sample);
            if let Some(seen) = rates.look(sample) {
                prop_assert!(seen.arrivals >= 0.0 && seen.arrivals <= fastest * 1.001, "{seen:?} {fastest}");
                prop_assert!(seen.service_time.is_none_or(|time| time.is_finite() && time >= 0.0));
                prop_assert_eq!((seen.pending, seen.unacked), (sample.pending, sample.unacked));
            }
        }
    }

    #[test]
    fn a_count_stays_within_its_bounds_and_rests(
        demands in proptest::collection::vec(0..40_000_u64, 2..80), least in 1..20_u32, room in 0..20_u32,
    ) {
        let thresholds = Thresholds { least, most: least + room, ..Thresholds::default() };
        let mut adviser = Adviser::default();
        let (mut before, mut changed) = (None, 0);
        for (minute, milli) in demands.into_iter().enumerate() {
            let minute = minute as u64;
            let advice = adviser.decide(Duration::from_mins(minute), milli, &thresholds);
            prop_assert!((least..=least + room).contains(&advice.workers));
            if let Some(before) = before.filter(|before| *before != advice.workers) {
                prop_assert!(advice.workers > before || minute - changed >= 5);
                changed = minute;
            }
            before = Some(advice.workers);
        }
    }
}
