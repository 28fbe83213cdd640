//! Warming on made-up look-ups, shorter than those of `docs/warming.md`, and what holds whatever comes in.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

#[path = "../examples/warm/cache.rs"]
mod cache;
#[path = "../examples/warm/random.rs"]
mod random;
#[path = "../examples/warm/trace.rs"]
mod trace;

use std::collections::HashSet;

use cache::{Outcome, play};
use proptest::prelude::*;
use scheduler::warm::access::{Access, Found, plausible};
use scheduler::warm::judge::STOP;
use scheduler::warm::learn::Bounds;
use scheduler::warm::plan::Verdict;
use scheduler::warm::predict::Source;
use scheduler::warm::{Settings, Warmer};
use trace::{Company, DAY, Look, MINUTE, START};

const DAYS: u64 = 14;
const TTL: u64 = 15 * MINUTE;
const COMPANY: Company = Company {
    days: DAYS,
    people: 8,
    repositories: 10,
};

fn settings(sources: &[Source]) -> Settings {
    Settings {
        sources: sources.to_vec(),
        ..Settings::new(TTL)
    }
}

fn measured(looks: &[Look], settings: Option<Settings>) -> (Outcome, Option<Warmer>) {
    play(looks, TTL, settings, START + (DAYS - 4) * DAY)
}

#[test]
fn warming_adds_hits_and_all_sources_add_more_than_frequency() {
    let looks = COMPANY.looks(1);
    let (off, _) = measured(&looks, None);
    let (frequency, _) = measured(&looks, Some(settings(&[Source::Frequency])));
    let (all, warmer) = measured(&looks, Some(settings(&Source::ALL)));
    assert!(
        frequency.hit_rate() > off.hit_rate() + 0.01,
        "{frequency:?} {off:?}"
    );
    assert!(all.hit_rate() > frequency.hit_rate(), "{all:?} {frequency:?}");
    for outcome in [&frequency, &all] {
        assert!(outcome.precision().unwrap() > 0.8, "{outcome:?}");
        let most = outcome.calls / 20 + u64::from(settings(&[]).saved);
        assert!(outcome.warmed <= most, "{outcome:?}");
    }
    assert!(all.coverage() > 0.02, "{all:?}");
    // What the judge knows of the last day is what happened.
    let account = warmer.unwrap().judge().account(START + DAYS * DAY);
    assert!(account.live.precision().unwrap() > 0.8, "{account:?}");
    assert!(account.hit_gain().unwrap() > 0.01, "{account:?}");
}

#[test]
fn it_is_silent_where_there_is_nothing_to_know() {
    for looks in [trace::random(1, DAYS, 5_000), trace::bursts(1, DAYS, 5_000)] {
        let (outcome, warmer) = measured(&looks, Some(settings(&Source::ALL)));
        assert_eq!(outcome.warmed, 0, "{outcome:?}");
        let warmer = warmer.unwrap();
        for source in Source::ALL {
            let record = warmer.judge().record(source);
            assert!(!record.live(), "{}", source.as_str());
            assert!(
                record.precision().is_none_or(|precision| precision < STOP),
                "{record:?}"
            );
        }
    }
}

#[test]
fn it_falls_silent_when_what_it_knew_is_no_longer_true() {
    let (company, bursts) = (COMPANY.looks(1), trace::bursts(1, DAYS, 20_000));
    let looks = trace::turning(&company, &bursts, DAYS - 2);
    let generous = Settings {
        share_permille: 500,
        ..settings(&Source::ALL)
    };
    let (outcome, warmer) = measured(&looks, Some(generous));
    let warmer = warmer.unwrap();
    assert!(outcome.by_source[&Source::Frequency].0 > 0, "it was live before");
    assert!(!warmer.judge().record(Source::Frequency).live());
    let last_day = warmer.judge().account(START + DAYS * DAY);
    assert_eq!(last_day.live.right + last_day.live.wrong, 0, "{last_day:?}");
    assert!(last_day.shadow.wrong > 40, "{last_day:?}");
}

