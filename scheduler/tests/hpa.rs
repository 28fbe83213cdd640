//! What a stock autoscaler makes of the demand, in simulated time, beside what it makes of the depth alone.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

#[path = "../examples/hpa/controller.rs"]
mod controller;
#[path = "../examples/hpa/fleet.rs"]
mod fleet;
#[path = "../examples/hpa/scenario.rs"]
mod scenario;

use std::time::Duration;

use controller::{Autoscaler, SYNC};
use scenario::{Outcome, Signal, all, play};

fn both(name: &str) -> (Outcome, Outcome) {
    let scenario = all()
        .into_iter()
        .find(|scenario| scenario.name.starts_with(name))
        .unwrap();
    let (depth, demand) = (
        play(&scenario, Signal::Depth(50)),
        play(&scenario, Signal::Demand),
    );
    (depth, demand)
}

#[test]
fn the_controller_follows_its_published_algorithm() {
    let mut hpa = Autoscaler::new(1.0, 1, 50);
    let mut at = Duration::ZERO;
    let mut sync = |current: u32, metric: Option<f64>| {
        at += SYNC;
        hpa.decide(at, current, metric)
    };
    assert_eq!(sync(10, Some(10.9)), 10, "within the tolerance");
    assert_eq!(sync(10, None), 10, "what is not known changes nothing");
    assert_eq!(sync(1, Some(40.0)), 5, "four pods are more than 100 %");
    assert_eq!(sync(5, Some(40.0)), 10, "100 % is more than four pods");
    assert_eq!(sync(10, Some(40.0)), 20);
    assert_eq!(sync(20, Some(400.0)), 40);
    assert_eq!(sync(40, Some(400.0)), 50, "the most");
    for _ in 0..19 {
        assert_eq!(sync(50, Some(0.0)), 50, "more was wanted within five minutes");
    }
    assert_eq!(sync(50, Some(0.0)), 37, "75 % of 50");
    assert_eq!(sync(37, Some(0.0)), 37, "that was this minute's");
}

#[test]
fn a_burst_is_gone_as_soon_with_fewer_workers() {
    let (depth, demand) = both("burst");
    assert!(demand.pod_seconds < depth.pod_seconds * 0.95);
    assert!(demand.drained.unwrap() < Duration::from_secs(150));
    assert_eq!(demand.left, 0);
}

#[test]
fn a_ramp_is_followed_without_a_backlog() {
    let (depth, demand) = both("ramp");
    assert!(demand.mean_wait < depth.mean_wait / 4);
    assert!(demand.pod_seconds < depth.pod_seconds * 1.3);
}

#[test]
fn nobody_is_started_to_wait_for_quota() {
    let (depth, demand) = both("quota");
    assert!(demand.pod_seconds < depth.pod_seconds / 5.0);
    assert!(demand.left <= depth.left, "and as much is done");
    assert!(demand.most_pods <= 4);
}

#[test]
fn what_is_not_known_moves_nothing() {
    for name in ["NATS away", "consumer missing", "scheduler restarted"] {
        let (_, demand) = both(name);
        if name != "scheduler restarted" {
            let (fewest, most) = demand.in_the_dark.unwrap();
            assert_eq!(fewest, most, "{name}");
        }
        assert!(demand.drained.unwrap() < Duration::from_secs(120), "{name}");
        assert_eq!(demand.left, 0, "{name}");
    }
}

#[test]
fn a_leader_that_knows_less_for_a_moment_changes_no_count() {
    let calm = all()
        .into_iter()
        .find(|scenario| scenario.name == "leader change")
        .unwrap();
    let calm = scenario::Scenario {
        fault: scenario::Fault::None,
        ..calm
    };
    let (_, changed) = both("leader change");
    let quiet = play(&calm, Signal::Demand);
    assert_eq!(changed.most_pods, quiet.most_pods);
    let seconds = [changed.pod_seconds, quiet.pod_seconds];
    assert!((seconds[0] - seconds[1]).abs() < seconds[1] * 0.02, "{seconds:?}");
}
