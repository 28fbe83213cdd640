use std::time::Instant;

use proptest::prelude::*;

use super::*;

const ME: Now<'static> = Now { at: 1_000, by: "me" };

fn rule() -> Rule {
    "50% of 10 in 30s, open 15s to 5m".parse().unwrap()
}

fn of(calls: u64, failures: u64) -> Counts {
    Counts { calls, failures }
}

#[test]
fn rules_read_as_they_are_shown_and_nonsense_is_refused() {
    let rule: Rule = "50% of 10 in 30s, open 15s".parse().unwrap();
    assert_eq!(rule, Rule::default());
    assert_eq!(rule.to_string(), "50% of 10 in 30s, open 15s to 5m");
    let long: Rule = "1% of 1 in 1h, open 10m".parse().unwrap();
    assert_eq!(long.to_string(), "1% of 1 in 1h, open 10m to 10m");
    for (bad, why) in [
        ("", "is no rule"),
        ("50% of 10", "is no rule"),
        ("50 of 10 in 30s, open 15s", "is no rule"),
        ("50% of ten in 30s, open 15s", "is no rule"),
        ("50% of 10 in 30s, 15s", "is no rule"),
        ("50% of 10 in soon, open 15s", "is no duration"),
        ("0% of 10 in 30s, open 15s", "share of 0%"),
        ("101% of 10 in 30s, open 15s", "share of 101%"),
        ("50% of 0 in 30s, open 15s", "has 0 calls"),
        ("50% of 10 in 2h, open 15s", "window outside"),
        ("50% of 10 in 30s, open 15s to 5s", "must stay open"),
        ("50% of 10 in 30s, open 15s to 2h", "must stay open"),
        ("50% of 10 in 30s, open 0s", "must stay open"),
    ] {
        let said = bad.parse::<Rule>().unwrap_err();
        assert!(said.contains(why), "{bad:?}: {said}");
    }
}

#[test]
fn a_share_of_enough_calls_trips() {
    for (calls, failures, trips) in [
        (9, 9, false),
        (10, 4, false),
        (10, 5, true),
        (1000, 499, false),
        (0, 0, false),
    ] {
        assert_eq!(rule().trips(of(calls, failures)), trips, "{failures} of {calls}");
    }
    assert!(rule().trips(of(u64::MAX, u64::MAX)), "without an overflow");
}

#[test]
fn a_breaker_goes_its_way() {
    let new = Record::new("https://x", 1, 2);
    assert_eq!(new.standing(Duration::ZERO), Standing::Closed);
    let open = new.opened(&rule(), of(10, 9), "http_500: x", 0.5, ME);
    assert_eq!((open.openings, open.lasts, open.since), (1, 15_000, 1_000));
    let second = Duration::from_secs(1);
    assert_eq!(open.standing(second * 5), Standing::Open(second * 10));
    assert_eq!(open.standing(second * 17), Standing::Due(second * 2));
    let later = Now {
        at: 20_000,
        by: "you",
    };
    let probing = open.claimed(second * 3, later);
    assert_eq!(probing.standing(second), Standing::Probing(second * 2));
    assert_eq!(
        probing.standing(second * 4),
        Standing::Due(second),
        "whoever has claimed it has died"
    );
    assert_eq!(probing.released(later).standing(second), Standing::Due(second));
    let again = probing.opened(&rule(), of(1, 1), "timeout", 0.5, later);
    assert_eq!(
        (again.openings, again.lasts, again.since),
        (2, 30_000, 1_000),
        "twice as long, and out of service all the time"
    );
    let closed = again.claimed(second, later).closed(later);
    assert_eq!((closed.state, closed.since), (State::Closed, 20_000));
    let soon = Now { at: 25_000, by: "me" };
    let flapping = closed.opened(&rule(), of(10, 10), "", 0.5, soon);
    assert_eq!((flapping.openings, flapping.since), (3, 25_000));
    let calm = Now {
        at: 20_000 + 3_600_000,
        by: "me",
    };
    assert_eq!(closed.opened(&rule(), of(10, 10), "", 0.5, calm).openings, 1);
}

#[test]
fn only_proof_that_it_works_goes_before_what_others_wrote() {
    let open = Record::new("x", 1, 1).opened(&rule(), of(10, 10), "", 0.0, ME);
    let probing = open.claimed(Duration::from_secs(1), ME);
    let closed = probing.closed(ME);
    assert!(closed.prevails_over(&probing));
    for (ours, theirs) in [
        (&closed, &open),
        (&open, &probing),
        (&open, &closed),
        (&probing, &closed),
    ] {
        assert!(!ours.prevails_over(theirs), "{ours:?} {theirs:?}");
    }
}

