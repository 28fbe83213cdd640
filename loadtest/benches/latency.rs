//! The whole fleet at a fixed rate: how long from accept to done, and what each process holds in memory, idle and
//! under load: `make bench`, or `cargo bench -p loadtest --bench latency` once the services are built with
//! `cargo build --release`. Arguments: `-- --rate 500 --seconds 20 --in-flight 0`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loadtest::conservation::{accept_to_done, audit};
use loadtest::fleet::{Fleet, Member};
use loadtest::generator::target::{Events, Template, WireFormat, http_client};
use loadtest::generator::{Latency, Open, run};
use loadtest::provider::{Provider, ProviderConfig};
use loadtest::report::memory;
use sha2::{Digest, Sha256};
use shared::subject::Service;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "bench";

fn argument(name: &str, default: u64) -> u64 {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |text| text.parse().unwrap())
}

fn resident(members: &[&Member]) -> BTreeMap<String, f64> {
    let pids: Vec<_> = members
        .iter()
        .map(|member| (member.name.clone(), member.pid()))
        .collect();
    let mib = |bytes: Option<u64>| bytes.unwrap_or(0) as f64 / 1_048_576.0;
    memory(&pids)
        .into_iter()
        .map(|m| (m.name, mib(m.resident)))
        .collect()
}

fn row(what: &str, latency: &Latency) {
    let ms = |micros: u64| micros as f64 / 1e3;
    let Latency {
        p50, p95, p99, max, ..
    } = *latency;
    println!(
        "| {what} | {:.1} | {:.1} | {:.1} | {:.1} |",
        ms(p50),
        ms(p95),
        ms(p99),
        ms(max)
    );
}

#[tokio::main]
async fn main() {
    let (rate, seconds) = (argument("--rate", 500), argument("--seconds", 20));
    // Events that the endpoint keeps hanging, so that a worker holds that many at once while its memory is read.
    let hold = argument("--in-flight", 1000);
    shared::lifecycle::install_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = Provider::start(ProviderConfig::default(), listener).unwrap();
    let hooks = format!("{}/hooks/bench", provider.url());
    let tokens = format!("bench:{}:*", hex::encode(Sha256::digest(TOKEN)));
    let settings = [
        ("WEIR_SERVICES", "http"),
        ("WEIR_TOKENS", tokens.as_str()),
        ("WEIR_SERVICE_HTTP_URL", hooks.as_str()),
        ("WEIR_SERVICE_HTTP_LIMIT", "10000 per second, burst 500"),
        ("WEIR_SERVICE_HTTP_CONCURRENCY", "1000"),
        ("WEIR_LOG", "warn"),
    ];
    let mut fleet = Fleet::new(&settings).await.unwrap();
    let ingest = fleet.start("ingest").await.unwrap();
    let worker = fleet.start("worker").await.unwrap();
    let scheduler = fleet.start("scheduler").await.unwrap();
    let members = [&ingest, &worker, &scheduler];
    let idle = resident(&members);

    let fields = serde_json::json!({"v": 1, "type": "bench", "data": {"note": "x".repeat(900)}});
    let target = |repeats| {
        let template = Template::new(fields.clone(), WireFormat::Msgpack, repeats).unwrap();
        let client = http_client(Duration::from_secs(10)).unwrap();
        Arc::new(Events::new(client, &ingest.url, "http", TOKEN.into(), template))
    };
    let phase = |rate: u64, seconds: u64| format!("{rate} for {seconds}s").parse().unwrap();
    let open = Open {
        phases: vec![phase(rate, seconds)],
        max_requests: rate * seconds,
        max_in_flight: 512,
    };
    let (bar, stop) = (indicatif::ProgressBar::hidden(), CancellationToken::new());
    // The first second pays for connections and caches; it is not counted.
    let warm = Open {
        phases: vec![phase(rate, 1)],
        max_requests: rate,
        max_in_flight: 512,
    };
    run(&warm, target(1), &bar, &stop).await;
    let load = run(&open, target(1), &bar, &stop).await;
    let busy = resident(&members);
    let (js, database) = (fleet.jetstream().await.unwrap(), fleet.database().await.unwrap());
    let services = [Service::new("http").unwrap()];
    let settle = Duration::from_secs(30);
    let account = audit(&load.accepted_ids, &js, &database, &services, settle, |_| ())
        .await
        .unwrap();
    let done = accept_to_done(&load.accepted_ids, &database, &services)
        .await
        .unwrap();
    println!(
        "{rate}/s for {seconds} s, 1 KiB events, one ingest, one worker: {:.0}/s accepted, {} done, lost {}, doubled {}\n",
        load.accepted_per_second, account.done, account.lost, account.doubled
    );
    println!("| milliseconds | p50 | p95 | p99 | max |\n|---|---|---|---|---|");
    row("request to 202, from its due time", &load.latency);
    row("accept to done, delivery included", &done["http"]);

    // A worker full of events in flight.
    let faults = loadtest::provider::Faults {
        hangs: 1.0,
        ..Default::default()
    };
    provider.set_faults(faults).unwrap();
    let flood = Open {
        phases: vec![phase(hold, 1)],
        max_requests: hold,
        max_in_flight: 512,
    };
    run(&flood, target(1), &bar, &stop).await;
    let mut waited = 0;
    while provider.stats().total.calls < load.sent + hold && waited < 100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        waited += 1;
    }
    let full = resident(&members);
    println!("\n| resident MiB | idle | at {rate}/s | {hold} in flight |\n|---|---|---|---|");
    for (name, idle) in &idle {
        println!("| {name} | {idle:.0} | {:.0} | {:.0} |", busy[name], full[name]);
    }
}
