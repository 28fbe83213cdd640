//! Each level, and what happens when it is away or slow.

use std::time::Duration;

use loadtest::fault::proxy::{Link, Mode};
use shared::cache::{FILLS, Place, READS, Settings, UNKEPT, Wants};

use crate::world::{Fetches, Process, World, everywhere, in_redis, key, look, text, until, within};

#[tokio::test]
async fn an_answer_comes_from_the_first_level_that_has_it_and_fills_those_above() {
    let world = World::new().await;
    let (a, b) = (world.process().await, world.process().await);
    let (fetches, there, here) = (Fetches::default(), a.space(everywhere()), b.space(everywhere()));
    let got = fetches.get(&there, "x", "value").await;
    assert_eq!((got.from, text(&got)), (Place::Fetched, "value"));
    assert_eq!(fetches.get(&there, "x", "other").await.from, Place::Memory);
    until("it is in Postgres", async || a.count(FILLS, &["postgres"]) == 1).await;
    let got = fetches.get(&here, "x", "other").await;
    assert_eq!((got.from, text(&got)), (Place::Redis, "value"));
    assert_eq!(fetches.get(&here, "x", "other").await.from, Place::Memory);
    let () = redis::cmd("FLUSHALL")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    let c = world.process().await;
    let late = c.space(everywhere());
    let got = fetches.get(&late, "x", "other").await;
    assert_eq!((got.from, text(&got)), (Place::Postgres, "value"));
    until("it is in Redis again", async || {
        look(&b.space(in_redis()), "x")
            .await
            .is_some_and(|got| got.from == Place::Redis)
    })
    .await;
    assert_eq!(fetches.count(), 1);
    assert!(a.count(READS, &["memory", "hit"]) == 1 && c.count(READS, &["postgres", "hit"]) == 1);
}

/// However a level is away, and however long, nobody gets an error or waits for long; and when it is back it is used.
#[tokio::test]
async fn a_level_that_is_away_or_slow_is_a_miss() {
    let world = World::new().await;
    let process = world.process_with(Settings::default()).await;
    let space = process.space(everywhere());
    let fetches = Fetches::default();
    let slow = Link {
        delay: Duration::from_secs(2),
        ..Link::default()
    };
    let away = |mode| Link {
        mode,
        ..Link::default()
    };
    let mut fetched = 0;
    for (level, proxy) in [("redis", &process.redis), ("postgres", &process.postgres)] {
        for link in [away(Mode::Refuse), away(Mode::Hold), away(Mode::Drop), slow] {
            let missed = |p: &Process| p.count(READS, &[level, "away"]) + p.count(READS, &[level, "slow"]);
            let (before, unkept) = (missed(&process), process.count(UNKEPT, &[level]));
            proxy.set(link);
            for n in 0..20 {
                let name = format!("{level} {link:?} {n}");
                let got = fetches.get(&space, &name, "value").await;
                assert_eq!((got.from, text(&got)), (Place::Fetched, "value"), "{name}");
                assert_eq!(fetches.get(&space, &name, "other").await.from, Place::Memory);
            }
            fetched += 20;
            assert_eq!(missed(&process) - before, 20, "{level} {link:?}");
            until("nothing is put there", async || {
                process.count(UNKEPT, &[level]) - unkept >= 20
            })
            .await;
            proxy.heal();
            let fills = process.count(FILLS, &[level]);
            until("it is used again", async || {
                fetched += 1;
                let name = format!("{level} {link:?} healed {fetched}");
                fetches.get(&space, &name, "value").await;
                process.count(FILLS, &[level]) > fills
            })
            .await;
        }
    }
    assert_eq!(fetches.count(), fetched);
}

/// A level that hangs costs the first few who ask their patience and then nobody anything, however many ask.
#[tokio::test]
async fn a_level_that_hangs_is_left_alone_after_a_few() {
    let world = World::new().await;
    let process = world.process_with(Settings::default()).await;
    let space = process.space(in_redis());
    process.redis.mode(Mode::Hold);
    let all = (0..500).map(|n| {
        let space = space.clone();
        async move {
            let key = key(&space, &format!("{n}"));
            for _ in 0..20 {
                space.look(&key, Wants::default()).await;
            }
        }
    });
    within(futures_util::future::join_all(all)).await;
    let slow = process.count(READS, &["redis", "slow"]);
    let away = process.count(READS, &["redis", "away"]);
    assert_eq!(slow + away, 10_000);
    // All 500 asked at once before anybody knew.
    assert!((1..=600).contains(&slow), "{slow}");
}
