//! What the cache costs beside the bare operation, and what it is worth. `cargo bench -p shared --bench cache`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

#[path = "cache/trace.rs"]
mod trace;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures_util::future::join_all;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::ConnectionManager;
use sha2::{Digest, Sha256};
use shared::cache::{
    BYTES, CacheMetrics, Connections, Fetched, Key, Levels, Options, Place, Settings, Space, Wants,
};
use shared::config::fleet::Streams;
use shared::connect;
use shared::servers::{Nats, NatsOptions, Redis, RedisOptions};
use trace::{Lru, Zipf};

/// Each figure is measured so often, by turns with the bare operation.
const ROUNDS: usize = 9;
/// Operations of a round.
const HITS: usize = 100_000;
const TRIPS: usize = 5_000;
/// Misses of a hundred.
const TIMES: usize = 200;

struct World {
    nats: Nats,
    redis: Redis,
    _scratch: tempfile::TempDir,
}

/// A process with a cache of so many bytes in memory.
async fn levels(world: &World, memory: u64) -> (Levels, Registry) {
    let client = async_nats::connect(world.nats.url()).await.unwrap();
    let mut registry = Registry::default();
    let settings = Settings {
        memory,
        redis: 1 << 30,
        // The machine may be busy with other things.
        redis_patience: Duration::from_secs(5),
        deaf_after: Duration::from_secs(60),
        ..Settings::default()
    };
    let connections = Connections {
        js: jetstream::new(client.clone()),
        client,
        streams: Streams::default(),
        redis: Some(connect::redis(&world.redis.url()).unwrap()),
        postgres: None,
    };
    let levels = Levels::start(settings, connections, CacheMetrics::register(&mut registry));
    levels.heard().await;
    (levels, registry)
}

fn in_memory() -> Options<String> {
    Options {
        fresh: Duration::from_secs(86_400),
        memory: Duration::from_secs(86_400),
        redis: Duration::ZERO,
        ..Options::default()
    }
}

async fn put(space: &Space<String>, key: &Key, value: String) {
    let put = space.put(key, space.stamp(), Fetched::Fresh(value.into()), None);
    put.await.unwrap();
}

/// Nanoseconds of each.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn time<T>(&mut self, work: impl FnOnce() -> T) {
        let start = Instant::now();
        black_box(work());
        self.0.push(start.elapsed().as_nanos() as u64);
    }

    fn row(&mut self, name: &str, unit: f64) -> f64 {
        self.0.sort_unstable();
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share) as usize] as f64 / unit;
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} |",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999)
        );
        at(0.5)
    }
}

/// A hit in memory beside the map that holds it.
async fn hits(world: &World) {
    let (levels, _registry) = levels(world, 256 << 20).await;
    let space = levels.space("bench", in_memory()).unwrap();
    let bare = moka::sync::Cache::<[u8; 32], Arc<String>>::new(1 << 20);
    let mut plain = HashMap::new();
    let mut keys = Vec::new();
    for n in 0..1_000 {
        let name = format!("/repos/octo/repo/issues/{n}");
        let key = space.key(None, &name).unwrap();
        let digest: [u8; 32] = Sha256::digest(key.as_str()).into();
        let value = "x".repeat(1_000);
        bare.insert(digest, Arc::new(value.clone()));
        plain.insert(digest, Arc::new(value.clone()));
        put(&space, &key, value).await;
        keys.push((name, digest, key));
    }
    let mut random = StdRng::seed_from_u64(1);
    let [mut clock, mut map, mut moka, mut look, mut named, mut fetched] =
        std::array::from_fn(|_| Times::default());
    for _ in 0..ROUNDS {
        for _ in 0..HITS {
            let (name, digest, key) = &keys[random.random_range(0..keys.len())];
            clock.time(|| ());
            map.time(|| plain.get(digest).cloned());
            moka.time(|| bare.get(digest));
            let start = Instant::now();
            let found = space.look(key, Wants::default()).await.usable();
            look.0.push(start.elapsed().as_nanos() as u64);
            assert_eq!(found.unwrap().from, Place::Memory);
            let start = Instant::now();
            let key = space.key(None, name).unwrap();
            black_box(space.look(&key, Wants::default()).await);
            named.0.push(start.elapsed().as_nanos() as u64);
            let start = Instant::now();
            let got = space.get_or_fetch(&key, Wants::default(), |_| async { unreachable!() });
            black_box(got.await.unwrap());
            fetched.0.push(start.elapsed().as_nanos() as u64);
        }
    }
    println!("\n| a hit in memory, microseconds | p50 | p90 | p99 | p99.9 |\n|---|---|---|---|---|");
    clock.row("the clock alone", 1e3);
    map.row("bare HashMap, one thread", 1e3);
    moka.row("bare moka", 1e3);
    look.row("look", 1e3);
    named.row("look, with the key made from its name", 1e3);
    fetched.row("get_or_fetch", 1e3);
}

