//! The open loop: requests leave when they are due, not when earlier ones were answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{LoadResult, Phase, Schedule, Target, tally::Tally};

/// Requests that may be due and not yet taken up by the runtime.
const DUE: usize = 4096;

/// Bounds of an open loop.
#[derive(Clone, Debug)]
pub struct Open {
    /// Rates one after another.
    pub phases: Vec<Phase>,
    /// Most requests sent in all.
    pub max_requests: u64,
    /// Most requests without an answer at a time. A request that has to wait for a place is sent late, and its
    /// latency counts from when it was due.
    pub max_in_flight: u32,
}

/// Sends the load and waits for the last answer. `stop` ends the sending early. The target bounds each request's
/// time. The bar's length is set here.
pub async fn run<T: Target>(
    open: &Open,
    target: Arc<T>,
    progress: &ProgressBar,
    stop: &CancellationToken,
) -> LoadResult {
    let schedule = Schedule::new(open.phases.clone());
    progress.set_length(schedule.total().min(open.max_requests));
    let tally = Arc::new(Tally::new());
    let places = Arc::new(Semaphore::new(open.max_in_flight as usize));
    let started = Instant::now();
    let (due, mut arrivals) = mpsc::channel(DUE);
    let times = schedule.take(usize::try_from(open.max_requests).unwrap_or(usize::MAX));
    // A thread of its own: the runtime's timer counts in milliseconds, too coarse for an even arrival.
    let pacer = std::thread::spawn(move || {
        for offset in times {
            loop {
                let wait = offset.saturating_sub(started.elapsed());
                if due.is_closed() || wait.is_zero() {
                    break;
                }
                std::thread::park_timeout(wait);
            }
            if due.blocking_send(offset).is_err() {
                return;
            }
        }
    });
    let mut number = 0;
    loop {
        let arrival = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            arrival = arrivals.recv() => arrival,
        };
        let Some(offset) = arrival else { break };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        let (target, tally, progress) = (Arc::clone(&target), Arc::clone(&tally), progress.clone());
        tokio::spawn(async move {
            let late = started.elapsed().saturating_sub(offset);
            let sent = target.send(number).await;
            tally.add(sent, late, started.elapsed().saturating_sub(offset));
            show(&progress, &tally, started.elapsed());
            drop(place);
        });
        number += 1;
    }
    drop(arrivals);
    pacer.thread().unpark();
    // Every place is free only when every answer is in.
    let _ = places.acquire_many(open.max_in_flight).await;
    let result = tally.finish(started.elapsed(), true);
    progress.finish();
    result
}

pub(super) fn show(progress: &ProgressBar, tally: &Tally, elapsed: Duration) {
    progress.inc(1);
    let (accepted, other) = tally.so_far();
    if (accepted + other).is_multiple_of(64) {
        let rate = accepted as f64 / elapsed.as_secs_f64().max(1e-3);
        progress.set_message(format!("{accepted} accepted, {other} not, {rate:.0}/s"));
    }
}
