//! What limits cost: a call's turn with a ticket in hand, a question to Redis, how seldom one is needed, and what idle
//! keys weigh. Each line stands beside the bare operation in the same run, where there is one.
//! `cargo bench -p worker --bench limiter`. Arguments: `-- --seconds 3`, or
//! `-- --only local|redis|paced|rate|keys`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

mod callers;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use callers::{CALLERS, KEYS, WARM_UP, closed_loop, each_once, nanos, show, times};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use redis::aio::ConnectionManager;
use shared::limiter::{Ask, Charge, Limiter};
use shared::servers::{self, Redis, RedisOptions};
use shared::{connect, lifecycle};
use tokio::sync::Semaphore;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use worker::limits::{Limits, Set};
use worker::metrics::QuotaMetrics;
use worker::provider::Provider;
use worker::quota::away::Policy;
use worker::quota::{Parts, Quota};

/// A limit that nobody reaches.
const UNREACHED: &str = "10_000_000 per second";
/// Tickets in hand at a time.
const STOCK: usize = 1_024;
const RESTOCKS: usize = 300;
/// As the worker has them by default: most messages at once, and how far ahead calls are booked.
const BATCH: usize = 512;
const AHEAD: Duration = Duration::from_millis(100);
/// Longest time for one part of the benchmark, beside what is measured.
const AROUND: Duration = Duration::from_secs(60);
/// Length of the paced run.
const PACED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);

fn row(what: &str, weir: &str, bare: &str, target: &str) {
    println!("| {what} | {weir} | {bare} | {target} |");
}

/// A charge under a limit of its own.
fn charge(key: &str, rule: &str) -> Charge {
    Charge {
        key: key.into(),
        rule: rule.parse().unwrap(),
        shadow: false,
        cost: 1,
    }
}

/// One question to Redis; the calls that are granted.
async fn take(limiter: &Limiter, charges: &[Charge]) -> u32 {
    let ask = Ask {
        calls: 1,
        ..Ask::default()
    };
    limiter.take(charges, &[], &[], ask).await.unwrap().calls
}

/// Where all parts run: one Redis.
struct World {
    redis: Redis,
    seconds: Duration,
}

impl World {
    fn connection(&self) -> ConnectionManager {
        connect::redis(&self.redis.url()).unwrap()
    }

    /// A worker's quota of the service `tag`, with its connection.
    fn quota(&self, tag: &str, holder: &str, rule: &str) -> (Arc<Quota>, QuotaMetrics) {
        let metrics = QuotaMetrics::default();
        let rule = rule.parse().unwrap();
        let table = [("requests".to_owned(), Set { rule, shadow: false })];
        let parts = Parts {
            limiter: Limiter::new(self.connection(), holder, true),
            limits: Arc::new(Limits::new(tag.into(), &[], table.into())),
            provider: Provider::Other,
            away: Policy::Stop,
            ahead: AHEAD,
            metrics: metrics.clone(),
        };
        (Arc::new(Quota::start(&TaskTracker::new(), parts)), metrics)
    }

    /// A figure from what Redis says of itself.
    async fn info(&self, section: &str, field: &str) -> u64 {
        let ask = redis::cmd("INFO").arg(section).to_owned();
        let text: String = ask.query_async(&mut self.connection()).await.unwrap();
        let figure = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap_or("0");
        figure.split(',').next().unwrap().parse().unwrap()
    }

    async fn scripts(&self) -> u64 {
        self.info("commandstats", "cmdstat_evalsha:calls=").await
    }

    /// A script that does nothing: the least that a question to Redis can cost.
    fn bare(&self) -> impl Fn(usize) -> BoxFuture<'static, ()> + Clone + Send + 'static {
        let (connection, script) = (self.connection(), Arc::new(redis::Script::new("return 1")));
        move |_| {
            let (mut connection, script) = (connection.clone(), Arc::clone(&script));
            async move { script.invoke_async(&mut connection).await.unwrap() }.boxed()
        }
    }
}

