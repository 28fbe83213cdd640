//! Large events, whose bodies go through the object store, beside small ones; and what the processes hold in memory when
//! the largest come all at once: `cargo bench -p loadtest --bench claims` once the services are built with
//! `cargo build --release`. Arguments: `-- --rounds 20 --at-once 100`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::time::Duration;

use futures_util::future::join_all;
use loadtest::fleet::{Fleet, Member};
use loadtest::provider::{Provider, ProviderConfig};
use sha2::{Digest, Sha256};
use shared::event::{Data, Event, EventId};
use shared::wire;
use tokio::net::TcpListener;
use tokio::time::Instant;

const TOKEN: &str = "bench";

fn argument(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |text| text.parse().unwrap())
}

/// An event of bytes that do not compress.
fn event(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    });
    let noise: Vec<u8> = words.flat_map(u32::to_be_bytes).take(bytes).collect();
    let data = Data::Blob {
        content_type: "application/octet-stream".into(),
        bytes: noise.into(),
    };
    let event = Event {
        data,
        ..Event::new(EventId::generate(), "bench")
    };
    wire::encode(&event).into()
}

async fn post(client: &reqwest::Client, ingest: &Member, body: Vec<u8>) -> u16 {
    let request = client
        .post(format!("{}/v1/events/http", ingest.url))
        .bearer_auth(TOKEN)
        .header("content-type", "application/msgpack")
        .body(body);
    // An answer that comes before the whole body is sent closes the connection, and not every client sees it then.
    request.send().await.map_or(0, |answer| answer.status().as_u16())
}

/// Most memory that a process has had, in MiB.
fn peak(member: &Member) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", member.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

fn middle(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let ms = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1e3;
    (ms(times.len() / 2), ms(times.len() * 95 / 100))
}

#[tokio::main]
async fn main() {
    let (rounds, at_once) = (argument("--rounds", 20), argument("--at-once", 100));
    shared::lifecycle::install_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = Provider::start(ProviderConfig::default(), listener).unwrap();
    let hooks = format!("{}/hooks/bench", provider.url());
    let tokens = format!("bench:{}:*", hex::encode(Sha256::digest(TOKEN)));
    let settings = [
        ("WEIR_SERVICES", "http"),
        ("WEIR_TOKENS", tokens.as_str()),
        ("WEIR_SERVICE_HTTP_URL", hooks.as_str()),
        ("WEIR_SERVICE_HTTP_LIMIT", "none"),
        ("WEIR_SERVICE_HTTP_BREAKER", "off"),
        ("WEIR_CLAIMS_MAX_BYTES", "4GB"),
        ("WEIR_LOG", "error"),
    ];
    let mut fleet = Fleet::new(&settings).await.unwrap();
    let ingest = fleet.start("ingest").await.unwrap();
    let worker = fleet.start("worker").await.unwrap();
    let client = reqwest::Client::new();
    let served = |count: u64| {
        let provider = &provider;
        async move {
            while provider.stats().total.accepted < count {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    };
    println!("| one event at a time | request to 202, p50 ms | p95 | request to call, p50 ms | p95 |");
    println!("|---|---|---|---|---|");
    let mut done = 0;
    for (what, bytes) in [
        ("1 KB", 1_000),
        ("900 KB, in its message", 900_000),
        ("5 MB", 5_000_000),
        ("24 MB", 24_000_000),
    ] {
        let (mut accepted, mut called) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            let body = event(bytes);
            let start = Instant::now();
            assert_eq!(post(&client, &ingest, body).await, 202);
            let kept = start.elapsed();
            done += 1;
            served(done).await;
            // The first one pays for connections and caches.
            if round > 0 {
                accepted.push(kept);
                called.push(start.elapsed());
            }
        }
        let ((kept, kept_95), (call, call_95)) = (middle(accepted), middle(called));
        println!("| {what} | {kept:.1} | {kept_95:.1} | {call:.1} | {call_95:.1} |");
    }
    let (one, other) = (peak(&ingest), peak(&worker));
    let bodies: Vec<_> = (0..at_once).map(|_| event(24_000_000)).collect();
    let start = Instant::now();
    let answers = join_all(bodies.into_iter().map(|body| post(&client, &ingest, body))).await;
    let took = start.elapsed();
    let kept = answers.iter().filter(|status| **status == 202).count();
    let refused = answers
        .iter()
        .filter(|status| matches!(**status, 503 | 0))
        .count();
    served(done + kept as u64).await;
    println!(
        "\n{at_once} of 24 MB at once: {kept} kept, {refused} told to come again, in {took:.1?}; all kept ones done"
    );
    println!("\n| most memory, MiB | one at a time | all at once |\n|---|---|---|");
    println!("| ingest | {one} | {} |", peak(&ingest));
    println!("| worker | {other} | {} |", peak(&worker));
}
