//! An autoscaler that reads the figures while they are told.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::StreamExt;
use scheduler::api::ScalingFigures;
use shared::connect;
use shared::servers::{Nats, NatsCluster, NatsOptions};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::controller;
use super::stage::{INTERVAL, Replica, SOON, eventually, fleet, publish, say};

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_that_reads_it_starts_workers_for_a_burst_and_none_to_wait_for_quota() {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path())).await.unwrap();
    let fleet = fleet(&nats.url(), &[]);
    let (_, js) = connect::nats(&fleet, "test").await.unwrap();
    let replica = Replica::start_with(&fleet, &[("WEIR_SCHEDULER_DRAIN", "2s")]).await;
    eventually("figures", SOON, || async {
        replica.scaling("github").await.is_some()
    })
    .await;
    // Time goes thirty times as fast for the autoscaler.
    let (start, hurry) = (Instant::now(), 30);
    let play = async |rule: &str, tickets: Option<u32>| {
        say(&js, &fleet, 4, rule).await;
        publish(&js, 400).await;
        eventually("the burst is seen", SOON, || async {
            let known = replica.scaling("github").await;
            known.is_some_and(|known| known.queue_depth >= 400)
        })
        .await;
        let tickets = tickets.map(|per_second| {
            let tickets = Arc::new(Semaphore::new(0));
            let (given, every) = (Arc::clone(&tickets), Duration::from_secs(1) / per_second);
            let giver = tokio::spawn(async move {
                let mut ticks = tokio::time::interval(every);
                loop {
                    ticks.tick().await;
                    given.add_permits(1);
                }
            });
            (tickets, giver)
        });
        let mut hpa = controller::Autoscaler::new(1.0, 1, 50);
        let (mut pods, mut most) = (Vec::new(), 0);
        let mut syncs = tokio::time::interval(controller::SYNC / hurry);
        let (begun, mut left) = (Instant::now(), 400);
        while left > 0 && begun.elapsed() < SOON {
            syncs.tick().await;
            let known = replica.scaling("github").await;
            left = known.as_ref().map_or(left, |known| known.queue_depth);
            let metric = known.map(|known| known.worker_demand);
            let wanted = hpa.decide(start.elapsed() * hurry, (pods.len() as u32).max(1), metric);
            most = most.max(wanted);
            pods.truncate(wanted as usize);
            while pods.len() < wanted as usize {
                let tickets = tickets.as_ref().map(|(tickets, _)| Arc::clone(tickets));
                pods.push(pod(&js, tickets).await);
            }
        }
        if let Some((_, giver)) = tickets {
            giver.abort();
        }
        (left, most)
    };
    let (left, most) = play("1000 per second", None).await;
    assert_eq!(left, 0);
    assert!((4..=50).contains(&most), "{most}");
    let (left, most) = play("10 per second", Some(10)).await;
    assert!(left > 200, "the quota lets a hundred of them through: {left}");
    assert!(most <= 4, "those of the burst before and no more: {most}");
    replica.stop().await;
}

/// A worker that does four messages at once, each in 200 ms, until it is dropped; what it holds it ends.
async fn pod(js: &jetstream::Context, tickets: Option<Arc<Semaphore>>) -> DropGuard {
    let consumer: PullConsumer = js
        .get_consumer_from_stream("normal", "WEIR_github")
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let places = Arc::new(Semaphore::new(4));
    let token = stop.clone();
    let work = async move {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            if let Some(tickets) = &tickets {
                tickets.acquire().await.unwrap().forget();
            }
            let mut batch = consumer
                .batch()
                .max_messages(1)
                .expires(SOON)
                .messages()
                .await
                .unwrap();
            let Some(Ok(message)) = batch.next().await else {
                continue;
            };
            tokio::spawn(async move {
                sleep(Duration::from_millis(200)).await;
                message.ack().await.unwrap();
                drop(place);
            });
        }
    };
    tokio::spawn(async move { token.run_until_cancelled(work).await.unwrap_or(()) });
    stop.drop_guard()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_leader_shows_in_no_figure() {
    let scratch = tempfile::tempdir().unwrap();
    let cluster = NatsCluster::start(scratch.path()).await.unwrap();
    let fleet = fleet(&cluster.urls(), &[("WEIR_STREAM_REPLICAS", "3")]);
    let (_, js) = connect::nats(&fleet, "test").await.unwrap();
    let replica = Replica::start(&fleet).await;
    eventually("figures", SOON * 3, || async {
        replica.scaling("github").await.is_some()
    })
    .await;
    say(&js, &fleet, 4, "100 per second").await;
    publish(&js, 50).await;
    let consumer: PullConsumer = js
        .get_consumer_from_stream("normal", "WEIR_github")
        .await
        .unwrap();
    let mut batch = consumer.fetch().max_messages(8).messages().await.unwrap();
    while let Some(message) = batch.next().await {
        message.unwrap();
    }
    let whole = |known: &ScalingFigures| known.queue_depth == 50;
    eventually("all are seen", SOON, || async {
        replica.scaling("github").await.is_some_and(|known| whole(&known))
    })
    .await;

    // What an autoscaler makes of what it is told meanwhile.
    let mut hpa = controller::Autoscaler::new(1.0, 1, 50);
    let (mut pods, syncs) = (2, std::cell::Cell::new(0));
    let changes = async {
        let mut changes = 0;
        while changes < 3 || syncs.get() <= 3 {
            changes += 1;
            cluster.step_down("WEIR_github").await.unwrap();
            cluster.in_step("WEIR_github").await.unwrap();
        }
    };
    tokio::pin!(changes);
    loop {
        let known = replica.scaling("github").await;
        if let Some(known) = &known {
            assert!(whole(known), "{known:?}");
            assert!((1.0..=20.0).contains(&known.worker_demand), "{known:?}");
        }
        syncs.set(syncs.get() + 1);
        let metric = known.map(|known| known.worker_demand);
        pods = hpa.decide(controller::SYNC * syncs.get(), pods, metric);
        assert!((1..=20).contains(&pods));
        if timeout(INTERVAL / 2, &mut changes).await.is_ok() {
            break;
        }
    }
    eventually("known after it", SOON * 2, || async {
        replica.scaling("github").await.is_some_and(|known| whole(&known))
    })
    .await;
    replica.stop().await;
}