/// A hit in Redis beside a GET of the same bytes.
async fn trips(world: &World) {
    let (levels, _registry) = levels(world, 1 << 20).await;
    let space = levels
        .space(
            "bench",
            Options {
                fresh: Duration::from_secs(86_400),
                memory: Duration::ZERO,
                ..Options::default()
            },
        )
        .unwrap();
    let mut redis = connect::redis(&world.redis.url()).unwrap();
    let bare = async |redis: &mut ConnectionManager, place: &str| -> Vec<u8> {
        redis::cmd("GET").arg(place).query_async(redis).await.unwrap()
    };
    println!("\n| a hit in Redis, microseconds | p50 | p90 | p99 | p99.9 |\n|---|---|---|---|---|");
    let mut random = StdRng::seed_from_u64(2);
    let mut text = |size| {
        (0..size)
            .map(|_| char::from(random.random_range(b' '..=b'~')))
            .collect()
    };
    let issue = include_str!("../../ingest/tests/fixtures/github/issues.opened.json");
    let several = [
        issue,
        include_str!("../../ingest/tests/fixtures/github/check_run.created.json"),
        include_str!("../../ingest/tests/fixtures/github/deployment.created.json"),
        include_str!("../../ingest/tests/fixtures/github/fork.none.json"),
        include_str!("../../ingest/tests/fixtures/github/issue_comment.created.json"),
        include_str!("../../ingest/tests/fixtures/github/release.published.json"),
        include_str!("../../ingest/tests/fixtures/github/status.none.json"),
        include_str!("../../ingest/tests/fixtures/github/workflow_run.completed.3.json"),
    ];
    let values: [(&str, String); 5] = [
        ("text", text(100)),
        ("text", text(1_000)),
        ("text", text(10_000)),
        ("JSON", issue.to_owned()),
        ("JSON", several.concat()),
    ];
    for (kind, value) in values {
        let size = value.len();
        let key = space.key(None, &format!("{size}")).unwrap();
        put(&space, &key, value.clone()).await;
        let place = format!(
            "weir:{{cache}}:entry:{}",
            hex::encode(Sha256::digest(key.as_str()))
        );
        let () = redis::cmd("SET")
            .arg("plain")
            .arg(&value)
            .query_async(&mut redis)
            .await
            .unwrap();
        let [mut same, mut plain, mut look] = std::array::from_fn(|_| Times::default());
        let trips = if size > 50_000 { TRIPS / 5 } else { TRIPS };
        for _ in 0..ROUNDS {
            for _ in 0..trips {
                let start = Instant::now();
                black_box(bare(&mut redis, &place).await);
                same.0.push(start.elapsed().as_nanos() as u64);
                let start = Instant::now();
                black_box(bare(&mut redis, "plain").await);
                plain.0.push(start.elapsed().as_nanos() as u64);
                let start = Instant::now();
                let got = space.look(&key, Wants::default()).await.usable().unwrap();
                look.0.push(start.elapsed().as_nanos() as u64);
                assert_eq!(got.value.unwrap().len(), size);
            }
        }
        let stored = bare(&mut redis, &place).await.len();
        same.row(&format!("bare GET of the entry's {stored} bytes"), 1e3);
        let base = plain.row(&format!("bare GET of the value's {size} bytes"), 1e3);
        let ours = look.row(&format!("look, {size} bytes of {kind}"), 1e3);
        println!("| ratio to the value's GET | {:.2} | | | |", ours / base);
    }
}

