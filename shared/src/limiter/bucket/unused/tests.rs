#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "tests panic on failure; the arithmetic is exact where they compare"
)]

use proptest::prelude::*;

use super::super::tests::fullest;
use super::super::{Mark, take};
use super::*;
use crate::limiter::Rule;

const NOW: f64 = 1e12;

fn bucket(rule: &str) -> Bucket {
    rule.parse::<Rule>().unwrap().into()
}

fn full(rule: &str) -> Part {
    Part::new(bucket(rule), 1, None, 0.0, NOW)
}

/// A call that may be made, or given back.
#[derive(Debug, Clone)]
struct Slot {
    start: f64,
    cost: u32,
    marks: Vec<Mark>,
}

/// Takes calls: the slots they were given.
fn slots(now: f64, parts: &mut [Part], cost: u32, want: u32, ahead: f64, block: f64) -> Vec<Slot> {
    let totals: Vec<_> = parts.iter().map(|part| part.state.total).collect();
    let granted = take(now, parts, want.into(), ahead, block);
    let mark = |(part, total): (&Part, &f64)| Mark {
        push: part.state.push,
        total: *total,
        place: part.placed,
        line: part.state.line,
    };
    let marks: Vec<Mark> = parts.iter().zip(&totals).map(mark).collect();
    let slot = |n: u32| Slot {
        start: granted.start + (f64::from(n) - granted.at_start + 1.0).max(0.0) * granted.step,
        cost,
        marks: marks
            .iter()
            .zip(parts.iter())
            .map(|(mark, part)| mark.behind(part.bucket, cost, n))
            .collect(),
    };
    (0..granted.calls as u32).map(slot).collect()
}

/// The report of slots that come back together.
fn unused<'a>(now: f64, slots: impl IntoIterator<Item = &'a Slot>, part: usize) -> Report {
    let mut report = Report::default();
    for slot in slots {
        report.add_unused(slot.cost.into(), slot.marks[part], (now - slot.start).max(0.0));
    }
    report
}

#[derive(Debug, Clone)]
enum Event {
    Ask {
        want: u32,
        cost: u32,
        ahead: f64,
        block: f64,
    },
    /// Some of the slots that are out are found to be of no use; the share, and which.
    Back(f64, Vec<prop::sample::Index>),
    /// What came back is told.
    Tell,
    /// A call was late.
    Late(f64),
    /// Redis has lost some grants, or all it knew.
    Birth(bool),
}

fn events(most: u32) -> impl Strategy<Value = Vec<(f64, Event)>> {
    let pause = prop_oneof![Just(0.0), 0.0..2_000.0_f64, 0.0..60_000.0_f64, 0.0..900_000.0_f64];
    let ask = (
        1_u32..40,
        1..=most,
        prop_oneof![Just(0.0), 0.0..600_000.0_f64],
        0.0..20_000.0_f64,
    );
    let ask = ask.prop_map(|(want, cost, ahead, block)| Event::Ask {
        want,
        cost,
        ahead: ahead - block.min(ahead),
        block,
    });
    let back = (
        0.0..1.0_f64,
        prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    );
    let event = prop_oneof![
        120 => ask,
        80 => back.prop_map(|(share, which)| Event::Back(share, which)),
        80 => Just(Event::Tell),
        3 => (0.0..50_000.0_f64).prop_map(Event::Late),
        1 => any::<bool>().prop_map(Event::Birth),
    ];
    prop::collection::vec((pause, event), 1..400)
}

