#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use shared::breaker::State;

use super::*;

fn breaker() -> Breaker {
    let rule = "50% of 10 in 30s, open 15s".parse().unwrap();
    let unused = Record::new("https://x", 1, 1);
    Breaker::new(rule, "me", "http", unused, BreakerMetrics::default())
}

fn fails() -> Outcome {
    Outcome::Fails("http_500: x".into())
}

fn tally(worker: &str, calls: u64, failures: u64) -> Tally {
    Tally {
        key: "http.x".into(),
        worker: worker.into(),
        counts: Counts { calls, failures },
        ask: false,
    }
}

/// Opens it; gives the moment.
fn open(breaker: &Breaker) -> Instant {
    let now = Instant::now();
    for _ in 0..10 {
        breaker.report(breaker.version(), fails(), now);
    }
    let later = now + HEAR;
    assert!(breaker.settle(later));
    later
}

fn found(revision: u64, record: Record) -> Found {
    let record = Some(Ok(record));
    Found { revision, record }
}

/// A look that began so much later that whatever it finds holds.
fn late() -> Instant {
    Instant::now() + SETTLED * 2
}

#[test]
fn enough_failures_hold_calls_until_the_others_have_told_how_they_fare() {
    let (breaker, now) = (breaker(), Instant::now());
    let version = breaker.version();
    for n in 0..9 {
        assert!(breaker.report(version, fails(), now));
        assert_eq!(breaker.standing(now), Standing::Closed, "{n}");
    }
    assert_eq!(
        breaker.to_tell(now),
        Some((
            Counts {
                calls: 9,
                failures: 9
            },
            false
        ))
    );
    breaker.report(version, Outcome::Nothing, now);
    assert_eq!(breaker.standing(now), Standing::Closed, "a limit is no failure");
    breaker.report(version, fails(), now);
    assert_eq!(breaker.standing(now), Standing::Open(HEAR));
    let (counts, ask) = breaker.to_tell(now).unwrap();
    assert_eq!((counts.failures, ask), (10, true), "at once, though just told");
    assert!(!breaker.settle(now + HEAR / 2));
    assert!(breaker.settle(now + HEAR), "nobody has told of better");
    assert!(matches!(breaker.standing(now + HEAR), Standing::Open(left) if left > HEAR));
    assert!(
        !breaker.report(version, fails(), now + HEAR),
        "what began before says nothing any more"
    );
}

#[test]
fn a_healthy_fleet_keeps_it_closed() {
    let (breaker, now) = (breaker(), Instant::now());
    for _ in 0..10 {
        breaker.report(breaker.version(), fails(), now);
    }
    assert_eq!(breaker.standing(now), Standing::Open(HEAR));
    breaker.hear(&tally("a", 30, 0), now);
    assert!(!breaker.settle(now + HEAR));
    let later = now + HEAR;
    assert_eq!(breaker.standing(later), Standing::Closed);
    breaker.report(breaker.version(), fails(), later);
    assert_eq!(breaker.standing(later), Standing::Closed, "not held all the time");
}

#[test]
fn few_failures_of_many_workers_open_it_together() {
    let (breaker, now) = (breaker(), Instant::now());
    for n in 0..4 {
        breaker.hear(&tally(&format!("w{n}"), 2, 2), now);
        breaker.report(breaker.version(), Outcome::Works, now);
    }
    assert_eq!(
        breaker.standing(now),
        Standing::Closed,
        "calls from here all succeed"
    );
    breaker.report(breaker.version(), fails(), now);
    assert_eq!(breaker.standing(now), Standing::Open(HEAR), "9 of 13 failed");
}