/// A hundred who miss the same.
async fn misses(world: &World) {
    let (levels, _registry) = levels(world, 256 << 20).await;
    let space = levels.space("bench", in_memory()).unwrap();
    let (fetches, mut alone, mut together) =
        (Arc::new(AtomicUsize::new(0)), Times::default(), Times::default());
    for n in 0..TIMES {
        let fetch = || {
            let fetches = Arc::clone(&fetches);
            move |_| async move {
                fetches.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(Fetched::Fresh(String::from("value").into()))
            }
        };
        let start = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        alone.0.push(start.elapsed().as_nanos() as u64);
        let key = space.key(None, &format!("{n}")).unwrap();
        let start = Instant::now();
        let all = (0..100).map(|_| {
            let (space, key, fetch) = (space.clone(), key.clone(), fetch());
            tokio::spawn(async move { space.get_or_fetch(&key, Wants::default(), fetch).await.unwrap() })
        });
        join_all(all).await;
        together.0.push(start.elapsed().as_nanos() as u64);
    }
    println!(
        "\n100 who miss the same key at once, {TIMES} times: {} fetches\n",
        fetches.load(Ordering::Relaxed)
    );
    println!("| milliseconds until all have it | p50 | p90 | p99 | p99.9 |\n|---|---|---|---|---|");
    alone.row("bare fetch of 5 ms, one", 1e6);
    together.row("100 tasks", 1e6);
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn bytes(registry: &Registry) -> u64 {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(BYTES) && line.contains("memory"));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Four times as much as fits, from two threads.
async fn bounds(world: &World) {
    println!(
        "\n| values | most bytes | put | largest held | to the most | resident memory, more than at the start | to the most |\n\
         |---|---|---|---|---|---|---|"
    );
    let before = resident();
    for (most, largest) in [(64_u64 << 20, 100_usize), (64 << 20, 4_000), (64 << 20, 200_000)] {
        let (levels, registry) = levels(world, most).await;
        let space = levels.space("bench", in_memory()).unwrap();
        let registry = Arc::new(registry);
        let tasks = (0..2).map(|task| {
            let (space, registry) = (space.clone(), Arc::clone(&registry));
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(task);
                let (mut put_in_all, mut most_held, mut n) = (0, 0, 0_u64);
                while put_in_all < 2 * most {
                    let size = random.random_range(0..largest);
                    put_in_all += size as u64 + 500;
                    n += 1;
                    let key = space.key(None, &format!("{task}/{n}")).unwrap();
                    put(&space, &key, "x".repeat(size)).await;
                    if n % 64 == 0 {
                        most_held = most_held.max(bytes(&registry));
                    }
                }
                (put_in_all, most_held)
            })
        });
        let done: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        let put: u64 = done.iter().map(|(put, _)| put).sum();
        let held = done.iter().map(|(_, held)| *held).max().unwrap();
        let grew = resident().saturating_sub(before);
        let share = |bytes: u64| bytes as f64 / most as f64;
        println!(
            "| up to {largest} | {most} | {put} | {held} | {:.3} | {grew} | {:.2} |",
            share(held),
            share(grew)
        );
    }
}

/// How many of a trace are hits, in as many bytes.
async fn ratios(world: &World) {
    const KEYS: usize = 100_000;
    const ASKED: usize = 1_000_000;
    println!(
        "\n| trace of {ASKED} over {KEYS} keys | fits | plain LRU, hits % | memory, hits % |\n|---|---|---|---|"
    );
    for (s, scans) in [(0.8, false), (1.0, false), (1.2, false), (1.0, true)] {
        for share in [100, 20] {
            let fits = KEYS / share;
            let value = "x".repeat(256);
            // As many bytes as that many entries take.
            let (one, registry) = levels(world, 1 << 20).await;
            let space = one.space("bench", in_memory()).unwrap();
            put(&space, &space.key(None, "012345").unwrap(), value.clone()).await;
            let most = bytes(&registry) * fits as u64;
            let (levels, _registry) = levels(world, most.max(1 << 16)).await;
            let space = levels.space("bench", in_memory()).unwrap();
            let mut lru = Lru::new(fits);
            let (zipf, mut random) = (Zipf::new(KEYS, s), StdRng::seed_from_u64(3));
            let (mut lru_hits, mut hits) = (0_u32, 0_u32);
            for n in 0..ASKED {
                // Now and then somebody asks for everything once.
                let asked = if scans && n % 5 == 0 {
                    KEYS + n
                } else {
                    zipf.next(&mut random)
                };
                lru_hits += u32::from(lru.hit(asked));
                let key = space.key(None, &format!("{asked:06}")).unwrap();
                if space.look(&key, Wants::default()).await.usable().is_some() {
                    hits += 1;
                } else {
                    put(&space, &key, value.clone()).await;
                }
            }
            let percent = |hits: u32| 100.0 * f64::from(hits) / ASKED as f64;
            println!(
                "| Zipf {s}{} | {fits} | {:.1} | {:.1} |",
                if scans { ", each fifth never again" } else { "" },
                percent(lru_hits),
                percent(hits)
            );
        }
    }
}

#[tokio::main]
async fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let world = World {
        nats: Nats::start(NatsOptions::new(scratch.path().join("nats")))
            .await
            .unwrap(),
        redis: Redis::start(RedisOptions::new(scratch.path().join("redis")))
            .await
            .unwrap(),
        _scratch: scratch,
    };
    bounds(&world).await;
    hits(&world).await;
    trips(&world).await;
    misses(&world).await;
    ratios(&world).await;
}