/// A turn from a ticket that lies here: nobody is asked.
async fn local(world: &World) {
    let bare = governor::RateLimiter::direct(governor::Quota::per_second(NonZeroU32::MAX));
    let mut checks = times();
    for _ in 0..100_000 {
        let start = Instant::now();
        let _ = std::hint::black_box(bare.check());
        checks.record(nanos(start.elapsed())).unwrap();
    }
    let bare = format!("`governor` alone: {}", show(&checks));
    for tasks in [1, CALLERS] {
        let (quota, metrics) = world.quota("{local:0}", "a", UNREACHED);
        let mut all = times();
        for _ in 0..RESTOCKS {
            // Given back unused, tickets are there for the next calls; their time comes at once.
            drop(quota.tickets(STOCK).await.unwrap());
            sleep(Duration::from_millis(2)).await;
            let deciding = (0..tasks).map(|_| {
                let (quota, metrics) = (Arc::clone(&quota), metrics.clone());
                tokio::spawn(async move {
                    let mut times = times();
                    for _ in 0..STOCK / tasks {
                        let (trips, start) = (metrics.trips.get(), Instant::now());
                        let ticket = quota.tickets(1).await.unwrap().pop();
                        drop(quota.turn(ticket, Vec::new(), PATIENCE, false).await.unwrap());
                        let took = start.elapsed();
                        // Not those that had to ask.
                        if metrics.trips.get() == trips {
                            times.record(nanos(took)).unwrap();
                        }
                        // Each call of a worker is a task of its own.
                        tokio::task::yield_now().await;
                    }
                    times
                })
            });
            for times in join_all(deciding).await {
                all.add(times.unwrap()).unwrap();
            }
        }
        let weir = format!(
            "{}, {:.3} % under 10 us; {} of {} asked nobody, {} round trips for all",
            show(&all),
            all.percentile_below(9_999),
            all.len(),
            RESTOCKS * STOCK,
            metrics.trips.get()
        );
        let what = format!("local decision, tickets in hand, {tasks} tasks");
        row(&what, &weir, &bare, "p99 < 10 us");
    }
    let (quota, _) = world.quota("{local:1}", "a", UNREACHED);
    let (mut fresh, mut asking) = (times(), times());
    for _ in 0..500 {
        let start = Instant::now();
        let ticket = quota.tickets(1).await.unwrap().pop();
        let got = Instant::now();
        drop(quota.turn(ticket, Vec::new(), PATIENCE, false).await.unwrap());
        fresh.record(nanos(got.elapsed())).unwrap();
        asking.record(nanos(got - start)).unwrap();
    }
    let bare = format!("the question before: {}", show(&asking));
    row(
        "turn of a ticket that is due as it comes",
        &show(&fresh),
        &bare,
        "",
    );
}

/// Questions to Redis by many callers, each on keys of its own.
async fn redis(world: &World) {
    let connection = world.connection();
    let get = move |n: usize| {
        let (mut connection, get) = (connection.clone(), redis::cmd("GET").arg(n).to_owned());
        async move { get.query_async(&mut connection).await.unwrap() }
    };
    let (gets, get_rate) = closed_loop(CALLERS, world.seconds, get).await;
    let (scripts, rate) = closed_loop(CALLERS, world.seconds, world.bare()).await;
    let (gets, scripts) = (show(&gets), show(&scripts));
    let bare = format!("GET: {gets}, {get_rate:.0}/s; `return 1`: {scripts}, {rate:.0}/s");
    for many in [1, 3] {
        let limiter = Limiter::new(world.connection(), "a", true);
        let charges = |n| -> Vec<Charge> {
            let key = |dimension| format!("{{redis:{many}}}:{dimension}:{n}");
            (0..many).map(|d| charge(&key(d), UNREACHED)).collect()
        };
        let charges: Arc<[_]> = (0..CALLERS).map(charges).collect();
        let (times, rate) = closed_loop(CALLERS, world.seconds, move |n| {
            let (limiter, charges) = (limiter.clone(), Arc::clone(&charges));
            async move { assert_eq!(take(&limiter, &charges[n]).await, 1) }
        })
        .await;
        let what = format!("Redis decision, {CALLERS} callers, {many} keys each");
        let weir = format!("{}, {rate:.0}/s", show(&times));
        row(&what, &weir, &bare, "p99 < 3 ms");
    }
}

