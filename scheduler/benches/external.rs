//! How fast a metric is answered over TLS, while the cluster is asked for leave like a real one:
//! `cargo bench -p scheduler --bench external`. Arguments: `-- --services 50 --rate 50 --seconds 20`.
//!
//! Open loop: a request goes out when its time has come, and its latency counts from then.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    reason = "a benchmark talks to people and fails by panicking, and tests use more of what it shares with them"
)]

#[path = "../tests/external/authority.rs"]
mod authority;
#[path = "../tests/external/cluster.rs"]
mod cluster;
#[path = "../tests/external/stage.rs"]
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::authority::Authority;
use crate::cluster::{Cluster, front_proxy};
use crate::stage::{DEPTH, Stage};

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().unwrap())
}

#[tokio::main]
async fn main() {
    let (services, rate, seconds) = (
        argument("--services", 50),
        argument("--rate", 50),
        argument("--seconds", 20),
    );
    let names: Vec<_> = (0..services).map(|n| format!("service-{n}")).collect();
    let queues: Vec<_> = names.iter().map(|name| (name.as_str(), 1_000, 2_500)).collect();
    let front = Authority::new("front");
    let cluster = Cluster::new(Some(front_proxy(&front)));
    let config = kube::Config::new(cluster.listen().await.parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let stage = Stage::of(&queues, Duration::from_mins(10), front, cluster, client).await;
    stage.trusted().await;
    let aggregator = stage.aggregator();
    println!("{services} services, {rate} requests/s for {seconds} s, over one connection");
    for (what, one) in [("one service", true), ("all services", false)] {
        let before = stage.cluster.reviews().len();
        let latencies = Arc::new(std::sync::Mutex::new(Histogram::<u64>::new(3).unwrap()));
        let (start, mut asked) = (Instant::now(), JoinSet::new());
        let total = rate * seconds;
        for n in 0..total {
            let due = start + Duration::from_secs_f64(n as f64 / rate as f64);
            sleep_until(due.into()).await;
            let mut url = format!(
                "{}{}",
                stage.url,
                DEPTH.replace("default", &names[(n % services) as usize])
            );
            if one {
                url = format!("{url}?labelSelector=service%3D{}", names[(n % services) as usize]);
            }
            let request = aggregator.get(url).header("X-Remote-User", "hpa");
            let latencies = Arc::clone(&latencies);
            asked.spawn(async move {
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.bytes().await.unwrap();
                let took = due.elapsed().as_micros() as u64;
                latencies.lock().unwrap().record(took).unwrap();
            });
        }
        while let Some(done) = asked.join_next().await {
            done.unwrap();
        }
        let latencies = latencies.lock().unwrap();
        let milli = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        println!(
            "{what:>12}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; the cluster was asked {} times in {total}",
            milli(0.5),
            milli(0.99),
            milli(1.0),
            stage.cluster.reviews().len() - before,
        );
    }
}
