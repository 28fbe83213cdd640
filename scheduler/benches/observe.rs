//! What it costs to observe many services: `cargo bench -p scheduler --bench observe`. Arguments:
//! `-- --services 50 --waiting 1000 --seconds 60`.
//!
//! The shipped process beside a private NATS server, at its default interval; its CPU time and memory as Linux tells
//! them, with more and more retries that wait for their time, each under a subject of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures_util::{StreamExt, stream};
use shared::servers::{Nats, NatsOptions};
use shared::subject::RETRY_SCHEDULED;

/// Retries that wait, in each round.
const RETRIES: [u64; 3] = [0, 100_000, 800_000];
/// Publishes whose acknowledgement is awaited at once.
const IN_FLIGHT: usize = 256;
/// Clock ticks a second in Linux's account of a process, on every architecture we know.
const TICKS: f64 = 100.0;

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().unwrap())
}

#[tokio::main]
async fn main() {
    let (services, waiting, seconds) = (
        argument("--services", 50),
        argument("--waiting", 1_000),
        argument("--seconds", 60),
    );
    shared::lifecycle::install_tls();
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path().join("nats")))
        .await
        .unwrap();
    let names: Vec<_> = (0..services).map(|n| format!("service-{n}")).collect();
    let listen = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let scheduler = || {
        let process = Command::new(env!("CARGO_BIN_EXE_weir-scheduler"))
            .env("WEIR_NATS_URL", nats.url())
            .env("WEIR_SERVICES", names.join(","))
            .env("WEIR_SCHEDULER_LISTEN", listen.to_string())
            // The server reserves that much disk for each stream.
            .env("WEIR_STREAM_MAX_BYTES", "100MB")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Ended(process.unwrap())
    };
    let first = scheduler();
    ready(&format!("http://{listen}/health/ready")).await;
    drop(first);
    let client = async_nats::connect(nats.url()).await.unwrap();
    let js = jetstream::new(client);
    let work = (0..services * waiting).map(|n| format!("events.service-{}", n % services));
    publish(&js, work).await;
    println!("{services} services, {waiting} events waiting in each, observed every 5 s for {seconds} s");
    let mut there = 0;
    for retries in RETRIES {
        let more = (there..retries).map(|n| format!("{RETRY_SCHEDULED}.service-{}.{n}", n % services));
        publish(&js, more).await;
        there = retries;
        let process = scheduler();
        ready(&format!("http://{listen}/health/ready")).await;
        let (pid, start) = (process.0.id(), Instant::now());
        let before = cpu(pid);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        println!(
            "{retries:>9} retries: {:.2} % of a core, {} MiB resident, {} MiB at most",
            (cpu(pid) - before) / start.elapsed().as_secs_f64() * 100.0,
            memory(pid, "VmRSS:"),
            memory(pid, "VmHWM:"),
        );
    }
}

/// A process that ends with its round.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn publish(js: &jetstream::Context, subjects: impl Iterator<Item = String>) {
    stream::iter(subjects)
        .map(|subject| async move {
            js.publish(subject, "{}".into()).await.unwrap().await.unwrap();
        })
        .buffer_unordered(IN_FLIGHT)
        .collect::<()>()
        .await;
}

async fn ready(url: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reqwest::get(url)
        .await
        .is_ok_and(|answer| answer.status().is_success())
    {
        assert!(Instant::now() < deadline, "the scheduler is not ready");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Seconds of CPU time so far.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}
