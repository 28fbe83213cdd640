//! The fleet at its limit: worker processes that share one, against a provider that counts in its own way, under a
//! backlog that lasts the whole run. One row for each limit, way of counting and number of workers: breaches, and how
//! much of what could be used was used ([`loadtest::provider::LimitStats`] says how that is reckoned).
//! `cargo bench -p loadtest --bench limits` once the services are built with `cargo build --release`; `-- --help`
//! lists the arguments.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::str::FromStr;
use std::time::Duration;

use async_nats::jetstream;
use clap::Parser;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use loadtest::fleet::{Fleet, Member};
use loadtest::provider::{Provider, ProviderConfig, Shape, Stats, Window};
use redis::aio::ConnectionManager;
use shared::config::fleet::Streams;
use shared::config::value::duration;
use shared::event::{Data, Event, EventId};
use shared::subject::Service;
use shared::{connect, topology, wire};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// One of each kind: paced in short and in long periods, and windows that may be spent at once.
const LIMITS: [&str; 4] = [
    "50 per second, burst 5",
    "600 per minute, burst 60",
    "500 per 10s, fixed",
    "500 per 10s, aligned",
];
/// Longest time for all of a combination but the run itself: servers, backlog, start, first call, end.
const AROUND: Duration = Duration::from_secs(120);
/// Longest wait for the first call.
const FIRST_CALL: Duration = Duration::from_secs(30);
/// Longest wait for the end of a worker.
const STOP: Duration = Duration::from_secs(15);
/// How long after the run the provider is asked: a window that ends with the run has then ended for it too.
const MARGIN: Duration = Duration::from_millis(20);

/// Measures breaches and use of a limit that several workers share.
#[derive(Parser)]
struct Args {
    /// How long each combination runs, from the first call; use is told of whole periods.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Numbers of worker processes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    workers: Vec<usize>,
    /// How the provider counts: sliding, fixed, aligned, bucket:<burst>, or bucket, which holds twice the limit's burst
    /// and so leaves room for calls that arrive late. A limit that is itself `fixed` or `aligned` is counted as that.
    #[arg(long, value_delimiter = ',', default_value = "sliding,fixed,bucket")]
    shape: Vec<Shape>,
    /// A limit as the workers are told it; may be given several times.
    #[arg(long = "limit", default_values = LIMITS)]
    limits: Vec<Told>,
    /// What the provider enforces, e.g. '40 per second', when that is not what the workers are told.
    #[arg(long)]
    real: Option<Window>,
    /// How long the provider takes for an answer.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// The provider tells nothing of its limit in headers.
    #[arg(long)]
    silent: bool,
    /// A setting of the workers, as NAME=VALUE, over those of the benchmark; may be given several times.
    #[arg(long = "set", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Cargo passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// A limit in the words of the workers' setting, and what a provider needs to know of it.
#[derive(Clone)]
struct Told {
    text: String,
    window: Window,
    burst: u32,
    way: Option<Shape>,
}

impl FromStr for Told {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (window, how) = text.split_once(',').unwrap_or((text, ""));
        let window: Window = window.parse().map_err(|e| format!("{e}"))?;
        let how = how.trim();
        let way: Option<Shape> = how.parse().ok();
        let burst = match how.strip_prefix("burst ") {
            Some(burst) => burst.parse().map_err(|e| format!("burst: {e}"))?,
            None if how.is_empty() || way.is_some() => (window.calls / 50).max(1),
            None => return Err(format!("{how:?} is neither a burst nor a way to count")),
        };
        Ok(Self {
            text: text.into(),
            window,
            burst,
            way,
        })
    }
}

/// One combination.
struct Case<'a> {
    args: &'a Args,
    told: &'a Told,
    real: Window,
    shape: Shape,
    workers: usize,
}

/// What a run took beside calls.
struct Costs {
    cpu: Duration,
    trips: u64,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    shared::lifecycle::install_tls();
    println!(
        "| limit | way of counting | workers | calls | breaches | worst window | used of possible | use % | \
         Redis scripts per call | CPU ms per call |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for told in &args.limits {
        let shapes = told.way.as_ref().map_or(&args.shape[..], std::slice::from_ref);
        for shape in shapes {
            for workers in &args.workers {
                let shape = match shape {
                    Shape::Bucket { burst: None } => Shape::bucket(told.burst * 2),
                    shape => *shape,
                };
                let case = Case {
                    args: &args,
                    told,
                    real: args.real.unwrap_or(told.window),
                    shape,
                    workers: *workers,
                };
                let longest = Duration::from_secs(args.seconds) + AROUND;
                let row = timeout(longest, case.measure()).await;
                println!("{}", row.expect("the run takes no end"));
            }
        }
    }
}