/// The calls that a fleet makes which gives slots back in any order: starts, with costs.
fn run(rules: &[String], events: &[(f64, Event)]) -> Vec<(f64, u32)> {
    let (mut now, mut born) = (NOW, 0.0);
    let mut states = vec![None; rules.len()];
    let (mut out, mut back, mut late) = (Vec::<Slot>::new(), Vec::<Slot>::new(), 0.0);
    let parts = |cost: u32, states: &mut [Option<State>], born: f64, now: f64| -> Vec<Part> {
        let part = |(rule, state): (&String, &mut Option<State>)| {
            Part::new(bucket(rule), cost, state.take(), born, now)
        };
        rules.iter().zip(states).map(part).collect()
    };
    for (pause, event) in events {
        now += pause;
        match event {
            Event::Ask {
                want,
                cost,
                ahead,
                block,
            } => {
                let mut parts = parts(*cost, &mut states, born, now);
                out.extend(slots(now, &mut parts, *cost, *want, *ahead, *block));
                states = parts.into_iter().map(|part| Some(part.state)).collect();
            }
            Event::Back(share, which) => {
                let few = (out.len() as f64 * share).ceil() as usize;
                for index in which.iter().take(few) {
                    if !out.is_empty() {
                        back.push(out.swap_remove(index.index(out.len())));
                    }
                }
            }
            Event::Tell => {
                let mut parts = parts(1, &mut states, born, now);
                for (i, part) in parts.iter_mut().enumerate() {
                    let report = Report {
                        late,
                        ..unused(now, &back, i)
                    };
                    part.report(now, &report);
                }
                back.clear();
                states = parts.into_iter().map(|part| Some(part.state)).collect();
            }
            Event::Late(more) => late += more,
            Event::Birth(all) => {
                born = now;
                if *all {
                    states = vec![None; rules.len()];
                }
            }
        }
    }
    // What was thought to be of no use and not told yet was not made either.
    let mut starts: Vec<_> = out.iter().map(|slot| (slot.start, slot.cost)).collect();
    starts.sort_by(|a, b| a.0.total_cmp(&b.0));
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Whatever is given back, in whatever order, however late: no window of the period holds more than the limit.
    #[test]
    fn no_window_holds_more_for_what_is_given_back(
        calls in 1_u32..60,
        share in 0.0..1.0,
        events in events(1),
        other in prop::option::of(prop_oneof![Just("20 per 700ms, burst 3"), Just("30 per 400ms, fixed")]),
    ) {
        let burst = ((f64::from(calls) * share * 1.2) as u32).clamp(1, calls);
        let rules = [format!("{calls} per second, burst {burst}")];
        let rules: Vec<_> = rules.into_iter().chain(other.map(str::to_owned)).collect();
        let most = fullest(&run(&rules, &events), 1e6);
        prop_assert!(most <= calls, "{most} of {calls}, burst {burst}");
    }

    #[test]
    fn costs_make_no_difference(calls in 20_u32..60, burst in 7_u32..20, events in events(7)) {
        let rules = [format!("{calls} per second, burst {burst}")];
        let most = fullest(&run(&rules, &events), 1e6);
        prop_assert!(most <= calls, "{most} of {calls}, burst {burst}");
    }

    /// A burst that comes back is there again at once: in any order when it is told together, in any pieces in the order of
    /// its slots; half of it at least one by one in any order. (Of a burst of more than half the calls the line is as it
    /// was, but what was idle before it is remembered for half a period only: see the module above.)
    #[test]
    fn a_burst_that_comes_back_is_there_again(
        calls in 1_u32..60,
        all in any::<bool>(),
        how in 0..3,
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0.0..100.0_f64), 60),
        grants in prop::collection::vec(1_u32..60, 60),
    ) {
        let burst = if all { calls } else { calls.div_ceil(2) };
        let mut part = [full(&format!("{calls} per second, burst {burst}"))];
        let (mut now, mut out) = (NOW, Vec::new());
        // Of more than half only who asks at once gets all.
        for want in if all { vec![calls] } else { grants } {
            out.extend(slots(now, &mut part, 1, want, 0.0, 0.0));
        }
        prop_assert_eq!(out.len(), burst as usize);
        let mut told = Vec::new();
        for (index, tell, pause) in order {
            if !out.is_empty() {
                told.push(out.remove(if how == 0 { 0 } else { index.index(out.len()) }));
            }
            if how < 2 && (how == 0 && tell || out.is_empty()) || how == 2 {
                now += if all { 0.0 } else { pause };
                part[0].report(now, &unused(now, &std::mem::take(&mut told), 0));
            }
        }
        part[0].report(now, &unused(now, &told, 0));
        let least = f64::from(if how < 2 { burst } else { burst / 2 });
        let line = part[0].state.time() - NOW;
        prop_assert!(line >= 0.0 && line <= (f64::from(burst) - least) * 1.005e6 / f64::from(calls) + 1.0, "{line}");
        let again = take(now, &mut part, 100.0, 0.0, 0.0).calls;
        let least = if all { least.min(f64::from(calls / 2)) } else { least };
        prop_assert!((least..=f64::from(burst)).contains(&again), "{again} of {burst}");
    }
}

