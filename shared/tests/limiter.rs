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
use shared::limiter::{Ask, Charge, Grant, Limiter, Mark, Report};
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
    /// Which of the slots granted so far is not used.
    back: Option<prop::sample::Index>,
}

fn report() -> impl Strategy<Value = Option<Report>> {
    let some = (
        prop_oneof![Just(0.0), 0.0..3e4_f64],
        0.0..3.0_f64,
        (0.0..2e5_f64, 0.0..2e5_f64),
        -3.0..3.0_f64,
        prop_oneof![4 => Just(0.0), 1 => 0.0..2e4_f64],
        0.0..60.0_f64,
        prop_oneof![3 => Just(0.0), 1 => 0.0..1e5_f64],
        0.0..3.0_f64,
    )
        .prop_map(
            |(late, unused, ages, settle, pause, ceiling, reset, tolerance)| Report {
                late,
                unused: unused.floor(),
                unused_age: ages.0,
                settle: settle.floor(),
                settle_age: ages.1,
                pause,
                ceiling: ceiling.floor(),
                left: (ceiling / 2.0).floor(),
                reset,
                tolerance,
                ..Report::default()
            },
        );
    prop::option::weighted(0.3, some)
}

fn step() -> impl Strategy<Value = Step> {
    (
        prop_oneof![3 => 0_u64..3_000, 1 => 0_u64..60_000],
        (0_u32..40, 0_u64..50, 0_u64..20, prop::bool::weighted(0.3)),
        [report(), report()],
        prop::option::weighted(0.7, any::<prop::sample::Index>()),
    )
        .prop_map(|(pause, (calls, ahead, block, idle), report, back)| Step {
            pause: Duration::from_micros(pause),
            ask: Ask {
                calls,
                ahead: MS * ahead as u32,
                block: MS * block as u32,
                idle,
            },
            report,
            back,
        })
}

/// The script and the arithmetic in Rust do the same, to the last bit, whatever is asked and reported.
#[tokio::test]
async fn the_script_does_what_the_arithmetic_says() {
    let (redis, _dir) = redis().await;
    let mut runner = TestRunner::new(Config::default());
    let (mut granted, mut spare, mut shortened) = (0.0, 0.0, 0);
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
            // Slots that could come back: those of the first call of each grant.
            let mut slots: Vec<Vec<Mark>> = Vec::new();
            let steps = prop::collection::vec(step(), 120)
                .new_tree(&mut runner)
                .unwrap()
                .current();
            for mut step in steps {
                tokio::time::sleep(step.pause).await;
                if let Some(back) = step.back.filter(|_| !slots.is_empty()) {
                    let slot = slots.swap_remove(back.index(slots.len()));
                    for (report, mark) in step.report.iter_mut().zip(slot) {
                        let Some(report) = report else { continue };
                        (report.unused_place, report.unused_line) = (mark.place, mark.line);
                    }
                }
                for (state, charge) in states.iter_mut().zip(&charges) {
                    // On a busy machine a pause can outlast a key.
                    if limiter.standing(&charge.key).await.unwrap().state.is_none() {
                        *state = None;
                    }
                }
                let grant = limiter.take(&charges, &step.report, &[], step.ask).await.unwrap();
                let mut parts = Vec::new();
                let mut standing = Vec::new();
                for (i, charge) in charges.iter().enumerate() {
                    let stands = limiter.standing(&charge.key).await.unwrap();
                    let bucket = Bucket::from(charge.rule);
                    let mut part = Part::new(
                        bucket,
                        charge.cost,
                        states[i].take(),
                        stands.born.unwrap(),
                        grant.now,
                    );
                    if let Some(report) = &step.report[i] {
                        let before = part.state.back;
                        part.report(grant.now, report);
                        shortened += usize::from(report.settle >= 0.0 && part.state.back > before);
                    }
                    parts.push(part);
                    standing.push(stands);
                }
                let micros = |time: Duration| time.as_secs_f64() * 1e6;
                let mut marks: Vec<_> = parts
                    .iter()
                    .map(|part| (part.state.push, part.state.total))
                    .collect();
                let ours = bucket::take_as(
                    grant.now,
                    &mut parts,
                    step.ask.calls.into(),
                    micros(step.ask.ahead),
                    micros(step.ask.block),
                    step.ask.idle,
                );
                assert_eq!(
                    (ours.calls, ours.at_start),
                    (grant.calls.into(), grant.at_start.into()),
                    "{step:?} {parts:?}"
                );
                let marks: Vec<_> = marks
                    .drain(..)
                    .zip(&parts)
                    .map(|((push, total), part)| Mark {
                        push,
                        total,
                        place: part.placed,
                        line: if part.placed > 0.0 { part.state.line } else { 0.0 },
                    })
                    .collect();
                assert_eq!(marks, grant.marks);
                if grant.calls > 0 {
                    slots.push(grant.marks.clone());
                }
                assert!(
                    (ours.start - grant.now - micros(grant.start)).abs() < 0.01,
                    "{ours:?} {grant:?}"
                );
                granted += ours.calls;
                spare += if step.ask.idle { ours.calls } else { 0.0 };
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
        }
    }
    assert!(
        granted > 40.0 && spare > 3.0 && shortened > 3,
        "{granted} {spare} {shortened}"
    );
}