#[test]
fn records_read_as_written_and_garbage_does_not() {
    let open = Record::new("https://x", 1, 2).opened(&rule(), of(10, 9), "why", 0.5, ME);
    assert_eq!(Record::read(&open.bytes()).unwrap(), open);
    let mut long = open.clone();
    long.lasts = u64::MAX;
    assert_eq!(
        Record::read(&long.bytes()).unwrap().lasts,
        3_600_000,
        "nobody is out of service for ever"
    );
    let json = String::from_utf8(open.bytes()).unwrap();
    for bad in [
        "",
        "{}",
        "null",
        "\u{0}",
        &json.replace("\"open\"", "\"ajar\""),
        &json.replace("\"place\":1", "\"place\":3"),
        &json.replace("\"of\":2", "\"of\":0"),
        &json.replace("why", &"y".repeat(record::MAX_BYTES)),
    ] {
        assert!(Record::read(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn many_workers_with_few_failures_each_trip_together() {
    let (mut heard, now) = (Heard::default(), Instant::now());
    for n in 0..9 {
        let trips = rule().trips(heard.counts(rule().window(), now));
        assert_eq!(trips, n >= 5, "{n} workers");
        for _ in 0..3 {
            heard.hear(&format!("w{n}"), of(2, 2), now);
        }
    }
    let sum = of(2, 2) + heard.counts(rule().window(), now);
    assert_eq!(sum, of(20, 20), "each counts once, however often it tells");
    assert!(rule().trips(sum));
    let later = now + rule().window();
    assert_eq!(heard.counts(rule().window(), later), of(0, 0), "forgotten");
}

#[test]
fn a_sick_worker_does_not_take_the_upstream_from_a_healthy_fleet() {
    let (mut heard, now) = (Heard::default(), Instant::now());
    let own = of(10, 10);
    assert!(rule().trips(own), "alone it would");
    heard.hear("healthy-1", of(20, 0), now);
    heard.hear("healthy-2", of(20, 1), now);
    assert!(!rule().trips(own + heard.counts(rule().window(), now)));
}

proptest! {
    #[test]
    fn a_window_holds_what_is_recent(calls in prop::collection::vec((0_u64..5_000, any::<bool>()), 0..200)) {
        let (start, length) = (Instant::now(), Duration::from_secs(10));
        let mut window = Window::new(length, start);
        let mut made: Vec<(u64, bool)> = Vec::new();
        let mut at = 0;
        for (gap, failed) in calls {
            at += gap;
            let now = start + Duration::from_millis(at);
            window.count(failed, now);
            made.push((at, failed));
            let within = |span: u64| {
                let recent = made.iter().filter(|(then, _)| then + span > at);
                recent.fold(Counts::default(), |sum, (_, failed)| sum + of(1, u64::from(*failed)))
            };
            let (least, most, counts) = (within(9_000), within(10_000), window.counts(now));
            prop_assert!(least.calls <= counts.calls && counts.calls <= most.calls, "{least:?} {counts:?} {most:?}");
            prop_assert!(least.failures <= counts.failures && counts.failures <= most.failures);
        }
        window.clear();
        prop_assert_eq!(window.counts(start + Duration::from_millis(at)), Counts::default());
    }

    #[test]
    fn open_times_grow_spread_and_end(openings in 0_u32..100, unit in -1.0..2.0) {
        let time = rule().open_for(openings, unit);
        prop_assert!(time >= Duration::from_secs(12) && time <= Duration::from_secs(300), "{time:?}");
        prop_assert!(time <= rule().open_for(openings + 1, unit));
    }

    #[test]
    fn whatever_happens_a_probe_becomes_due(steps in prop::collection::vec((0_u8..4, 0_u64..10_000_000, 0.0..1.0), 1..40)) {
        let mut record = Record::new("x", 1, 1);
        let mut at = 0_u64;
        for (step, gap, unit) in steps {
            at += gap;
            let now = Now { at, by: "me" };
            record = match step {
                0 => record.opened(&rule(), of(10, 10), "x", unit, now),
                1 => record.claimed(Duration::from_secs(gap), now),
                2 => record.released(now),
                _ => record.closed(now),
            };
            prop_assert_eq!(&Record::read(&record.bytes()).unwrap(), &record);
            let later = record.standing(LONGEST_OPEN);
            prop_assert!(matches!(later, Standing::Closed | Standing::Due(_)), "{later:?}");
            prop_assert_eq!(record.state == State::Closed, later == Standing::Closed);
            if step == 0 {
                prop_assert!(matches!(record.standing(Duration::ZERO), Standing::Open(_)));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::read(&bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<Rule>();
    }
}
