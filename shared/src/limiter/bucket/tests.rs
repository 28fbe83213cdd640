#![allow(clippy::float_cmp, reason = "the arithmetic is exact where the tests compare")]
use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Calls of a simulated fleet on one bucket: the starts it was granted, with costs.
fn run(rule: &str, born: f64, asks: &[(f64, u32, u32, bool)], block: f64) -> Vec<(f64, u32)> {
    let bucket = Bucket::from(rule.parse::<Rule>().unwrap());
    let mut state = None;
    let (mut now, mut starts) = (1e12, Vec::new());
    let mut unused = None;
    for (pause, want, cost, hand_back) in asks {
        now += pause;
        let mut parts = [Part::new(bucket, *cost, state.take(), born, now)];
        if let Some((unused, since)) = unused.take() {
            let report = Report {
                unused,
                unused_age: now - since,
                ..Report::default()
            };
            parts[0].report(now, &report);
        }
        let granted = take(now, &mut parts, f64::from(*want), 100_000.0, block);
        let made = if *hand_back {
            granted.calls / 2.0
        } else {
            granted.calls
        }
        .ceil();
        for call in 0..made as u32 {
            let later = (f64::from(call) - granted.at_start + 1.0).max(0.0);
            starts.push((granted.start + later * granted.step, *cost));
        }
        if made < granted.calls {
            // Found out with the next question, however late that is.
            unused = Some(((granted.calls - made) * f64::from(*cost), now));
        }
        let [part] = parts;
        state = Some(part.state);
    }
    starts.sort_by(|a, b| a.0.total_cmp(&b.0));
    starts
}

/// The most that any window (w, w + length] holds.
pub(super) fn fullest(starts: &[(f64, u32)], length: f64) -> u32 {
    let (mut inside, mut sum, mut most) = (VecDeque::new(), 0, 0);
    for (at, cost) in starts {
        inside.push_back((*at, *cost));
        sum += cost;
        while let Some((first, cost)) = inside.front().copied()
            && at - first >= length
        {
            inside.pop_front();
            sum -= cost;
        }
        most = most.max(sum);
    }
    most
}