/// Commands of ours to the same server.
async fn command(redis: &Redis, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let mut connection = connect::redis(&redis.url()).unwrap();
    let _: redis::Value = command.query_async(&mut connection).await.unwrap();
}

/// A limit in shadow counts what it would have held up, and neither it nor what it counts is felt.
#[tokio::test]
async fn a_limit_in_shadow_counts_and_holds_nothing_up() {
    let (redis, _dir) = redis().await;
    let limiter = limiter(&redis, "a", true);
    let shadow = |key: &str, rule: &str| Charge {
        shadow: true,
        ..charge(key, rule, 1)
    };
    for (name, real, tried) in [
        ("window", "30 per 20s, fixed", "10 per 20s, fixed"),
        ("paced", "60 per 60s, burst 30", "20 per 60s, burst 10"),
    ] {
        let beside = [
            charge(&format!("{{s}}:{name}"), real, 1),
            shadow(&format!("{{s}}:{name}-tried"), tried),
        ];
        let alone = [charge(&format!("{{s}}:{name}-alone"), real, 1)];
        let (mut granted, mut over) = ([0, 0], 0);
        for _ in 0..40 {
            let grant = take(&limiter, &beside, 1).await;
            assert_ne!(grant.which, Some(1), "never in the way");
            granted[0] += grant.calls;
            over += grant.over[1];
            granted[1] += take(&limiter, &alone, 1).await.calls;
        }
        assert_eq!(
            granted,
            [30, 30],
            "{name}: the real limit is what it is without the other"
        );
        assert_eq!(over, 20, "{name}: what ten would have held up");
        let state = limiter.standing(&beside[1].key).await.unwrap().state.unwrap();
        assert_eq!((state.total, state.over), (10.0, 20.0));
    }
    let only = [shadow("{s}:only", "1 per day")];
    let grant = take(&limiter, &only, 50).await;
    assert_eq!((grant.calls, grant.start), (50, Duration::ZERO));
    let refused = Report {
        pause: 60e6,
        ..Report::default()
    };
    let ask = now(5);
    let grant = limiter.take(&only, &[Some(refused)], &[], ask).await.unwrap();
    assert_eq!((grant.calls, &grant.over[..]), (5, &[5][..]), "a pause included");
}