/// What a worker does with endless work: places first, then tickets, then a call for each, which takes no time.
async fn endless(quota: Arc<Quota>, places: usize, until: Instant, made: Arc<AtomicUsize>) {
    let permits = Arc::new(Semaphore::new(places));
    while Instant::now() < until {
        let mut held = Arc::clone(&permits).acquire_owned().await.unwrap();
        let more = permits.available_permits().min(BATCH - 1) as u32;
        if let Ok(more) = Arc::clone(&permits).try_acquire_many_owned(more) {
            held.merge(more);
        }
        let tickets = match quota.tickets(held.num_permits()).await {
            Ok(tickets) => tickets,
            Err(wait) => {
                sleep(wait.after).await;
                continue;
            }
        };
        for ticket in tickets {
            let (quota, made) = (Arc::clone(&quota), Arc::clone(&made));
            let place = held.split(1).unwrap();
            tokio::spawn(async move {
                drop(
                    quota
                        .turn(Some(ticket), Vec::new(), PATIENCE, false)
                        .await
                        .unwrap(),
                );
                made.fetch_add(1, Relaxed);
                drop(place);
            });
        }
    }
    let _all = permits.acquire_many(places as u32).await.unwrap();
}

/// How much of a limit is used, and how seldom Redis is asked.
async fn paced(world: &World) {
    for (workers, places) in [(1, BATCH), (4, BATCH), (1, CALLERS), (4, CALLERS)] {
        let (tag, rule) = (format!("{{paced:{workers}x{places}}}"), "2000 per second");
        let quota = |n| world.quota(&tag, &format!("worker-{n}"), rule);
        let quotas: Vec<_> = (0..workers).map(quota).collect();
        let (made, from) = (Arc::new(AtomicUsize::new(0)), Instant::now() + WARM_UP);
        let work = |(quota, _): &(Arc<Quota>, _)| {
            let until = from + PACED + WARM_UP;
            tokio::spawn(endless(Arc::clone(quota), places, until, Arc::clone(&made)))
        };
        let working: Vec<_> = quotas.iter().map(work).collect();
        let count = async || {
            let trips: u64 = quotas.iter().map(|(_, metrics)| metrics.trips.get()).sum();
            (
                made.load(Relaxed) as f64,
                trips as f64,
                world.scripts().await as f64,
            )
        };
        sleep_until(from.into()).await;
        let before = count().await;
        sleep_until((from + PACED).into()).await;
        let after = count().await;
        for work in join_all(working).await {
            work.unwrap();
        }
        let (calls, seconds) = (after.0 - before.0, PACED.as_secs_f64());
        let weir = format!(
            "{calls} calls in {seconds} s, {:.1} % of the limit; {:.1} calls a round trip ({:.1} by Redis' count)",
            calls / 20.0 / seconds,
            calls / (after.1 - before.1),
            calls / (after.2 - before.2)
        );
        let what = format!("{rule}, {workers} workers of {places} places");
        row(&what, &weir, "1 call a round trip", ">= 20 calls a round trip");
    }
}

/// Decisions of one process under a limit that nobody reaches.
async fn rate(world: &World) {
    let (_, script_rate) = closed_loop(CALLERS, world.seconds, world.bare()).await;
    let bare = format!("`return 1` in Redis for each, {CALLERS} callers: {script_rate:.0}/s");
    for tasks in [1, CALLERS] {
        let (quota, _) = world.quota(&format!("{{rate:{tasks}}}"), "a", UNREACHED);
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let begun = Instant::now();
        closed_loop(tasks, world.seconds, move |_| {
            let (quota, made) = (Arc::clone(&quota), Arc::clone(&counted));
            async move {
                let tickets = quota.tickets(BATCH).await.unwrap();
                made.fetch_add(tickets.len(), Relaxed);
                for ticket in tickets {
                    let turn = quota.turn(Some(ticket), Vec::new(), PATIENCE, false).await;
                    drop(turn.unwrap());
                }
            }
        })
        .await;
        let rate = made.load(Relaxed) as f64 / begun.elapsed().as_secs_f64();
        let what = format!("decisions, tickets by up to {BATCH}, {tasks} tasks");
        let weir = format!("{rate:.0}/s");
        row(&what, &weir, &bare, ">= 50000/s");
    }
    let (quota, metrics) = world.quota("{rate:endless}", "a", UNREACHED);
    let (made, until) = (Arc::new(AtomicUsize::new(0)), Instant::now() + world.seconds);
    endless(quota, 2_000, until, Arc::clone(&made)).await;
    let made = made.load(Relaxed) as f64;
    let (rate, calls) = (
        made / world.seconds.as_secs_f64(),
        made / metrics.trips.get() as f64,
    );
    let weir = format!("{rate:.0}/s, {calls:.0} calls a round trip");
    row("decisions, a worker of 2000 places", &weir, &bare, ">= 50000/s");
}

