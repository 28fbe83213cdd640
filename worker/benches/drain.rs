//! How fast a worker drains a stream of events that need no work, against the bare operation in the same run:
//! `cargo bench -p worker`, and what each guarantee costs. Arguments: `-- --events 100000 --rounds 3`, or
//! `-- --only bare|weir|limits|floor|full|once`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use shared::config::Reader;
use shared::event::{Data, Event, EventId};
use shared::failure::Failure;
use shared::limiter::{Ask, Charge, Limiter};
use shared::servers::Servers;
use shared::subject::Service;
use shared::telemetry::{self, LogFormat};
use shared::{connect, lifecycle, topology, wire};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use worker::config::Config;
use worker::effect::Effect;
use worker::handler::{Completion, Handler};
use worker::quota::Turn;

/// What a worker promises in a run.
#[derive(Debug, Clone, Copy)]
struct Promise {
    /// It keeps a limit.
    limits: bool,
    /// It records results, and knows what comes again.
    results: bool,
    /// It notes each call before it begins, as it does for writes.
    once: bool,
}

const NOTHING: Promise = Promise {
    limits: false,
    results: false,
    once: false,
};
const LIMITS: Promise = Promise {
    limits: true,
    ..NOTHING
};
const RESULTS: Promise = Promise {
    results: true,
    ..LIMITS
};
const ONCE: Promise = Promise {
    once: true,
    ..RESULTS
};

/// Does nothing, and counts.
struct Noop {
    effect: Effect,
    left: AtomicUsize,
    begun: OnceLock<Instant>,
    done: Notify,
}

impl Handler for Noop {
    fn effect(&self, _: &Event) -> Effect {
        self.effect
    }

    fn handle<'a>(&'a self, _: &'a Event, _: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.begun.get_or_init(Instant::now);
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
        async { Ok(Completion::new("noop")) }.boxed()
    }
}

/// Where a run takes place.
struct World {
    servers: Servers,
    js: jetstream::Context,
    service: Service,
    events: usize,
}

impl World {
    /// Fills the stream anew; every run drains the same number of 1 KiB events.
    async fn fill(&self) {
        let _ = self.js.delete_stream(self.service.stream()).await;
        let services = std::slice::from_ref(&self.service);
        topology::ensure(&self.js, services, &shared::config::fleet::Streams::default())
            .await
            .unwrap();
        let mut acks = FuturesUnordered::new();
        for _ in 0..self.events {
            let event = Event {
                data: Data::json(vec![b'1'; 900]),
                ..Event::new(EventId::generate(), "bench")
            };
            acks.push(
                self.js
                    .publish("events.bench", wire::encode(&event))
                    .await
                    .unwrap()
                    .into_future(),
            );
            if acks.len() >= 256 {
                acks.next().await.unwrap().unwrap();
            }
        }
        while let Some(ack) = acks.next().await {
            ack.unwrap();
        }
    }

    async fn consumer(&self) -> PullConsumer {
        self.js
            .get_consumer_from_stream("normal", self.service.stream())
            .await
            .unwrap()
    }

