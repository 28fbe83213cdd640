#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;

fn phase(text: &str) -> Phase {
    text.parse().unwrap()
}

#[test]
fn phases_are_read_and_bad_ones_told() {
    assert_eq!(
        phase("2.5 for 10s"),
        Phase {
            rate: 2.5,
            lasts: Duration::from_secs(10)
        }
    );
    for text in [
        "",
        "5",
        "x for 1s",
        "5 for ever",
        "-1 for 1s",
        "NaN for 1s",
        "1e9 for 1s",
        "5 for 2d",
    ] {
        assert!(text.parse::<Phase>().is_err(), "{text}");
    }
}

#[test]
fn phases_follow_each_other_with_pauses_between() {
    let phases = vec![phase("2 for 1s"), phase("0 for 3s"), phase("4 for 500ms")];
    let millis: Vec<u128> = Schedule::new(phases).map(|at| at.as_millis()).collect();
    assert_eq!(millis, [0, 500, 4000, 4250]);
}

proptest! {
    #[test]
    fn arrivals_never_run_backwards_and_are_as_many_as_told(
        phases in prop::collection::vec((0.0f64..200.0, 0u64..2000), 0..6),
    ) {
        let phases: Vec<Phase> = phases
            .into_iter()
            .map(|(rate, millis)| Phase { rate, lasts: Duration::from_millis(millis) })
            .collect();
        let schedule = Schedule::new(phases.clone());
        let (total, lasts) = (schedule.total(), schedule.lasts());
        let times: Vec<Duration> = schedule.collect();
        prop_assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        prop_assert!(times.last().is_none_or(|last| *last <= lasts));
        prop_assert!(total.abs_diff(times.len() as u64) <= phases.len() as u64);
    }
}

/// Stalls on one request; all others are answered at once.
struct Stalls {
    on: u64,
    seen: AtomicU64,
}

impl Target for Stalls {
    async fn send(&self, number: u64) -> Sent {
        self.seen.fetch_add(1, Ordering::Relaxed);
        if number == self.on {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let outcome = if number % 10 == 9 {
            Outcome::Status(503)
        } else {
            Outcome::Accepted
        };
        Sent {
            outcome,
            id: Some(format!("{}", number / 2)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_counts_for_every_request_that_was_due_meanwhile() {
    let target = Arc::new(Stalls {
        on: 20,
        seen: AtomicU64::new(0),
    });
    let open = Open {
        phases: vec![phase("200 for 500ms")],
        max_requests: 1000,
        max_in_flight: 1,
    };
    let result = run(&open, target, &ProgressBar::hidden(), &CancellationToken::new()).await;
    assert_eq!(result.sent, 100);
    assert_eq!(
        (
            result.count(&Outcome::Accepted),
            result.count(&Outcome::Status(503))
        ),
        (90, 10)
    );
    assert_eq!(
        result.accepted_ids.len(),
        50,
        "each id once, those of refused requests left out"
    );
    // About 40 requests were due during the stall: a loop that waits would see one slow request only.
    assert!(result.latency.p90 > 50_000, "{:?}", result.latency);
    assert!(result.latest_start_micros > 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_open_loop_does_not_wait_for_answers() {
    let target = Arc::new(Stalls {
        on: 20,
        seen: AtomicU64::new(0),
    });
    let open = Open {
        phases: vec![phase("200 for 500ms")],
        max_requests: 60,
        max_in_flight: 64,
    };
    let result = run(&open, target, &ProgressBar::hidden(), &CancellationToken::new()).await;
    assert_eq!(result.sent, 60, "the bound on requests ends it");
    assert!(result.latency.p95 < 100_000, "{:?}", result.latency);
    assert!(result.latency.max >= 200_000);
}

#[tokio::test]
async fn both_loops_end_when_told() {
    let stop = CancellationToken::new();
    stop.cancel();
    let target = Arc::new(Stalls {
        on: 0,
        seen: AtomicU64::new(0),
    });
    let open = Open {
        phases: vec![phase("1 for 1h")],
        max_requests: 9,
        max_in_flight: 1,
    };
    let bar = ProgressBar::hidden();
    assert_eq!(run(&open, Arc::clone(&target), &bar, &stop).await.sent, 0);
    let closed = Closed {
        connections: 3,
        max_requests: 9,
        lasts: Duration::from_hours(1),
    };
    assert_eq!(saturate(closed, target, &bar, &stop).await.sent, 0);
}

#[tokio::test]
async fn the_closed_loop_sends_exactly_so_many() {
    let target = Arc::new(Stalls {
        on: u64::MAX,
        seen: AtomicU64::new(0),
    });
    let closed = Closed {
        connections: 7,
        max_requests: 100,
        lasts: Duration::from_hours(1),
    };
    let bar = ProgressBar::hidden();
    let result = saturate(closed, Arc::clone(&target), &bar, &CancellationToken::new()).await;
    assert_eq!((result.sent, target.seen.load(Ordering::Relaxed)), (100, 100));
    let short = Closed {
        max_requests: u64::MAX,
        lasts: Duration::ZERO,
        ..closed
    };
    assert_eq!(
        saturate(short, target, &bar, &CancellationToken::new())
            .await
            .sent,
        0
    );
}
