//! The limiter on a real Redis: its script against the arithmetic in Rust, and what happens when servers come and go.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "tests panic on failure; the arithmetic is compared to the last bit"
)]

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use shared::connect;
use shared::limiter::bucket::{self, Bucket, Part};
use shared::limiter::{Ask, Charge, Grant, Limiter, Report, Rule};
use shared::servers::{Redis, RedisOptions};
use tempfile::TempDir;

const MS: Duration = Duration::from_millis(1);

async fn redis() -> (Redis, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Redis::start(RedisOptions::new(dir.path())).await.unwrap(), dir)
}

fn limiter(redis: &Redis, holder: &str, full: bool) -> Limiter {
    Limiter::new(connect::redis(&redis.url()).unwrap(), holder, full)
}

fn charge(key: &str, rule: &str, cost: u32) -> Charge {
    Charge {
        key: key.into(),
        rule: rule.parse().unwrap(),
        cost,
        shadow: false,
    }
}

fn now(calls: u32) -> Ask {
    Ask {
        calls,
        ..Ask::default()
    }
}

async fn take(limiter: &Limiter, charges: &[Charge], calls: u32) -> Grant {
    limiter.take(charges, &[], &[], now(calls)).await.unwrap()
}

/// What is asked and reported, and how long before.
#[derive(Debug, Clone)]
struct Step {
    pause: Duration,
    ask: Ask,
    report: [Option<Report>; 2],
}

fn report() -> impl Strategy<Value = Option<Report>> {
    let some = (
        prop_oneof![Just(0.0), 0.0..3e4_f64],
        0.0..3.0_f64,
        -3.0..3.0_f64,
        prop_oneof![4 => Just(0.0), 1 => 0.0..2e4_f64],
        0.0..60.0_f64,
        prop_oneof![3 => Just(0.0), 1 => 0.0..1e5_f64],
        0.0..3.0_f64,
    )
        .prop_map(
            |(late, unused, settle, pause, ceiling, reset, tolerance)| Report {
                late,
                unused: unused.floor(),
                settle: settle.floor(),
                pause,
                ceiling: ceiling.floor(),
                reset,
                tolerance,
            },
        );
    prop::option::weighted(0.3, some)
}

fn step() -> impl Strategy<Value = Step> {
    (
        prop_oneof![3 => 0_u64..3_000, 1 => 0_u64..60_000],
        (0_u32..40, 0_u64..50, 0_u64..20),
        [report(), report()],
    )
        .prop_map(|(pause, (calls, ahead, block), report)| Step {
            pause: Duration::from_micros(pause),
            ask: Ask {
                calls,
                ahead: MS * ahead as u32,
                block: MS * block as u32,
            },
            report,
        })
}

/// The script and the arithmetic in Rust do the same, to the last bit, whatever is asked and reported.
#[tokio::test]
async fn the_script_does_what_the_arithmetic_says() {
    let (redis, _dir) = redis().await;
    let mut runner = TestRunner::new(Config::default());
    for (round, rules) in [
        ["50 per 100ms, burst 20", "30 per 100ms, fixed"],
        ["20 per 100ms, burst 1", "400 per second, burst 7"],
        ["30 per 100ms, aligned", "100 per 200ms, burst 50"],
        ["30 per 100ms, fixed", "7 per 100ms, burst 7"],
    ]
    .into_iter()
    .enumerate()
    {
        for full in [true, false] {
            let limiter = limiter(&redis, "a", full);
            let charges = [("x", 1), ("y", 3)].map(|(name, cost)| {
                let rule = rules[usize::from(name == "y")];
                charge(&format!("{{t:{round}{full}}}:{name}"), rule, cost)
            });
            let mut states = [None, None];
            let steps = prop::collection::vec(step(), 120)
                .new_tree(&mut runner)
                .unwrap()
                .current();
            let mut granted = 0.0;
            for step in steps {
                tokio::time::sleep(step.pause).await;
                let grant = limiter.take(&charges, &step.report, &[], step.ask).await.unwrap();
                let mut parts = Vec::new();
                let mut standing = Vec::new();
                for (i, charge) in charges.iter().enumerate() {
                    let stands = limiter.standing(&charge.key).await.unwrap();
                    let bucket = Bucket::from(charge.rule);
                    let mut part = Part::new(bucket, charge.cost, states[i].take(), stands.born.unwrap());
                    if let Some(report) = &step.report[i] {
                        part.report(grant.now, report);
                    }
                    parts.push(part);
                    standing.push(stands);
                }
                let micros = |time: Duration| time.as_secs_f64() * 1e6;
                let marks: Vec<_> = parts
                    .iter()
                    .map(|part| (part.state.push, part.state.total))
                    .collect();
                let ours = bucket::take(
                    grant.now,
                    &mut parts,
                    step.ask.calls.into(),
                    micros(step.ask.ahead),
                    micros(step.ask.block),
                );
                assert_eq!(
                    (ours.calls, ours.at_start),
                    (grant.calls.into(), grant.at_start.into()),
                    "{step:?} {parts:?}"
                );
                assert_eq!(marks, grant.marks);
                assert!(
                    (ours.start - grant.now - micros(grant.start)).abs() < 0.01,
                    "{ours:?} {grant:?}"
                );
                granted += ours.calls;
                for (i, part) in parts.into_iter().enumerate() {
                    // Expired is as good as never used.
                    if let Some(theirs) = &standing[i].state {
                        if ours.calls > 0.0 || step.report[i].is_some() {
                            assert_eq!(theirs, &part.state, "{step:?}");
                        }
                        states[i] = Some(theirs.clone());
                    }
                }
            }
            assert!(granted > 20.0, "{rules:?}: {granted}");
        }
    }
}