#[test]
fn a_new_leader_that_read_the_log_plans_what_the_old_one_would() {
    let company = Company { days: 11, ..COMPANY };
    let looks = company.looks(2);
    let (_, old) = measured(&looks, Some(settings(&Source::ALL)));
    let old = old.unwrap();
    let now = looks.last().unwrap().at_ms;
    let mut new = Warmer::new(settings(&Source::ALL), Some(old.judge().standing().clone()));
    let log = looks.iter().map(|look| Access {
        at_ms: look.at_ms,
        key: look.key,
        actor: Some(look.actor),
        repository: Some(look.repository),
        found: Found::Nowhere,
        fetch_ms: Some(look.fetch_ms()),
    });
    assert_eq!(new.replay(log, now), 0);
    assert_eq!(new.model().size(), old.model().size());
    let keys: HashSet<u64> = looks.iter().map(|look| look.key).collect();
    for key in keys {
        let said = |warmer: &Warmer| -> Vec<_> {
            let said = warmer.explain(key, now).into_iter();
            said.map(|(prediction, _)| prediction).collect()
        };
        assert_eq!(said(&new), said(&old));
    }
}

#[test]
fn at_the_start_everything_that_is_worth_it_is_fetched() {
    let mut warmer = Warmer::new(settings(&[Source::Frequency]), live());
    let now = START + 10 * DAY;
    let log = || (0..400).map(|step| access(step % 20, now - 8_000_000 + step * 20_000));
    assert_eq!(warmer.replay(log(), now), 0);
    assert_eq!(warmer.calls_left(), 21);
    assert!(warmer.round(now, true).is_empty(), "all of it is in the cache");
    warmer.lost();
    assert!(warmer.round(now, false).is_empty(), "not allowed");
    let mut warmer_again = Warmer::new(settings(&[Source::Frequency]), live());
    warmer_again.replay(log(), now);
    warmer_again.lost();
    let plan = warmer_again.round(now, true);
    assert!(!plan.is_empty());
    assert!(plan.iter().all(|warm| warm.reason.as_str() == "start"));
    let left = warmer_again.calls_left();
    for warm in &plan {
        warmer_again.skipped(warm.key);
        warmer_again.skipped(warm.key);
    }
    assert_eq!(
        warmer_again.calls_left(),
        left + plan.len() as u64,
        "given back once"
    );
}

#[test]
fn a_cache_whose_entries_are_gone_counts_as_lost() {
    let now = START + 10 * DAY;
    let log = || (0..400).map(|step| access(step % 20, now - 8_000_000 + step * 20_000));
    for (missed, lost) in [(19, false), (25, true)] {
        let mut warmer = Warmer::new(settings(&[Source::Frequency]), live());
        warmer.replay(log(), now);
        assert!(warmer.round(now, true).is_empty(), "all of it is in the cache");
        for key in 0..40 {
            let mut look = access(key % 20, now + key);
            if key >= missed {
                (look.found, look.fetch_ms) = (Found::Redis, None);
            }
            warmer.observe(&look, now + 1_000);
        }
        let plan = warmer.round(now + 1_000, true);
        assert_eq!(!plan.is_empty(), lost, "{missed} of 40");
    }
}

