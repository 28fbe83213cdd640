//! What a stream's retention costs: a bare pull-and-ack loop over 1, 2 and 4 connections, on a WorkQueue stream and on
//! one that keeps messages until it is trimmed: `cargo bench -p worker --bench retention`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shared::servers::{Nats, NatsOptions, scratch_dir};

const EVENTS: usize = 100_000;
const ROUNDS: usize = 3;

async fn run(url: &str, retention: RetentionPolicy, connections: usize) -> (f64, f64) {
    let js = jetstream::new(async_nats::connect(url).await.unwrap());
    let _ = js.delete_stream("BENCH").await;
    let config = Config {
        name: "BENCH".into(),
        subjects: vec!["bench".into()],
        retention,
        storage: StorageType::File,
        ..Default::default()
    };
    let mut stream = js.create_stream(config).await.unwrap();
    let mut acks = FuturesUnordered::new();
    for _ in 0..EVENTS {
        acks.push(
            js.publish("bench", vec![b'x'; 1024].into())
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
    let durable = pull::Config {
        durable_name: Some("work".into()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 20_000,
        ..Default::default()
    };
    stream.create_consumer(durable).await.unwrap();
    let left = Arc::new(AtomicUsize::new(EVENTS));
    let start = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..connections {
        let (left, js) = (
            Arc::clone(&left),
            jetstream::new(async_nats::connect(url).await.unwrap()),
        );
        workers.push(tokio::spawn(async move {
            let consumer: PullConsumer = js.get_consumer_from_stream("work", "BENCH").await.unwrap();
            while left.load(Ordering::Relaxed) > 0 {
                let mut batch = consumer.fetch().max_messages(500).messages().await.unwrap();
                while let Some(message) = batch.next().await {
                    message.unwrap().ack().await.unwrap();
                    left.fetch_sub(1, Ordering::Relaxed);
                }
            }
            js.client().flush().await.unwrap();
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let rate = EVENTS as f64 / start.elapsed().as_secs_f64();
    // What a stream of the other kind needs on top: somebody must throw away what is done.
    let trim = Instant::now();
    if retention == RetentionPolicy::Limits {
        let last = stream.info().await.unwrap().state.last_sequence;
        stream.purge().sequence(last).await.unwrap();
    }
    (rate, trim.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() {
    let dir = scratch_dir().unwrap();
    let nats = Nats::start(NatsOptions::new(dir.path())).await.unwrap();
    println!("{EVENTS} events of 1 KiB, median of {ROUNDS} rounds\n");
    println!("| connections | WorkQueue | limits | ratio | trimming |\n|---|---|---|---|---|");
    for connections in [1, 2, 4] {
        let (mut queue, mut limits, mut trims) = (vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            queue.push(run(&nats.url(), RetentionPolicy::WorkQueue, connections).await.0);
            let (rate, trim) = run(&nats.url(), RetentionPolicy::Limits, connections).await;
            limits.push(rate);
            trims.push(trim * 1e3);
        }
        let [queue, limits, trim] = [queue, limits, trims].map(|mut figures| {
            figures.sort_by(f64::total_cmp);
            figures[ROUNDS / 2]
        });
        println!(
            "| {connections} | {queue:.0}/s | {limits:.0}/s | {:.2} | {trim:.0} ms |",
            queue / limits
        );
    }
}