/// Calls that are made with few of the slots they ask for, far ahead, use nearly all of the limit.
#[test]
fn what_is_given_back_is_used() {
    for (rule, per_second) in [
        ("50 per second, burst 5", 50.0),
        ("50 per second, burst 50", 50.0),
        ("2000 per second, burst 100", 2_000.0),
        ("600 per minute, burst 60", 10.0),
    ] {
        for keeps in [2, 10] {
            let (mut part, mut made) = ([full(rule)], 0_u32);
            let mut later: Vec<Vec<Slot>> = Vec::new();
            for tick in 0..60_000_u32 {
                let now = NOW + 1e3 * f64::from(tick);
                let mut back = Vec::new();
                for (n, slot) in (tick..).zip(slots(now, &mut part, 1, 40, 100_000.0, 20_000.0)) {
                    if n % keeps == 0 {
                        made += 1;
                    } else {
                        back.push(slot);
                    }
                }
                later.push(back);
                // Three milliseconds go by until that is known.
                if later.len() > 3 {
                    part[0].report(now, &unused(now, &later.remove(0), 0));
                }
            }
            let used = f64::from(made) / (60.0 * per_second);
            assert!(used >= 0.9, "{rule}, one of {keeps}: {used}");
        }
    }
}

#[test]
fn calls_that_were_not_needed_take_nothing() {
    for (rule, times) in [("2 per hour, burst 2", 40), ("5000 per hour, burst 100", 500)] {
        let mut part = [full(rule)];
        let burst = part[0].room(NOW, 1e9, 0.0).0;
        for n in 0..times {
            let now = NOW + 250_000.0 * f64::from(n);
            let back = slots(now, &mut part, 1, 1, 0.0, 0.0);
            assert_eq!(back.len(), 1, "{rule}: number {n}");
            part[0].report(now + 100_000.0, &unused(now + 100_000.0, &back, 0));
        }
        let now = NOW + 250_000.0 * f64::from(times);
        assert_eq!(take(now, &mut part, 1e9, 0.0, 0.0).calls, burst, "{rule}");
    }
}

/// The first of two is not needed, the second is: only the time between the two is lost.
#[test]
fn what_lies_before_a_call_that_was_made_is_idle_time() {
    let mut part = [full("2 per hour, burst 2")];
    let first = slots(NOW, &mut part, 1, 1, 0.0, 0.0);
    slots(NOW + 1e6, &mut part, 1, 1, 0.0, 0.0);
    part[0].report(NOW + 2e6, &unused(NOW + 2e6, &first, 0));
    assert_eq!(part[0].state.back, 1_800.05e6 - 1e6);
    assert_eq!(take(NOW + 2e6, &mut part, 9.0, 0.0, 0.0).calls, 1.0);
}

#[test]
fn slots_of_another_line_do_not_shorten_this_one() {
    let (rule, other) = ("50 per second, burst 20", "40 per second, burst 20");
    let born = NOW + 1.0;
    for (rule, born, lost) in [
        (other, 0.0, false),
        (rule, born, false),
        (rule, born, true),
        (rule, 0.0, true),
    ] {
        let mut part = [full("50 per second, burst 20")];
        let back = slots(NOW, &mut part, 1, 20, 0.0, 0.0);
        let state = part[0].state.clone();
        let mut part = Part::new(bucket(rule), 1, (!lost).then_some(state), born, NOW + 2.0);
        let before = part.state.time();
        part.report(NOW + 2.0, &unused(NOW + 2.0, &back, 0));
        assert_eq!(part.state.time(), before, "{rule} {born} {lost}");
    }
}

/// Nor is it lengthened, whatever is said.
#[test]
fn a_line_is_never_shortened_beyond_the_last_call() {
    let mut part = [full("50 per second, burst 20")];
    let mut back = slots(NOW, &mut part, 1, 20, 0.0, 0.0);
    let back = back.split_off(10);
    let report = unused(NOW + 1.0, &back, 0);
    part[0].report(NOW + 1.0, &report);
    assert_eq!(part[0].state.time(), NOW + 10.0 * 20_100.0);
    for place in [f64::MIN, 0.0, NOW, 1e15, f64::MAX] {
        part[0].report(
            NOW + 1.0,
            &Report {
                unused_place: place,
                ..report
            },
        );
        assert!(part[0].state.time() >= part[0].state.last, "{place}");
        assert!(part[0].state.time() <= NOW + 10.0 * 20_100.0, "{place}");
    }
}
