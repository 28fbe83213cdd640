//! The closed loop: so many senders, each waiting for its answer before the next request. It finds the most that
//! goes through; its latencies say nothing about a load that does not wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{LoadResult, Target, open::show, tally::Tally};

/// Bounds of a closed loop; it ends at whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Senders at the same time.
    pub connections: usize,
    /// Most requests sent in all.
    pub max_requests: u64,
    /// Longest time in which requests are begun.
    pub lasts: Duration,
}

/// Sends as much as goes through and waits for the last answer. `stop` ends the sending early.
pub async fn saturate<T: Target>(
    closed: Closed,
    target: Arc<T>,
    progress: &ProgressBar,
    stop: &CancellationToken,
) -> LoadResult {
    progress.set_length(closed.max_requests);
    let tally = Arc::new(Tally::new());
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..closed.connections {
        let (target, tally, next) = (Arc::clone(&target), Arc::clone(&tally), Arc::clone(&next));
        let (progress, stop) = (progress.clone(), stop.clone());
        senders.spawn(async move {
            while started.elapsed() < closed.lasts && !stop.is_cancelled() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= closed.max_requests {
                    return;
                }
                let begun = Instant::now();
                let sent = target.send(number).await;
                tally.add(sent, Duration::ZERO, begun.elapsed());
                show(&progress, &tally, started.elapsed());
            }
        });
    }
    while senders.join_next().await.is_some() {}
    progress.finish();
    tally.finish(started.elapsed(), false)
}