/// What one limit refuses is booked on none, and the wait is that limit's.
#[tokio::test]
async fn all_limits_are_taken_or_none() {
    let (redis, _dir) = redis().await;
    let limiter = limiter(&redis, "a", true);
    for (name, empty, rest) in [
        ("window", "5 per 20s, fixed", "50 per 20s, fixed"),
        ("paced", "5 per 20s, burst 5", "50 per 20s, burst 50"),
        ("mixed", "5 per 20s, burst 5", "50 at once"),
    ] {
        let exhausted = charge(&format!("{{n}}:{name}-empty"), empty, 1);
        let other = charge(&format!("{{n}}:{name}-other"), rest, 1);
        let state = async |charge: &Charge| limiter.standing(&charge.key).await.unwrap().state;
        assert_eq!(
            take(&limiter, &[exhausted.clone(), other.clone()], 5).await.calls,
            5
        );
        // What is held has to be confirmed with every question.
        let held = [0, 5];
        let both = [exhausted.clone(), other.clone()];
        limiter.take(&both, &[], &held, now(0)).await.unwrap();
        let before = (state(&exhausted).await, state(&other).await);
        for both in [
            [exhausted.clone(), other.clone()],
            [other.clone(), exhausted.clone()],
        ] {
            let which = usize::from(both[1] == exhausted);
            let held = both.each_ref().map(|charge| if *charge == other { 5 } else { 0 });
            let grant = limiter.take(&both, &[], &held, now(3)).await.unwrap();
            assert_eq!((grant.calls, grant.which), (0, Some(which)), "{name}");
            let shortest = if name == "window" { 19.0 } else { 3.0 };
            assert!(grant.start.as_secs_f64() > shortest, "{name}: {:?}", grant.start);
        }
        let after = (state(&exhausted).await, state(&other).await);
        let held_until = |state: &Option<bucket::State>| state.as_ref().map(|s| s.held(0.0));
        if name == "mixed" {
            assert_eq!(held_until(&before.1), held_until(&after.1));
        } else {
            assert_eq!(before.1, after.1, "{name}");
        }
        assert_eq!(before.0, after.0, "{name}");
    }
}

/// Holders tell what they hold; together they never hold more than there is, and what one lets go the other has at once.
#[tokio::test]
async fn holders_never_hold_more_than_there_is() {
    let (redis, _dir) = redis().await;
    let holders = ["a", "b", "c"].map(|name| limiter(&redis, name, true));
    let charge = [charge("{h}:at-once", "7 at once", 1)];
    let ask = async |holder: usize, held: u32, calls: u32| {
        let limiter = &holders[holder];
        limiter
            .take(&charge, &[], &[held], now(calls))
            .await
            .unwrap()
            .calls
    };
    assert_eq!(ask(0, 0, 7).await, 7);
    assert_eq!(ask(1, 0, 7).await, 0);
    assert_eq!(ask(0, 4, 0).await, 0, "only tells");
    assert_eq!(ask(1, 0, 7).await, 3, "free at once");
    assert_eq!(ask(0, 4, 7).await, 0, "its own count as well");
    let mut runner = TestRunner::new(Config::default());
    let steps = prop::collection::vec((0..3_usize, 0..8_u32, 0..8_u32), 400)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    let (mut held, mut most) = ([4_u32, 3, 0], 0);
    for (holder, ended, calls) in steps {
        held[holder] = held[holder].saturating_sub(ended);
        held[holder] += ask(holder, held[holder], calls).await;
        let all: u32 = held.iter().sum();
        assert!(all <= 7, "{held:?}");
        most = most.max(all);
    }
    assert_eq!(most, 7);
}

