#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use super::*;
use crate::warm::access::Found;
use crate::warm::plan::Reason;
use crate::warm::predict::Prediction;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const HORIZON: u64 = 15 * MINUTE;
const NOW: u64 = 1_000 * HOUR;
const SOURCE: Source = Source::Follows;

fn candidate(key: u64) -> Candidate {
    Candidate {
        prediction: Prediction {
            key,
            source: SOURCE,
            probability: 0.8,
            support: 20,
        },
        reason: Reason::AfterAccess,
        gain_ms: 100.0,
        cached_until_ms: 0,
    }
}

fn look(key: u64, at_ms: u64, found: Found) -> Access {
    Access {
        at_ms,
        key,
        actor: None,
        repository: None,
        found,
        fetch_ms: (found == Found::Nowhere).then_some(200),
    }
}

/// Takes on `right` predictions that come true and `wrong` ones that do not, as its standing has it, and settles them.
fn run(judge: &mut Judge, from_ms: u64, right: u64, wrong: u64) {
    for key in 0..right + wrong {
        let live = judge.live(SOURCE, from_ms);
        judge.bet(&candidate(key), live, from_ms);
        if key < right {
            let found = if live { Found::Redis } else { Found::Nowhere };
            judge.look(&look(key, from_ms + MINUTE, found));
        }
    }
    judge.pass(from_ms + HORIZON);
}

#[test]
fn a_source_proves_itself_in_shadow_and_falls_silent_when_it_is_wrong() {
    let mut judge = Judge::new(HORIZON, Standing::default());
    assert!(!judge.live(SOURCE, NOW), "shadow first");
    run(&mut judge, NOW, 30, 9);
    assert!(!judge.live(SOURCE, NOW), "too little is known");
    run(&mut judge, NOW + HOUR, 1, 0);
    assert!(judge.live(SOURCE, NOW + HOUR));
    assert!(!judge.live(Source::Rhythm, NOW), "each for itself");
    run(&mut judge, NOW + 2 * HOUR, 0, 100);
    assert!(!judge.live(SOURCE, NOW + 2 * HOUR));
    run(&mut judge, NOW + 3 * HOUR, 15, 25);
    assert!(!judge.live(SOURCE, NOW + 3 * HOUR), "0.4 does not bring it back");
    run(&mut judge, NOW + 4 * HOUR, 40, 0);
    assert!(judge.live(SOURCE, NOW + 4 * HOUR), "but being right does");
}

#[test]
fn a_refusal_that_follows_warming_silences_everything_longer_each_time() {
    let mut judge = Judge::new(HORIZON, Standing::default());
    run(&mut judge, NOW, 40, 0);
    assert!(!judge.refused(NOW), "shadow makes no calls");
    let mut at = NOW + HOUR;
    for hours in [1, 2, 4, 8, 16, 32, 32] {
        judge.bet(&candidate(1), true, at);
        assert!(!judge.refused(at + BLAME_MS + 1), "too long ago to be blamed");
        assert!(judge.refused(at + 1_000));
        assert!(!judge.live(SOURCE, at + 1_000));
        run(&mut judge, at + 2_000, 80, 0);
        let until = at + 1_000 + hours * HOUR;
        assert!(
            !judge.live(SOURCE, until - 1),
            "silent, however right it would be"
        );
        assert!(judge.live(SOURCE, until));
        at = until;
    }
    let later = at + FORGIVEN_MS;
    judge.bet(&candidate(1), true, later);
    assert!(judge.refused(later));
    assert_eq!(judge.silent_until_ms(), Some(later + HOUR), "an hour again");
}

#[test]
fn what_is_neither_right_nor_wrong_does_not_count() {
    let mut judge = Judge::new(HORIZON, Standing::default());
    for key in 0..200 {
        judge.bet(&candidate(key), false, NOW);
        let (after, found) = match key % 3 {
            // It was asked for before it could have been fetched.
            0 => (TOO_LATE_MS - 1, Found::Nowhere),
            // It was in the cache.
            1 => (MINUTE, Found::Memory),
            _ => {
                judge.skipped(key);
                continue;
            }
        };
        judge.look(&look(key, NOW + after, found));
    }
    judge.pass(NOW + HORIZON);
    assert_eq!(judge.standing(), &Standing::default());
    let account = judge.account(NOW + HORIZON);
    assert_eq!((account.shadow.right, account.shadow.wrong), (0, 0));
}

#[test]
fn what_would_have_been_found_anyway_is_no_gain() {
    let mut judge = Judge::new(HORIZON, Standing::default());
    let mut refresh = candidate(1);
    refresh.cached_until_ms = NOW + MINUTE;
    judge.bet(&refresh, true, NOW);
    judge.look(&look(1, NOW + MINUTE - 1, Found::Redis));
    assert_eq!(judge.account(NOW).live.right, 0);
    judge.look(&look(1, NOW + MINUTE, Found::Redis));
    let account = judge.account(NOW);
    assert_eq!(account.live.right, 1);
    assert_eq!(account.live.mean_lead_ms(), Some(MINUTE));
    assert_eq!(account.hit_gain(), Some(0.5));
    assert_eq!(account.coverage(), Some(1.0));
    assert_eq!(judge.account(NOW + 25 * HOUR), Account::default());
}

#[test]
fn what_was_warmed_and_lost_was_a_call_for_nothing() {
    let mut judge = Judge::new(HORIZON, Standing::default());
    judge.bet(&candidate(1), true, NOW);
    judge.look(&look(1, NOW + MINUTE, Found::Nowhere));
    assert_eq!(judge.account(NOW).live.wrong, 1);
}

#[test]
fn open_predictions_are_bounded_even_when_the_clock_was_wrong() {
    let mut judge = Judge::new(HORIZON, Standing::default());
    for key in 0..MOST_OPEN as u64 {
        assert!(judge.free(key));
        judge.bet(&candidate(key), false, NOW + 1_000 * HOUR);
    }
    assert!(!judge.free(u64::MAX));
    judge.pass(NOW);
    assert!(judge.free(u64::MAX));
    assert_eq!(judge.standing(), &Standing::default());
}

#[test]
fn its_standing_outlives_it() {
    let mut judge = Judge::new(HORIZON, Standing::default());
    run(&mut judge, NOW, 40, 0);
    let kept = serde_json::to_vec(judge.standing()).unwrap();
    assert!(kept.len() < 512, "{}", kept.len());
    let next = Judge::new(HORIZON, serde_json::from_slice(&kept).unwrap());
    assert!(next.live(SOURCE, NOW));
    assert_eq!(next.standing(), judge.standing());
}
