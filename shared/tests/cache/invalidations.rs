//! What is invalid is used nowhere, whoever says so, whoever put it, and whoever cannot hear it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use loadtest::fault::proxy::Mode;
use shared::cache::{
    Fetched, Fresh, INTERRUPTED, InvalidateError, Invalidations, MAX_PATTERNS, Place, READS, Settings, Wants,
    What,
};
use shared::config::fleet::Streams;
use shared::subject::CACHE_BUCKET;
use tokio::sync::Notify;

use crate::world::{Fetches, World, everywhere, in_redis, key, look, text, until, within};

fn tagged(value: &str) -> Fetched<String> {
    Fetched::Fresh(Fresh {
        tags: vec!["repo:octo/repo".into()],
        ..value.to_owned().into()
    })
}

fn pattern(text: &str) -> What {
    What::Pattern(text.parse().unwrap())
}

#[tokio::test]
async fn two_processes_hear_of_a_key_a_tag_and_a_pattern_within_a_second() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let (there, here) = (a.space(everywhere()), b.space(everywhere()));
    let fetches = Fetches::default();
    for (name, what) in [
        ("key", What::Key(key(&there, "key"))),
        ("tag", What::tag("repo:octo/repo").unwrap()),
        ("pattern", pattern("texts::patt*")),
        ("everything", pattern("*")),
    ] {
        for value in ["old", "new"] {
            // Each of the two has both in its memory.
            for space in [&there, &here] {
                let got = fetches.find(space, name, Wants::default(), tagged(value)).await;
                assert_eq!(text(&got), value, "{name}");
                fetches.get(space, "bystander", "other").await;
                assert_eq!(look(space, name).await.unwrap().from, Place::Memory);
                until("it is in Redis", async || {
                    look(&b.space(in_redis()), name).await.is_some()
                })
                .await;
            }
            if value == "old" {
                within(a.levels.invalidate(&what)).await.unwrap();
                assert!(
                    look(&there, name).await.is_none(),
                    "{name}: whoever says it knows it"
                );
                let took = until("it is heard", async || look(&here, name).await.is_none()).await;
                assert!(took < Duration::from_secs(1), "{name}: {took:?}");
                let untouched = look(&here, "bystander").await.is_some();
                assert_eq!(untouched, name != "everything", "{name}");
            }
        }
    }
    // One that was not there to hear it.
    within(a.levels.invalidate(&What::Key(key(&there, "key"))))
        .await
        .unwrap();
    let last = world.process().await;
    let late = last.space(everywhere());
    assert!(look(&late, "key").await.is_none());
    assert!(look(&late, "everything").await.is_some());
}

#[tokio::test]
async fn what_was_asked_for_before_and_put_after_is_used_nowhere() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let (there, here) = (a.space(everywhere()), b.space(everywhere()));
    for (name, what) in [
        ("key", What::Key(key(&there, "key"))),
        ("tag", What::tag("repo:octo/repo").unwrap()),
        ("pattern", pattern("texts::patt*")),
    ] {
        let (fetches, go) = (Fetches::default(), Arc::new(Notify::new()));
        let slowly = {
            let go = Arc::clone(&go);
            move |_| async move {
                go.notified().await;
                Ok(tagged("old"))
            }
        };
        let before = {
            let (fetches, there) = (fetches.clone(), there.clone());
            tokio::spawn(async move { fetches.with(&there, name, Wants::default(), slowly).await })
        };
        until("it has begun", async || fetches.count() == 1).await;
        // Each says it in turn: where the fetch is, and elsewhere.
        let sayer = if name == "tag" { &b } else { &a };
        within(sayer.levels.invalidate(&what)).await.unwrap();
        until("it is heard", async || {
            within(there.look(&key(&there, "nothing"), Wants::default())).await;
            a.count(READS, &[]) > 0
        })
        .await;
        let after = {
            let (fetches, there) = (fetches.clone(), there.clone());
            tokio::spawn(async move { fetches.find(&there, name, Wants::default(), tagged("new")).await })
        };
        if name == "key" {
            // Of the key it is known at once that the fetch under way will not do.
            assert_eq!(text(&within(after).await.unwrap()), "new");
            go.notify_one();
        } else {
            go.notify_one();
            assert_eq!(text(&within(after).await.unwrap()), "new", "{name}");
        }
        // Who asked before gets what was there before.
        let got = within(before).await.unwrap().unwrap();
        assert_eq!(text(&got), "old");
        for space in [&there, &here] {
            let seen = look(space, name).await;
            assert!(seen.is_none_or(|got| text(&got) == "new"), "{name}");
        }
        until("the new one is in Redis", async || {
            look(&b.space(in_redis()), name)
                .await
                .is_some_and(|got| text(&got) == "new")
        })
        .await;
        // And when it is put by itself, in whatever order.
        let stamp = there.stamp();
        within(b.levels.invalidate(&what)).await.unwrap();
        let key = key(&there, name);
        within(there.put(&key, stamp, tagged("older"), None))
            .await
            .unwrap();
        for space in [&there, &here] {
            assert!(look(space, name).await.is_none(), "{name}");
        }
    }
}

