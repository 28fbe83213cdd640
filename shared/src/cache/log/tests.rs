use std::sync::Arc;

use super::*;
use crate::cache::early::Times;
use crate::cache::key::Key;

fn key(name: &str) -> Key {
    Key::new("s", None, name).unwrap()
}

fn entry(name: &str, tags: &[&str], stamp: Stamp) -> Arc<Entry> {
    Arc::new(Entry {
        key: key(name),
        stamp,
        times: Times {
            fresh: 1,
            stale: 0,
            kept: 1,
            took: 0,
        },
        tags: tags.iter().map(|tag| Box::from(*tag)).collect(),
        etag: None,
        value: None,
        weight: 0,
        valid_at: AtomicU64::new(0),
    })
}

fn log() -> Log {
    let log = Log::new(Duration::from_secs(3));
    assert_eq!(log.attach(77, 10), 1);
    log.in_step();
    log
}

fn say(log: &Log, revision: u64, what: &What) {
    log.take(revision, &record::write(what, now()));
}

#[test]
fn what_was_asked_for_before_an_invalidation_is_invalid_and_what_is_asked_for_after_it_is_not() {
    for what in [
        What::Key(key("x")),
        What::tag("t").unwrap(),
        What::Pattern("s::x*".parse().unwrap()),
        What::Pattern("*".parse().unwrap()),
    ] {
        let log = log();
        let before = log.stamp();
        let [old, other] = [entry("x", &["t"], before), entry("y", &["u"], before)];
        assert!(log.holds(&old) && log.holds(&other));
        say(&log, 11, &what);
        // It was found valid before; and one that is only put now was never looked at.
        assert!(
            !log.holds(&old) && !log.holds(&entry("x", &["t"], before)),
            "{what:?}"
        );
        let all = matches!(&what, What::Pattern(pattern) if pattern.is_everything());
        assert_eq!(log.holds(&other), !all, "{what:?}");
        assert!(log.holds(&entry("x", &["t"], log.stamp())), "{what:?}");
        assert_eq!(
            log.may_join(&old.key.digest, before),
            matches!(what, What::Tag(_)) || (!all && matches!(what, What::Pattern(_)))
        );
    }
}

#[test]
fn what_another_process_made_without_having_heard_is_invalid() {
    let log = log();
    say(&log, 11, &What::Key(key("x")));
    let by = |seen| entry("x", &[], Stamp { seen, ..log.stamp() });
    assert!(!log.holds(&by(10)));
    assert!(log.holds(&by(11)));
    // It has heard of more than we have.
    assert!(log.holds(&by(99)));
}

#[test]
fn nothing_of_another_log_and_nothing_without_a_log_is_valid() {
    let log = log();
    let old = entry("x", &[], log.stamp());
    assert!(log.holds(&old));
    // The bucket was made anew.
    assert_eq!(log.attach(78, 0), 1);
    assert!(!log.holds(&old) && !log.is_heard());
    log.in_step();
    assert!(log.is_heard() && log.holds(&entry("x", &[], log.stamp())));
    let none = Log::new(Duration::from_secs(3));
    assert!(!none.is_heard() && !none.holds(&entry("x", &[], none.stamp())));
}

#[test]
fn a_log_that_was_set_back_counts_twice_and_is_believed_by_its_clock() {
    let log = log();
    say(&log, 20, &What::Key(key("y")));
    let old = entry("x", &[], log.stamp());
    // Restored from a backup: only 5 are left, and the next ones have numbers that were used before.
    assert_eq!(log.attach(77, 5), 1);
    log.take(6, &record::write(&What::Key(key("x")), now() + 2 * SKEW));
    assert_eq!(old.stamp.seen, 20);
    let earlier = entry(
        "x",
        &[],
        Stamp {
            asked_at: now() - SKEW,
            ..old.stamp
        },
    );
    assert!(!log.holds(&earlier));
}

#[test]
fn listening_goes_on_where_it_was_interrupted() {
    let log = log();
    say(&log, 11, &What::Key(key("x")));
    assert_eq!(log.attach(77, 15), 12);
    assert!(log.is_heard(), "what was heard a moment ago counts");
}

#[test]
fn what_cannot_be_read_is_taken_for_all() {
    let log = log();
    let old = entry("x", &[], log.stamp());
    log.take(11, b"\x00garbage");
    assert!(!log.holds(&old));
    assert!(log.holds(&entry("x", &[], log.stamp())));
}

#[test]
fn a_clock_that_is_far_ahead_makes_nothing_invalid_for_long() {
    let log = log();
    log.take(11, &record::write(&What::Key(key("x")), u64::MAX));
    let stamp = Stamp {
        asked_at: now() + 1,
        ..log.stamp()
    };
    assert!(log.holds(&entry("x", &[], stamp)));
}

#[test]
fn it_stays_bounded_and_forgets_nothing_that_matters() {
    let log = log();
    let first = log.stamp();
    let total = 2 * MANY as u64 + 1;
    for n in 0..total {
        say(&log, 11 + n, &What::tag(format!("t{n}")).unwrap());
    }
    let known = log.known.read().unwrap();
    assert!(
        known.tags.len() <= MANY + 1 && known.floor > 11,
        "{}",
        known.floor
    );
    drop(known);
    for n in [0, 1, total / 2, total - 1] {
        let tag = format!("t{n}");
        assert!(!log.holds(&entry("x", &[&tag], first)), "{tag}");
    }
    assert!(log.holds(&entry("x", &["t1"], log.stamp())));
    for n in 0..=2 * MAX_PATTERNS as u64 {
        say(
            &log,
            11 + total + n,
            &What::Pattern(format!("p{n}*").parse().unwrap()),
        );
    }
    assert!(log.known.read().unwrap().patterns.len() <= MAX_PATTERNS + 1);
}

#[test]
fn what_has_lapsed_is_forgotten() {
    let log = log();
    let long_ago = now() - REMEMBERED.as_millis() as u64 - 1;
    log.take(11, &record::write(&What::Key(key("x")), long_ago));
    log.take(12, &record::write(&What::tag("t").unwrap(), now()));
    log.change(|known| {
        known.pruned = 0;
        known.prune(now());
        assert_eq!((known.keys.len(), known.tags.len()), (0, 1));
    });
}

#[test]
fn silence_is_noticed() {
    let log = Log::new(Duration::ZERO);
    log.attach(77, 0);
    log.in_step();
    // A millisecond is more than zero.
    let end = Instant::now() + Duration::from_secs(10);
    while log.is_heard() {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
}

#[test]
fn a_fetch_is_joined_by_who_hears_nothing_only_while_it_is_young() {
    let log = Log::new(Duration::from_secs(3));
    log.attach(77, 0);
    let (key, begun) = (key("x").digest, log.stamp());
    let old = Stamp {
        asked_at: begun.asked_at - 4_000,
        ..begun
    };
    assert!(log.may_join(&key, begun) && !log.may_join(&key, old));
    log.in_step();
    assert!(log.may_join(&key, old));
}