    /// Waits until the server has forgotten all events: acks have arrived, not only left.
    async fn drained(&self) {
        let mut stream = self.js.get_stream(self.service.stream()).await.unwrap();
        while stream.info().await.unwrap().state.messages > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The floor without results: pull 500, ack.
    async fn bare(&self) -> f64 {
        self.fill().await;
        let consumer = self.consumer().await;
        let start = Instant::now();
        let mut left = self.events;
        while left > 0 {
            let mut batch = consumer.fetch().max_messages(500).messages().await.unwrap();
            while let Some(message) = batch.next().await {
                message.unwrap().ack().await.unwrap();
                left -= 1;
            }
        }
        self.drained().await;
        self.events as f64 / start.elapsed().as_secs_f64()
    }

    /// The floor with limits and results: pull, lease, bulk insert, ack in batches of 256, four in flight.
    async fn bare_batched(&self) -> f64 {
        self.fill().await;
        let consumer = self.consumer().await;
        let limiter = Limiter::new(connect::redis(&self.servers.redis.url()).unwrap(), "bench", true);
        let database = sqlx::PgPool::connect(&self.servers.postgres.url("bench"))
            .await
            .unwrap();
        sqlx::query("DROP TABLE IF EXISTS floor")
            .execute(&database)
            .await
            .unwrap();
        sqlx::query("CREATE TABLE floor (id text PRIMARY KEY, at timestamptz)")
            .execute(&database)
            .await
            .unwrap();
        let charges = [Charge {
            key: "{floor}".into(),
            rule: "100_000_000 per second, burst 1_000_000".parse().unwrap(),
            shadow: false,
            cost: 1,
        }];
        let start = Instant::now();
        let mut left = self.events;
        let mut flying = FuturesUnordered::new();
        while left > 0 || !flying.is_empty() {
            if left == 0 || flying.len() >= 4 {
                flying.next().await;
                continue;
            }
            let mut batch = consumer.fetch().max_messages(256).messages().await.unwrap();
            let mut messages = Vec::with_capacity(256);
            while let Some(message) = batch.next().await {
                messages.push(message.unwrap());
            }
            left -= messages.len();
            let (limiter, database, charges) = (limiter.clone(), database.clone(), charges.clone());
            flying.push(tokio::spawn(async move {
                let calls = messages.len() as u32;
                let ask = Ask { calls, ..Ask::default() };
                limiter.take(&charges, &[], &[], ask).await.unwrap();
                let ids: Vec<String> = messages
                    .iter()
                    .map(|m| wire::decode(&m.payload, EventId::generate).unwrap().id.to_string())
                    .collect();
                sqlx::query("INSERT INTO floor SELECT id, now() FROM unnest($1::text[]) AS t(id) ON CONFLICT DO NOTHING")
                    .bind(ids)
                    .execute(&database)
                    .await
                    .unwrap();
                for message in messages {
                    message.ack().await.unwrap();
                }
            }));
        }
        self.drained().await;
        self.events as f64 / start.elapsed().as_secs_f64()
    }

    /// The worker as it ships, with a handler that does nothing.
    async fn weir(&self, promise: Promise) -> f64 {
        self.fill().await;
        if promise.results {
            // An empty table, as the floor's is: nothing that was recorded can be taken away.
            let database = sqlx::PgPool::connect(&self.servers.postgres.url("bench"))
                .await
                .unwrap();
            sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                .execute(&database)
                .await
                .unwrap();
        }
        let postgres = if promise.results {
            self.servers.postgres.url("bench")
        } else {
            "none".into()
        };
        let limit = if promise.limits {
            "100000000 per second, burst 1000000"
        } else {
            "none"
        };
        let env = [
            ("WEIR_NATS_URL", self.servers.nats.url()),
            ("WEIR_REDIS_URL", self.servers.redis.url()),
            ("WEIR_POSTGRES_URL", postgres),
            ("WEIR_SERVICES", "bench".into()),
            ("WEIR_SERVICE_BENCH_HANDLER", "http".into()),
            ("WEIR_SERVICE_BENCH_URL", "http://127.0.0.1:9/".into()),
            ("WEIR_SERVICE_BENCH_LIMIT", limit.into()),
            ("WEIR_LIMITS_START", "full".into()),
            ("WEIR_SERVICE_BENCH_CONCURRENCY", "2000".into()),
            ("WEIR_SERVICE_BENCH_UNKNOWN", "dead".into()),
        ];
        let env: std::collections::BTreeMap<String, String> = env
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let config = Config::read(&mut Reader::new(&env));
        let effect = if promise.once {
            Effect::Once
        } else {
            Effect::Repeatable
        };
        let noop = Arc::new(Noop {
            effect,
            left: AtomicUsize::new(self.events),
            begun: OnceLock::new(),
            done: Notify::new(),
        });
        let handler = Arc::clone(&noop);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move {
            worker::run(config, &move |_, _| Ok(handler.clone()), listener, stop)
                .await
                .unwrap();
        });
        noop.done.notified().await;
        self.drained().await;
        // From the first event: connecting and making streams and tables is no part of the drain.
        let rate = self.events as f64 / noop.begun.get().unwrap().elapsed().as_secs_f64();
        shutdown.cancel();
        running.await.unwrap();
        rate
    }
}

/// Kinds of runs.
const KINDS: [&str; 6] = ["bare", "weir", "limits", "floor", "full", "once"];

fn argument(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |text| text.parse().unwrap())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    lifecycle::install_tls();
    let (events, rounds) = (argument("--events", 100_000), argument("--rounds", 3));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // As it ships: spans are made, and with no endpoint set not sent.
        let telemetry = telemetry::init("weir-worker", "warn", LogFormat::Json).unwrap();
        let servers = Servers::start_scratch().await.unwrap();
        servers.postgres.create_database("bench").await.unwrap();
        let js = jetstream::new(async_nats::connect(servers.nats.url()).await.unwrap());
        let world = World {
            servers,
            js,
            service: Service::new("bench").unwrap(),
            events,
        };
        let run = async |kind: &str| match kind {
            "bare" => world.bare().await,
            "weir" => world.weir(NOTHING).await,
            "limits" => world.weir(LIMITS).await,
            "floor" => world.bare_batched().await,
            "full" => world.weir(RESULTS).await,
            "once" => world.weir(ONCE).await,
            other => panic!("--only {other:?}: must be one of {KINDS:?}"),
        };
        if let Some(only) = std::env::args().skip_while(|arg| arg != "--only").nth(1) {
            // One kind of run, for a profiler.
            println!("{only}: {:.0}/s", run(&only).await);
            return;
        }
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); KINDS.len()];
        for round in 1..=rounds {
            print!("round {round}:");
            // In turn, so that a machine that drifts drifts for all.
            for (kind, rates) in KINDS.iter().zip(&mut rates) {
                rates.push(run(kind).await);
                print!(" {kind} {:.0}/s", rates.last().unwrap());
                std::io::Write::flush(&mut std::io::stdout()).unwrap();
            }
            println!();
        }
        let rates: Vec<f64> = rates.into_iter().map(median).collect();
        let of = |kind: &str| rates[KINDS.iter().position(|known| *known == kind).unwrap()];
        println!("\n{events} events, median of {rounds} rounds\n");
        println!("| drain | bare loop | weir | ratio |\n|---|---|---|---|");
        for (what, bare, weir) in [
            ("pull and ack", "bare", "weir"),
            ("the same under a limit", "bare", "limits"),
            ("under a limit, results recorded", "floor", "full"),
            ("the same, each call noted before it begins", "floor", "once"),
        ] {
            let (bare, weir) = (of(bare), of(weir));
            println!("| {what} | {bare:.0}/s | {weir:.0}/s | {:.2} |", weir / bare);
        }
        telemetry.shutdown(Duration::from_secs(1)).await;
    });
}