#[test]
fn one_probe_closes_it_or_opens_it_for_longer() {
    let breaker = breaker();
    let opened = open(&breaker);
    let due = opened + Duration::from_secs(18);
    assert!(breaker.claim(Duration::from_secs(5), opened).is_none(), "not yet");
    let claim = breaker.claim(Duration::from_secs(5), due).unwrap();
    let version = breaker.claimed(claim, Some(2), due).unwrap();
    assert!(
        breaker.claim(Duration::from_secs(5), due).is_none(),
        "one at a time"
    );
    assert!(matches!(breaker.standing(due), Standing::Probing(_)));
    breaker.probed(version, &fails(), due);
    let Standing::Open(left) = breaker.standing(due) else {
        panic!("{:?}", breaker.standing(due))
    };
    assert!(
        left >= Duration::from_secs(24),
        "twice 15 s, less a fifth: {left:?}"
    );
    assert_eq!(breaker.unsaved().unwrap().0.openings, 2);

    let due = due + left;
    let lost = breaker.claim(Duration::from_secs(5), due).unwrap();
    let lost = breaker.claimed(lost, Some(4), due).unwrap();
    let expired = due + Duration::from_secs(5);
    assert!(
        matches!(breaker.standing(expired), Standing::Due(_)),
        "whoever made it has died"
    );
    let claim = breaker.claim(Duration::from_secs(5), expired).unwrap();
    let version = breaker.claimed(claim, Some(5), expired).unwrap();
    breaker.probed(lost, &fails(), expired);
    assert!(
        matches!(breaker.standing(expired), Standing::Probing(_)),
        "a claim that was lost opens nothing"
    );
    breaker.probed(version, &Outcome::Nothing, expired);
    assert!(
        matches!(breaker.standing(expired), Standing::Due(_)),
        "due again at once"
    );
    let claim = breaker.claim(Duration::from_secs(5), expired).unwrap();
    let version = breaker.claimed(claim, None, expired).unwrap();
    breaker.probed(version, &Outcome::Works, expired);
    assert_eq!(breaker.standing(expired), Standing::Closed);
}

#[test]
fn what_the_bucket_says_holds_unless_it_is_old() {
    let breaker = breaker();
    let rule: Rule = "50% of 10 in 30s, open 15s".parse().unwrap();
    let now = Now {
        at: millis(SystemTime::now()),
        by: "other",
    };
    let open = Record::new("https://x", 1, 1).opened(&rule, Counts::default(), "why", 0.5, now);
    assert!(breaker.take_in(Some(found(7, open.clone())), Instant::now()));
    assert!(!breaker.take_in(Some(found(7, open.clone())), late()), "no news");
    assert!(matches!(
        breaker.standing(Instant::now()),
        Standing::Open(left) if left > Duration::from_secs(10)
    ));
    let closed = open.closed(now);
    assert!(
        !breaker.take_in(Some(found(3, closed.clone())), Instant::now()),
        "a look that is behind"
    );
    assert!(
        breaker.take_in(Some(found(3, closed)), late()),
        "a bucket that was made anew"
    );
    assert_eq!(breaker.standing(Instant::now()), Standing::Closed);
    let old = Record {
        at: 0,
        ..open.clone()
    };
    assert!(breaker.take_in(Some(found(8, old)), Instant::now()));
    assert!(
        matches!(breaker.standing(Instant::now()), Standing::Open(_)),
        "clocks that are apart by years"
    );
    assert!(breaker.take_in(None, late()), "the bucket is gone");
    assert_eq!(breaker.standing(Instant::now()), Standing::Closed);
    assert!(breaker.take_in(Some(found(9, open)), Instant::now()));
    let garbage = Found {
        revision: 10,
        record: Some(Record::read(b"\xff")),
    };
    assert!(breaker.take_in(Some(garbage), Instant::now()));
    assert_eq!(breaker.standing(Instant::now()), Standing::Closed);
}

#[test]
fn of_two_who_write_at_once_the_other_holds_but_for_proof_that_it_works() {
    let breaker = breaker();
    let opened = open(&breaker);
    let (ours, revision, _) = breaker.unsaved().unwrap();
    assert_eq!((ours.state, revision), (State::Open, 0));
    let now = Now {
        at: millis(SystemTime::now()),
        by: "other",
    };
    let theirs = ours.claimed(Duration::from_secs(9), now);
    assert!(breaker.take_in(Some(found(1, theirs.clone())), Instant::now()));
    assert!(breaker.unsaved().is_none());
    let due = opened + Duration::from_secs(60);
    let claim = breaker.claim(Duration::from_secs(5), due).unwrap();
    let version = breaker.claimed(claim, Some(2), due).unwrap();
    breaker.probed(version, &Outcome::Works, due);
    assert!(breaker.take_in(Some(found(3, theirs)), Instant::now()));
    assert_eq!(breaker.standing(due), Standing::Closed);
    let (ours, revision, version) = breaker.unsaved().unwrap();
    assert_eq!(
        (ours.state, revision),
        (State::Closed, 3),
        "to be written over theirs"
    );
    breaker.saved(version, 4);
    assert!(breaker.unsaved().is_none());
}