/// Many keys at once, what they weigh while they lie idle, and that they go.
async fn keys(world: &World) {
    const RULE: &str = "1 per second";
    let mut connection = world.connection();
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    let limiter = Limiter::new(world.connection(), "a", false);
    let channel = |n: usize| charge(&format!("{{slack:1f3a9c20}}:channel:C{n:09}"), RULE);
    // On a Redis without a past a bucket is empty at first.
    while take(&limiter, &[channel(KEYS)]).await == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let bare = format!("`return 1`: {}", each_once(world.bare()).await);
    let size = redis::cmd("DBSIZE");
    let before: usize = size.query_async(&mut connection).await.unwrap();
    let used = world.info("memory", "used_memory:").await;
    let weir = each_once(move |n| {
        let limiter = limiter.clone();
        async move { assert_eq!(take(&limiter, &[channel(n)]).await, 1) }
    })
    .await;
    let last = Instant::now();
    let what = format!("{KEYS} keys at once, {CALLERS} callers");
    row(&what, &weir, &bare, "");

    let more = world.info("memory", "used_memory:").await.saturating_sub(used) / KEYS as u64;
    let mut usage = redis::pipe();
    for n in 0..KEYS {
        usage
            .cmd("MEMORY")
            .arg("USAGE")
            .arg(format!("weir:{}", channel(n).key));
    }
    let usage: Vec<u64> = usage.query_async(&mut connection).await.unwrap();
    let mean = usage.iter().sum::<u64>() / KEYS as u64;
    while size.query_async::<usize>(&mut connection).await.unwrap() > before {
        sleep(Duration::from_millis(10)).await;
    }
    let gone = last.elapsed().as_secs_f64();
    let weir = format!(
        "{mean} bytes by MEMORY USAGE, {more} by used_memory; all gone {gone:.1} s after the last call"
    );
    row(
        &format!("an idle key of `{RULE}`"),
        &weir,
        "",
        "< 200 bytes, gone",
    );

    let (quota, _) = world.quota("{slack:1f3a9c21}", "a", UNREACHED);
    let weir = each_once(move |n| {
        let (quota, extra) = (
            Arc::clone(&quota),
            charge(&format!("{{slack:1f3a9c21}}:channel:{n}"), RULE),
        );
        async move { drop(quota.turn(None, vec![extra], PATIENCE, false).await.unwrap()) }
    })
    .await;
    row(&format!("{what}, through a worker's quota"), &weir, &bare, "");
}

#[tokio::main]
async fn main() {
    lifecycle::install_tls();
    let argument = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let seconds = argument("--seconds").map_or(3, |text| text.parse().unwrap());
    let seconds = Duration::from_secs(seconds);
    let only = argument("--only");
    let dir = servers::scratch_dir().unwrap();
    let starting = Redis::start(RedisOptions::new(dir.path()));
    let redis = timeout(AROUND, starting).await.unwrap().unwrap();
    let world = World { redis, seconds };
    println!("| limits | weir | bare | target |\n|---|---|---|---|");
    let parts = [
        ("local", local(&world).boxed()),
        ("redis", self::redis(&world).boxed()),
        ("paced", paced(&world).boxed()),
        ("rate", rate(&world).boxed()),
        ("keys", keys(&world).boxed()),
    ];
    for (name, part) in parts {
        if only.as_ref().is_none_or(|only| only == name) {
            timeout(AROUND + seconds * 8, part).await.unwrap();
        }
    }
}