/// A process that cannot hear uses nothing, and when it hears again it knows what it missed.
#[tokio::test]
async fn a_process_that_is_cut_off_from_nats_gives_nothing_stale() {
    let world = World::new().await;
    let a = world.process().await;
    let b = world.process_with(Settings::default()).await;
    let (there, here) = (a.space(everywhere()), b.space(everywhere()));
    let fetches = Fetches::default();
    for mode in [Mode::Hold, Mode::Drop, Mode::Refuse] {
        let (name, kept) = (format!("{mode:?}"), format!("{mode:?} kept"));
        for name in [&name, &kept] {
            fetches.get(&there, name, "old").await;
            until("it is in Redis", async || look(&here, name).await.is_some()).await;
        }
        b.nats.mode(mode);
        let said = tokio::time::Instant::now();
        within(a.levels.invalidate(&What::Key(key(&there, &name))))
            .await
            .unwrap();
        until("it is deaf", async || !b.levels.is_heard()).await;
        assert!(said.elapsed() < Duration::from_secs(5), "{:?}", said.elapsed());
        for name in [&name, &kept] {
            assert!(look(&here, name).await.is_none(), "{mode:?}");
        }
        // All it can do is to ask; and what it is told it tells nobody else as if it were sure.
        let got = fetches.get(&here, &name, "newer").await;
        assert_eq!((got.from, text(&got)), (Place::Fetched, "newer"));
        assert!(b.count(READS, &["deaf"]) > 0);
        // It cannot say that something is invalid either, and says so.
        if mode == Mode::Refuse {
            let said = within(b.levels.invalidate(&What::Key(key(&here, &kept)))).await;
            assert!(said.is_err());
        }
        b.nats.heal();
        within(b.levels.heard()).await;
        assert!(look(&here, &kept).await.is_some(), "{mode:?}");
        assert!(
            look(&here, &name).await.is_none_or(|got| text(&got) == "newer"),
            "{mode:?}"
        );
    }
    assert!(b.count(INTERRUPTED, &[]) >= 3);
}

#[tokio::test]
async fn a_log_that_was_lost_takes_all_entries_with_it() {
    let world = World::new().await;
    let process = world.process().await;
    let (space, fetches) = (process.space(everywhere()), Fetches::default());
    fetches.get(&space, "x", "old").await;
    until("it is in Postgres", async || {
        process.count(shared::cache::FILLS, &["postgres"]) == 1
    })
    .await;
    world.js.delete_key_value(CACHE_BUCKET).await.unwrap();
    until("all is a miss", async || look(&space, "x").await.is_none()).await;
    // The bucket is made again, and it is another one.
    until("it is kept again", async || {
        fetches.get(&space, "x", "new").await;
        look(&space, "x").await.is_some()
    })
    .await;
    assert_eq!(text(&look(&space, "x").await.unwrap()), "new");
}