/// A standing in which every source is live.
fn live() -> Option<scheduler::warm::judge::Standing> {
    let record = r#"{"right":0,"known":0,"live":true}"#;
    let standing = format!(r#"{{"records":[{record},{record},{record}],"refused_ms":null,"doublings":0}}"#);
    serde_json::from_str(&standing).unwrap()
}

fn access(key: u64, at_ms: u64) -> Access {
    Access {
        at_ms,
        key,
        actor: Some(key % 3),
        repository: None,
        found: Found::Nowhere,
        fetch_ms: Some(300),
    }
}

#[test]
fn a_million_keys_push_out_nothing_that_is_asked_for_daily() {
    let bounds = Bounds {
        keys: 2_000,
        trails: 200,
    };
    let mut warmer = Warmer::new(
        Settings {
            bounds,
            ..Settings::new(TTL)
        },
        None,
    );
    let now = START + 15 * DAY;
    for day in 0..14 {
        for key in 0..100 {
            warmer.observe(&access(key, START + day * DAY + key * MINUTE), now);
        }
    }
    for key in 1_000..1_001_000 {
        let flood = Access {
            actor: Some(key),
            ..access(key, START + 14 * DAY + key)
        };
        warmer.observe(&flood, now);
    }
    let (keys, trails) = warmer.model().size();
    assert!(keys <= bounds.keys && trails <= bounds.trails, "{keys} {trails}");
    for key in 0..100 {
        assert_eq!(warmer.model().known(key).unwrap().seen, 14);
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    Access(Access),
    After,
    Round,
    Skipped(u64),
    Refused,
    Lost,
}

fn times() -> impl Strategy<Value = u64> {
    prop_oneof![8 => START..START + DAY, 1 => Just(0), 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn events() -> impl Strategy<Value = Event> {
    let found = prop_oneof![
        Just(Found::Nowhere),
        Just(Found::Redis),
        Just(Found::Memory),
        Just(Found::Unasked)
    ];
    let ids = prop_oneof![4 => 0_u64..12, 1 => any::<u64>()];
    let access = (
        times(),
        ids,
        prop::option::of(0_u64..3),
        prop::option::of(0_u64..3),
        found,
        prop::option::of(any::<u32>()),
    );
    let access = access.prop_map(|(at_ms, key, actor, repository, found, fetch_ms)| {
        Event::Access(Access {
            at_ms,
            key,
            actor,
            repository,
            found,
            fetch_ms,
        })
    });
    prop_oneof![
        30 => access,
        2 => Just(Event::After),
        2 => Just(Event::Round),
        1 => (0_u64..12).prop_map(Event::Skipped),
        1 => Just(Event::Refused),
        1 => Just(Event::Lost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_comes_in_bounds_hold(events in prop::collection::vec((events(), times()), 0..1_000)) {
        let bounds = Bounds { keys: 16, trails: 4 };
        let settings = Settings { bounds, most: 7, share_permille: 200, ..Settings::new(TTL) };
        let mut warmer = Warmer::new(settings.clone(), live());
        let (mut needed, mut warmed, mut given_back) = (0_u64, 0_u64, 0_u64);
        for (event, now) in events {
            let plan = match event {
                Event::Access(access) => {
                    let learnt = warmer.observe(&access, now);
                    prop_assert_eq!(learnt, plausible(&access, now));
                    let asked = learnt && access.found != Found::Unasked;
                    needed += u64::from(asked && access.fetch_ms.is_some());
                    for (prediction, verdict) in warmer.explain(access.key, now) {
                        prop_assert!((0.0..=1.0).contains(&prediction.probability), "{:?}", prediction);
                        if let Verdict::Worth(candidate) = verdict {
                            prop_assert!(candidate.gain_ms > 0.0 && candidate.gain_ms.is_finite());
                        }
                    }
                    Vec::new()
                }
                Event::After => warmer.after(now, true),
                Event::Round => warmer.round(now, true),
                Event::Skipped(key) => {
                    let before = warmer.calls_left();
                    warmer.skipped(key);
                    given_back += warmer.calls_left() - before;
                    Vec::new()
                }
                Event::Refused => {
                    warmer.refused(now);
                    Vec::new()
                }
                Event::Lost => {
                    warmer.lost();
                    Vec::new()
                }
            };
            prop_assert!(plan.len() <= settings.most);
            let distinct: HashSet<u64> = plan.iter().map(|warm| warm.key).collect();
            prop_assert_eq!(distinct.len(), plan.len());
            prop_assert!(plan.iter().all(|warm| warm.probability >= 0.5));
            warmed += plan.len() as u64;
            let made = warmed - given_back;
            prop_assert!(made * 1_000 <= 200 * (needed + made), "{} of {}", made, needed + made);
            let (keys, trails) = warmer.model().size();
            prop_assert!(keys <= bounds.keys && trails <= bounds.trails);
        }
    }
}