impl Case<'_> {
    /// Runs it on servers of its own and gives its row.
    async fn measure(&self) -> String {
        let mut config = ProviderConfig::default();
        config.github.core = self.real;
        config.github.shape = self.shape;
        config.github.headers = !self.args.silent;
        // Only the limit that the workers were told of is to be judged.
        config.github.concurrent = 100_000;
        config.faults.latency_p50_ms = self.args.latency.as_secs_f64() * 1e3;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Provider::start(config, listener).unwrap();
        let url = provider.url();
        let settings = [
            ("WEIR_SERVICES", "github"),
            ("WEIR_SERVICE_GITHUB_URL", url.as_str()),
            ("WEIR_SERVICE_GITHUB_TOKEN", "bench"),
            ("WEIR_SERVICE_GITHUB_LIMIT", self.told.text.as_str()),
            ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
            ("WEIR_LIMITS_START", "full"),
            ("WEIR_LOG", "warn"),
        ];
        let given = self.args.settings.iter();
        let settings: Vec<(&str, &str)> = settings
            .into_iter()
            .chain(given.map(|(name, value)| (name.as_str(), value.as_str())))
            .collect();
        let bar = self.bar("starting");
        let mut fleet = Fleet::new(&settings).await.unwrap();
        let js = fleet.jetstream().await.unwrap();
        let service = Service::new("github").unwrap();
        self.fill(&js, &service).await;
        let mut redis = connect::redis(&fleet.servers.redis.url()).unwrap();
        let mut members = fleet.start_many("worker", self.workers, &[]).await.unwrap();

        let (stats, costs) = self.run(&provider, &mut redis, &members, &bar).await;
        bar.set_message("stopping");
        let left = js
            .get_stream(service.stream())
            .await
            .unwrap()
            .cached_info()
            .state
            .messages;
        assert!(left > 0, "the backlog was too short: nothing is left of it");
        join_all(members.iter_mut().map(|member| member.stop(STOP))).await;
        provider.stop().await;
        bar.finish_and_clear();
        self.row(&stats, &costs)
    }

    /// From the first call for as long as was asked.
    async fn run(
        &self,
        provider: &Provider,
        redis: &mut ConnectionManager,
        members: &[Member],
        bar: &ProgressBar,
    ) -> (Stats, Costs) {
        bar.set_message("waiting for the first call");
        let called = async {
            while provider.stats().first_call_ms.is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(FIRST_CALL, called).await.expect("no call came");
        let begun = Instant::now();
        let (cpu, trips) = (cpu(members), scripts(redis).await);
        for second in 1..=self.args.seconds {
            sleep_until(begun + Duration::from_secs(second)).await;
            let total = provider.stats().total;
            bar.set_position(second);
            bar.set_message(format!("{} calls, {} breaches", total.accepted, total.refused));
        }
        sleep(MARGIN).await;
        let stats = provider.stats();
        let costs = Costs {
            cpu: self::cpu(members).saturating_sub(cpu),
            trips: scripts(redis).await.saturating_sub(trips),
        };
        (stats, costs)
    }

    /// More events than can be worked off in the time.
    async fn fill(&self, js: &jetstream::Context, service: &Service) {
        topology::ensure(js, std::slice::from_ref(service), &Streams::default())
            .await
            .unwrap();
        let Window { calls, per } = self.real;
        let periods = (self.args.seconds as f64 / per.as_secs_f64()).ceil() as usize + 2;
        let events = calls as usize * periods * 11 / 10 + 2_000;
        let subject = format!("events.{service}");
        let mut acks = FuturesUnordered::new();
        for n in 0..events {
            let event = Event {
                // What was asked before would cost nothing.
                data: Data::json(format!(r#"{{"path":"/users/u{n}"}}"#)),
                ..Event::new(EventId::generate(), "call")
            };
            let ack = js.publish(subject.clone(), wire::encode(&event)).await.unwrap();
            acks.push(ack.into_future());
            if acks.len() >= 256 {
                acks.next().await.unwrap().unwrap();
            }
        }
        while let Some(ack) = acks.next().await {
            ack.unwrap();
        }
    }

    fn row(&self, stats: &Stats, costs: &Costs) -> String {
        let seen = &stats.limits["github core"];
        let share = seen.used_share();
        let real = if self.real == self.told.window {
            String::new()
        } else {
            format!(" (real: {})", self.real)
        };
        let per_call = |amount: f64| amount / stats.total.calls.max(1) as f64;
        format!(
            "| {}{real} | {} | {} | {} | {} | {}{} | {} of {} | {} | {:.2} | {:.2} |",
            self.told.text,
            self.shape,
            self.workers,
            stats.total.calls,
            stats.total.refused,
            if seen.worst_saturated { "over " } else { "" },
            seen.worst,
            seen.spent,
            seen.capacity,
            share.map_or("none ended".into(), |share| format!("{:.1}", share * 100.0)),
            per_call(costs.trips as f64),
            per_call(costs.cpu.as_secs_f64() * 1e3),
        )
    }

    /// On standard error, and only when that is a terminal.
    fn bar(&self, message: &'static str) -> ProgressBar {
        let bar = ProgressBar::new(self.args.seconds).with_message(message);
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} s  {msg}").unwrap();
        bar.set_style(style);
        bar.set_prefix(format!(
            "{}, {}, {} workers",
            self.told.text, self.shape, self.workers
        ));
        bar
    }
}

/// Processor time that the workers have taken so far.
fn cpu(members: &[Member]) -> Duration {
    let pids: Vec<Pid> = members.iter().map(|member| Pid::from_u32(member.pid())).collect();
    let mut system = System::new().unwrap();
    let kind = ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, kind);
    let taken = pids.iter().filter_map(|pid| system.process(*pid));
    Duration::from_millis(taken.map(sysinfo::Process::accumulated_cpu_time).sum())
}

/// Scripts that Redis has run so far.
async fn scripts(redis: &mut ConnectionManager) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(redis)
        .await
        .unwrap();
    let count = |line: &str| {
        let rest = line.strip_prefix("cmdstat_eval")?;
        let calls = rest.split_once(":calls=")?.1.split(',').next()?;
        calls.parse::<u64>().ok()
    };
    info.lines().filter_map(count).sum()
}