#[tokio::test]
async fn what_somebody_else_wrote_into_the_bucket_is_taken_for_all() {
    let world = World::new().await;
    let process = world.process().await;
    let (space, fetches) = (process.space(everywhere()), Fetches::default());
    let bucket = world.js.get_key_value(CACHE_BUCKET).await.unwrap();
    for rubbish in ["", "{}", r#"{"kind":"moon","what":"x","at":1}"#, "\u{0}\u{1}"] {
        fetches.get(&space, "x", "value").await;
        assert!(look(&space, "x").await.is_some());
        bucket.put("x.y", rubbish.to_owned().into()).await.unwrap();
        until("all is a miss", async || look(&space, "x").await.is_none()).await;
        assert!(process.levels.is_heard());
    }
}

#[tokio::test]
async fn patterns_are_bounded_and_it_is_told() {
    let world = World::new().await;
    let process = world.process().await;
    for n in 0..MAX_PATTERNS {
        within(process.levels.invalidate(&pattern(&format!("texts::p{n}*"))))
            .await
            .unwrap();
    }
    let more = within(process.levels.invalidate(&pattern("texts::q*"))).await;
    assert!(matches!(more, Err(InvalidateError::Patterns)));
    for fine in ["texts::p7*", "*"] {
        within(process.levels.invalidate(&pattern(fine))).await.unwrap();
    }
    within(process.levels.invalidate(&What::tag("t").unwrap()))
        .await
        .unwrap();
}

/// However many are said, a bounded number is remembered, and no entry is used that any of them named.
#[tokio::test]
async fn a_flood_of_invalidations_is_folded() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let (space, fetches) = (a.space(everywhere()), Fetches::default());
    let tags = |n: u32| {
        Fetched::Fresh(Fresh {
            tags: vec![format!("t{n}")],
            .."old".to_owned().into()
        })
    };
    for n in [0, 1, 49_999] {
        fetches
            .find(&space, &format!("{n}"), Wants::default(), tags(n))
            .await;
    }
    let said = Invalidations::new(world.js.clone(), Streams::default());
    let all = stream::iter(0..50_600_u32).map(|n| {
        let said = &said;
        async move { said.publish(&What::tag(format!("t{n}")).unwrap()).await.unwrap() }
    });
    all.buffer_unordered(256).for_each(|_| async {}).await;
    let left = said.count().await.unwrap();
    assert!(left < 40_000, "{left}");
    let late = world.process().await;
    for process in [&a, &b, &late] {
        let space = process.space(everywhere());
        for n in [0, 1, 49_999] {
            let name = format!("{n}");
            until("it is invalid", async || look(&space, &name).await.is_none()).await;
        }
    }
    fetches.get(&space, "x", "new").await;
    assert!(look(&space, "x").await.is_some());
}

/// A webhook says that something is different now: what was asked for before is not what it wants.
#[tokio::test]
async fn who_wants_what_is_younger_than_an_event_gets_nothing_older() {
    let world = World::new().await;
    let process = world.process().await;
    let (space, fetches) = (process.space(everywhere()), Fetches::default());
    fetches.get(&space, "x", "old").await;
    let wants = Wants {
        not_before: Some(SystemTime::now()),
        ..Wants::default()
    };
    let got = fetches.find(&space, "x", wants, tagged("new")).await;
    assert_eq!(text(&got), "new");
    // For everybody else it is good enough.
    assert_eq!(text(&look(&space, "x").await.unwrap()), "new");
    let long_ago = Wants {
        not_before: Some(SystemTime::now() - Duration::from_secs(3600)),
        max_age: Some(Duration::from_secs(60)),
    };
    assert_eq!(
        fetches.find(&space, "x", long_ago, tagged("newer")).await.from,
        Place::Memory
    );
    let never = Wants {
        max_age: Some(Duration::ZERO),
        ..Wants::default()
    };
    assert_eq!(
        fetches.find(&space, "x", never, tagged("newest")).await.from,
        Place::Fetched
    );
}
