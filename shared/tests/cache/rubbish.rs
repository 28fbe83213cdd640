//! What does not belong into the levels, and how much fits.

use std::time::Duration;

use redis::AsyncCommands;
use shared::cache::{
    EVICTIONS, FILLS, Fetched, Fresh, Options, Place, READS, Settings, UNKEPT, Wants, redis_size,
};

use crate::world::{Fetches, World, everywhere, in_redis, key, look, patient, place, text, until, within};

fn in_postgres() -> Options<String> {
    Options {
        memory: Duration::ZERO,
        redis: Duration::ZERO,
        postgres: Duration::from_secs(3600),
        ..Options::default()
    }
}

#[tokio::test]
async fn garbage_and_other_versions_are_misses_and_are_replaced() {
    let world = World::new().await;
    let process = world.process().await;
    let (fetches, mut redis) = (Fetches::default(), world.redis.clone());
    let (space, below) = (process.space(in_redis()), process.space(in_postgres()));
    fetches.get(&space, "good", "value").await;
    until("it is in Redis", async || look(&space, "good").await.is_some()).await;
    let good: Vec<u8> = redis.get(place(&key(&space, "good"))).await.unwrap();
    let mut older = good.clone();
    older[0] = 0;
    let mut lie = good.clone();
    lie[9] = 1;
    let mut half = good.clone();
    half.truncate(good.len() / 2);
    for (n, bytes) in [
        Vec::new(),
        b"rubbish".to_vec(),
        vec![0xC1; 5000],
        vec![1; 5000],
        older,
        lie,
        half,
        good,
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{n}");
        let key = key(&space, &name);
        let () = redis.set(place(&key), &bytes).await.unwrap();
        sqlx::query("INSERT INTO cache_entries VALUES ($1, 0, now() + interval '1 hour', $2)")
            .bind(hex::decode(place(&key).rsplit(':').next().unwrap()).unwrap())
            .bind(&bytes)
            .execute(&world.pool)
            .await
            .unwrap();
        for (space, level, from) in [
            (&space, "redis", Place::Redis),
            (&below, "postgres", Place::Postgres),
        ] {
            let before = process.count(READS, &[level, "undecodable"]);
            let got = fetches.get(space, &name, "value").await;
            assert_eq!((got.from, text(&got)), (Place::Fetched, "value"), "{level} {n}");
            assert_eq!(
                process.count(READS, &[level, "undecodable"]) - before,
                1,
                "{level} {n}"
            );
            until("it is replaced", async || {
                look(space, &name).await.is_some_and(|got| got.from == from)
            })
            .await;
        }
    }
    // The same values in another version.
    let newer = process.space(Options {
        version: 2,
        ..in_redis()
    });
    assert_eq!(text(&fetches.get(&newer, "good", "new").await), "new");
    until("it is replaced", async || look(&newer, "good").await.is_some()).await;
    // A list in the place of an entry is an error of Redis, and no error of ours.
    let wrong = place(&key(&space, "list"));
    let () = redis.rpush(&wrong, "x").await.unwrap();
    assert_eq!(text(&fetches.get(&space, "list", "value").await), "value");
}

#[tokio::test]
async fn what_is_huge_is_given_and_not_kept() {
    let world = World::new().await;
    let process = world.process().await;
    let (space, fetches) = (process.space(everywhere()), Fetches::default());
    let huge = "x".repeat((1 << 20) + 1);
    for n in 1..=2 {
        let got = fetches.get(&space, "x", &huge).await;
        assert_eq!((text(&got).len(), fetches.count()), (huge.len(), n));
    }
    assert_eq!(process.count(UNKEPT, &["large"]), 2);
    assert_eq!(process.count(FILLS, &[]), 0);
    // Nor is what depends on too much, and no key is longer than keys are.
    let tags = Fetched::Fresh(Fresh {
        tags: vec!["t".repeat(200)],
        ..String::from("value").into()
    });
    fetches.find(&space, "y", Wants::default(), tags).await;
    assert!(look(&space, "y").await.is_none());
    assert!(space.key(None, &"n".repeat(2000)).is_err());
}

/// Redis holds the limits of the fleet: whatever is put, the cache takes no more of it than it may.
#[tokio::test]
async fn redis_is_never_filled() {
    const MOST: u64 = 4 << 20;
    let world = World::new().await;
    let process = world
        .process_with(Settings {
            redis: MOST,
            ..patient()
        })
        .await;
    let space = process.space(in_redis());
    let mut redis = world.redis.clone();
    let used = async |redis: &mut redis::aio::ConnectionManager| -> u64 {
        let info: String = redis::cmd("INFO").arg("memory").query_async(redis).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = used(&mut redis).await;
    let mut random = 7_u64;
    for n in 0..4_000_usize {
        // None of it compresses.
        let size = if n % 500 == 499 { 600_000 } else { n * 13 % 3_000 };
        let value: String = std::iter::repeat_with(|| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (random >> 58) as u8)
        })
        .take(size)
        .collect();
        let key = key(&space, &format!("{}", n % 3_700));
        let put = space.put(&key, space.stamp(), Fetched::Fresh(value.into()), None);
        within(put).await.unwrap();
        if n % 500 == 0 {
            let (_, bytes) = redis_size(&mut redis).await.unwrap();
            assert!(bytes <= MOST, "{bytes}");
            let used = used(&mut redis).await - before;
            // Buffers, of values of 600 KB too, and the script itself are beside it.
            assert!(used <= MOST + (2 << 20), "{n}: {used} for {bytes}");
        }
    }
    let (entries, bytes) = redis_size(&mut redis).await.unwrap();
    assert!(bytes > MOST / 2 && bytes <= MOST, "{bytes}");
    assert!(process.count(EVICTIONS, &["redis"]) > 0);
    // The lists know what is there, and nothing else.
    let keys: Vec<String> = redis.keys("weir:{cache}:entry:*").await.unwrap();
    let sizes: u64 = redis.hlen("weir:{cache}:sizes").await.unwrap();
    assert_eq!((entries, sizes), (keys.len() as u64, entries + 1));
    // All entries in their place, none for ever.
    for key in keys {
        let left: i64 = redis.pttl(&key).await.unwrap();
        assert!(left > 0, "{key}: {left}");
    }
}

/// What is asked for later stays, whoever puts it first.
#[tokio::test]
async fn an_earlier_answer_does_not_replace_a_later_one() {
    let world = World::new().await;
    let process = world.process().await;
    for options in [in_redis(), in_postgres()] {
        let space = process.space(options);
        let key = key(&space, "x");
        let early = space.stamp();
        until("the clock goes on", async || space.stamp() != early).await;
        for (stamp, value) in [(space.stamp(), "late"), (early, "early")] {
            let put = space.put(&key, stamp, Fetched::Fresh(value.to_owned().into()), None);
            within(put).await.unwrap();
            assert_eq!(text(&look(&space, "x").await.unwrap()), "late");
        }
    }
}