/// A Redis that has lost everything does not know who holds what: until all can have told, nobody gets more.
#[tokio::test]
async fn a_redis_without_a_past_gives_away_no_place_that_is_held() {
    let (mut redis, _dir) = redis().await;
    // The first knows that nobody has called before it; the second finds a Redis without a past.
    let (a, b) = (limiter(&redis, "a", true), limiter(&redis, "b", false));
    let charge = [charge("{h}:at-once", "5 at once", 1)];
    let ask = async |limiter: &Limiter, held: u32, calls: u32| {
        let grant = limiter.take(&charge, &[], &[held], now(calls)).await;
        grant.map_or(0, |grant| grant.calls)
    };
    let held = ask(&a, 0, 4).await;
    assert_eq!(held, 4);
    redis.kill().await.unwrap();
    redis.restart().await.unwrap();
    let mut others = 0;
    for _ in 0..50 {
        others += ask(&b, others, 5 - others).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(held + others <= 5, "{held} and {others} of 5");
}

/// Calls that were booked before Redis lost everything are still made; the new line begins behind them.
#[tokio::test]
async fn a_redis_without_a_past_starts_behind_what_was_booked() {
    let (redis, _dir) = redis().await;
    let limiter = limiter(&redis, "a", false);
    let charge = [charge("{b}:x", "50 per second, burst 1", 1)];
    let ask = Ask {
        calls: 5,
        ahead: MS * 100,
        block: MS * 20,
        idle: false,
    };
    let mut last = 0.0_f64;
    for _ in 0..40 {
        let grant = limiter.take(&charge, &[], &[], ask).await.unwrap();
        if grant.calls > 0 {
            last = grant.now + grant.due(grant.calls - 1).as_secs_f64() * 1e6;
        }
    }
    command(&redis, &["FLUSHALL"]).await;
    let grant = limiter.take(&charge, &[], &[], ask).await.unwrap();
    let next = grant.now + grant.start.as_secs_f64() * 1e6;
    assert!(
        next > last,
        "the next call {:.1} ms before the last that was booked",
        (last - next) / 1e3
    );
}

/// The script is loaded again when the server has forgotten it.
#[tokio::test]
async fn a_forgotten_script_is_loaded_again() {
    let (redis, _dir) = redis().await;
    let limiter = limiter(&redis, "a", true);
    let charge = [charge("{f}:x", "10 per 20s, fixed", 1)];
    assert_eq!(take(&limiter, &charge, 1).await.calls, 1);
    command(&redis, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(take(&limiter, &charge, 1).await.calls, 1);
    let state = limiter.standing("{f}:x").await.unwrap().state.unwrap();
    assert_eq!(
        (state.total, state.epoch),
        (2.0, 2.0),
        "counted once each, on the same window"
    );
}

/// A rule of any kind can be put in the place of any other while its bucket lives.
#[tokio::test]
async fn rules_are_changed_while_their_buckets_live() {
    let (redis, _dir) = redis().await;
    let limiter = limiter(&redis, "a", true);
    let rules = [
        "100 per second, burst 20",
        "1 per hour",
        "100 per hour, burst 20",
        "50 per 10s, fixed",
        "20 at once",
        "50 per minute, aligned",
        "3 per second",
    ];
    for from in rules {
        for to in rules {
            let key = format!("{{t:1}}:{from}:{to}");
            assert!(take(&limiter, &[charge(&key, from, 1)], 1).await.calls <= 1);
            let grant = take(&limiter, &[charge(&key, to, 1)], 1).await;
            let hour = Duration::from_secs(3_700);
            assert!(grant.start <= hour, "{from} -> {to}: {:?}", grant.start);
            if from == "1 per hour" && to.starts_with("100 per second") {
                assert!(
                    grant.start < MS * 20,
                    "as many calls stand in line, not as much time"
                );
            }
        }
    }
}

/// What somebody else has written where a bucket should be counts as nothing.
#[tokio::test]
async fn garbage_in_the_place_of_a_bucket_is_a_bucket_of_an_unknown_past() {
    let (redis, _dir) = redis().await;
    let limiter = limiter(&redis, "a", true);
    let mut raw = connect::redis(&redis.url()).unwrap();
    let nan = rmp_serde::to_vec(&vec![f64::NAN; 11]).unwrap();
    let words = rmp_serde::to_vec(&vec!["x"; 11]).unwrap();
    let short = rmp_serde::to_vec(&vec![1.0; 3]).unwrap();
    for rule in ["10 per second", "10 per second, fixed", "10 at once"] {
        for garbage in [&b"no msgpack"[..], b"", b"\xc1", &nan, &words, &short] {
            let charges = [charge("{t:1}:x", rule, 1)];
            let _: () = redis::cmd("SET")
                .arg("weir:{t:1}:x")
                .arg(garbage)
                .query_async(&mut raw)
                .await
                .unwrap();
            assert_eq!(take(&limiter, &charges, 1).await.calls, 1, "{rule}: {garbage:?}");
            assert!(take(&limiter, &charges, 1).await.start < Duration::from_secs(3));
        }
        let _: () = redis::cmd("RPUSH")
            .arg("weir:{t:1}:list")
            .arg("x")
            .query_async(&mut raw)
            .await
            .unwrap();
        assert_eq!(take(&limiter, &[charge("{t:1}:list", rule, 1)], 1).await.calls, 1);
        let _: () = redis::cmd("DEL")
            .arg("weir:{t:1}:list")
            .query_async(&mut raw)
            .await
            .unwrap();
    }
}