fn asks(most: u32) -> impl Strategy<Value = Vec<(f64, u32, u32, bool)>> {
    // Floods, trickles and pauses follow each other; some calls are handed back.
    let ask = prop_oneof![
        (0.0..2_000.0_f64, 1_u32..40),
        (0.0..60_000.0_f64, 1_u32..4),
        (0.0..1_500_000.0_f64, 1_u32..40),
    ];
    prop::collection::vec((ask, 1..=most, prop::bool::weighted(0.1)), 1..400).prop_map(|asks| {
        asks.into_iter()
            .map(|((pause, want), cost, back)| (pause, want, cost, back))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whoever asks, whenever, for how many, and hands some back: no window of the period holds more than the limit.
    #[test]
    fn no_window_holds_more_than_the_limit(calls in 1_u32..60, share in 0.0..1.0, asks in asks(1), block in 0.0..20_000.0) {
        let burst = ((f64::from(calls) * share) as u32).clamp(1, calls);
        let starts = run(&format!("{calls} per second, burst {burst}"), 0.0, &asks, block);
        let most = fullest(&starts, 1e6);
        prop_assert!(most <= calls, "{most} of {calls}");
    }

    #[test]
    fn costs_keep_the_limit_too(calls in 20_u32..60, asks in asks(7), block in 0.0..20_000.0) {
        let starts = run(&format!("{calls} per second, burst 10"), 0.0, &asks, block);
        let most = fullest(&starts, 1e6);
        prop_assert!(most <= calls, "{most} of {calls}");
    }

    /// A window that opens with its first call, as the provider counts it.
    #[test]
    fn no_fixed_window_holds_more_than_the_limit(calls in 1_u32..60, asks in asks(1)) {
        let starts = run(&format!("{calls} per second, fixed"), 0.0, &asks, 0.0);
        let (mut opened, mut inside) = (f64::MIN, 0);
        for (at, _) in starts {
            if at >= opened + 1e6 {
                (opened, inside) = (at, 0);
            }
            inside += 1;
            prop_assert!(inside <= calls);
        }
    }

    /// A bucket whose past is unknown lets through no more than one that was emptied when Redis was born.
    #[test]
    fn a_fresh_bucket_starts_empty(calls in 2_u32..60, asks in asks(1)) {
        let burst = calls.div_ceil(2);
        let starts = run(&format!("{calls} per second, burst {burst}"), 1e12, &asks, 0.0);
        let interval = 1.005e6 / f64::from(calls);
        for (i, (at, _)) in starts.iter().enumerate() {
            prop_assert!(at - 1e12 >= f64::from(burst).min(1.0) * interval + (i as f64 - f64::from(burst)) * interval);
        }
        prop_assert!(fullest(&starts, 1e6) <= calls);
    }
}

#[test]
fn all_of_the_limit_is_used_while_there_is_work() {
    for (rule, per_second) in [
        ("50 per second, burst 5", 50.0),
        ("50 per second, burst 50", 50.0),
        ("2000 per second", 2000.0),
        ("600 per minute, burst 60", 10.0),
    ] {
        let asks = vec![(1_000.0, 40, 1, false); 60_000];
        let starts = run(rule, 0.0, &asks, 20_000.0);
        let used = starts.iter().filter(|(at, _)| *at < 1e12 + 60e6).count() as f64 / (60.0 * per_second);
        assert!(used >= 0.99, "{rule}: {used}");
    }
}

/// A slot that nobody used, told of by a worker that had nothing to do for long: what was idle then does not help now.
#[test]
fn what_was_not_used_long_ago_gives_no_room_now() {
    let after = |unused_age: f64| {
        let rule: Rule = "50 per second, burst 20".parse().unwrap();
        let mut part = Part::new(rule.into(), 1, None, 0.0, 1e12);
        take(1e12, std::slice::from_mut(&mut part), 20.0, 0.0, 0.0);
        let report = Report {
            unused: 1.0,
            unused_age,
            ..Report::default()
        };
        part.report(1e12 + 1.0, &report);
        let mut now = 1e12 + 1.0;
        for _ in 0..31 {
            now = start(now, std::slice::from_ref(&part)).0;
            take(now, std::slice::from_mut(&mut part), 1.0, 0.0, 0.0);
        }
        now - 1e12
    };
    assert_eq!(after(2e6), 50.0 * 20_100.0);
    assert_eq!(after(0.5), 49.0 * 20_100.0);
}

#[test]
fn a_window_takes_back_only_what_was_taken_from_it() {
    let rule: Rule = "10 per second, fixed".parse().unwrap();
    let left = |age: f64| {
        let mut part = Part::new(rule.into(), 1, None, 0.0, 1e12);
        take(1e12, std::slice::from_mut(&mut part), 10.0, 0.0, 0.0);
        let now = 1e12 + 1_100_000.0;
        assert_eq!(
            take(now, std::slice::from_mut(&mut part), 6.0, 0.0, 0.0).calls,
            6.0
        );
        let report = Report {
            unused: 1.0,
            unused_age: age,
            settle: -2.0,
            settle_age: age,
            ..Report::default()
        };
        part.report(now + 50_000.0, &report);
        part.room(now + 50_000.0, 10.0, 0.0).0
    };
    assert_eq!(left(40_000.0), 7.0);
    assert_eq!(left(200_000.0), 4.0);
}

#[test]
fn a_burst_follows_idleness_and_only_idleness() {
    let at_once = |asks: &[(f64, u32, u32, bool)]| {
        let starts = run("50 per second, burst 10", 0.0, asks, 0.0);
        let last = starts.last().unwrap().0;
        starts.iter().filter(|(at, _)| *at == last).count()
    };
    assert_eq!(at_once(&[(0.0, 40, 1, false)]), 10);
    let mut busy = vec![(20_100.0, 1, 1, false); 200];
    busy.push((20_100.0, 40, 1, false));
    assert_eq!(at_once(&busy), 1, "no idleness, no burst");
    busy.extend([(150_000.0, 40, 1, false)]);
    assert_eq!(
        at_once(&busy),
        7,
        "as many as were left out, and the one whose time it is"
    );
}

#[test]
fn late_arrivals_push_the_line_once() {
    let rule: Rule = "50 per second".parse().unwrap();
    let mut parts = [Part::new(rule.into(), 1, None, 0.0, 1e12)];
    take(1e12, &mut parts, 1.0, 0.0, 0.0);
    let before = parts[0].state.clone();
    for late in [30_000.0, 30_000.0, 20_000.0] {
        parts[0].report(
            1e12 + 1e3,
            &Report {
                late,
                ..Report::default()
            },
        );
    }
    assert_eq!(parts[0].state.time(), before.time() + 30_000.0);
    parts[0].report(
        1e12 + 1e3,
        &Report {
            late: 1e15,
            ..Report::default()
        },
    );
    assert_eq!(parts[0].state.push, 30_000.0 + LONGEST_PUSH, "bounded");
}

#[test]
fn a_provider_that_allows_less_is_believed_until_its_reset() {
    let rule: Rule = "5000 per hour, burst 100".parse().unwrap();
    let mut parts = [Part::new(rule.into(), 1, None, 0.0, 1e12)];
    let now = 1e12;
    let first = take(now, &mut parts, 10.0, 0.0, 0.0);
    assert_eq!(first.calls, 10.0);
    let said = |left: f64, reset: f64| Report {
        ceiling: 10.0 + left,
        left,
        reset,
        tolerance: 50.0,
        ..Report::default()
    };
    parts[0].report(now, &said(4_990.0, 3.6e9));
    assert_eq!(parts[0].state.reset, 0.0, "no less than we allow ourselves");
    parts[0].report(now, &said(20.0, 600e6));
    assert_eq!(take(now, &mut parts, 40.0, 0.0, 0.0).calls, 20.0);
    assert_eq!(start(now, &parts), (now + 600e6, true));
    parts[0].report(now, &said(2_000.0, 600e6));
    assert_eq!(start(now, &parts).0, now + 600e6, "raised only by a newer reset");
    parts[0].report(now, &said(4_990.0, 4_200e6));
    assert!(start(now, &parts).0 < now + 1e6, "a newer reset");
    parts[0].report(
        now,
        &Report {
            pause: 30e6,
            ..Report::default()
        },
    );
    assert_eq!(start(now, &parts).0, now + 30e6);
}

#[test]
fn what_a_call_did_not_cost_is_there_for_others() {
    let rule: Rule = "1000 per second, burst 50".parse().unwrap();
    let (mut state, mut starts) = (None, Vec::new());
    for tick in 0..60_000 {
        let now = 1e12 + 1e3 * f64::from(tick);
        let mut parts = [Part::new(rule.into(), 20, state.take(), 0.0, now)];
        let granted = take(now, &mut parts, 1.0, 0.0, 0.0);
        if granted.calls > 0.0 {
            let cost = 5 + tick * 7 % 15;
            let settle = f64::from(cost) - 20.0;
            parts[0].report(
                now,
                &Report {
                    settle,
                    ..Report::default()
                },
            );
            starts.push((now, cost as u32));
        }
        let [part] = parts;
        state = Some(part.state);
    }
    assert!(fullest(&starts, 1e6) <= 1_000);
    let used: u32 = starts.iter().map(|(_, cost)| cost).sum();
    assert!(used >= 57_000, "{used} of 60000");
}

#[test]
fn a_nearer_reset_opens_no_window_of_ours() {
    let rule: Rule = "5 per hour, fixed".parse().unwrap();
    let now = 1e12;
    let mut parts = [Part::new(rule.into(), 1, None, 0.0, now)];
    assert_eq!(take(now, &mut parts, 9.0, 0.0, 0.0).calls, 5.0);
    let said = Report {
        ceiling: 104.0,
        left: 99.0,
        reset: 1e6,
        ..Report::default()
    };
    parts[0].report(now, &said);
    assert!(
        start(now + 2e6, &parts).0 > now + 3.5e9,
        "an hour, whatever is said of a minute"
    );
}
