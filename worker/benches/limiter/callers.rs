//! Many callers at a time, and their times.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hdrhistogram::Histogram;

/// Askers at a time.
pub(crate) const CALLERS: usize = 64;
/// Different keys.
pub(crate) const KEYS: usize = 10_000;
/// What comes first is not measured.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);

/// Times in nanoseconds.
pub(crate) type Times = Histogram<u64>;

pub(crate) fn times() -> Times {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// Half and all but a hundredth, in a unit that suits.
pub(crate) fn show(times: &Times) -> String {
    let one = |quantile| {
        let micros = times.value_at_quantile(quantile) as f64 / 1e3;
        if micros < 100.0 {
            format!("{micros:.2} us")
        } else {
            format!("{:.2} ms", micros / 1e3)
        }
    };
    format!("p50 {}, p99 {}", one(0.5), one(0.99))
}

/// Callers that ask again, about what `next` says, as soon as they have an answer, until it says nothing. The times of
/// questions asked after `from`.
pub(crate) async fn ask_on<F, Fut>(
    callers: usize,
    from: Instant,
    next: impl Fn(usize) -> Option<usize> + Clone + Send + 'static,
    ask: F,
) -> Times
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let tasks = (0..callers).map(|caller| {
        let (next, ask) = (next.clone(), ask.clone());
        tokio::spawn(async move {
            let mut times = times();
            while let Some(about) = next(caller) {
                let start = Instant::now();
                ask(about).await;
                if start >= from {
                    times.record(nanos(start.elapsed())).unwrap();
                }
            }
            times
        })
    });
    let mut all = times();
    for part in join_all(tasks).await {
        all.add(part.unwrap()).unwrap();
    }
    all
}

/// For so long, each caller about its own: the times, and answers a second.
pub(crate) async fn closed_loop<F, Fut>(callers: usize, length: Duration, ask: F) -> (Times, f64)
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let from = Instant::now() + WARM_UP;
    let next = move |caller| (Instant::now() < from + length).then_some(caller);
    let times = ask_on(callers, from, next, ask).await;
    let rate = times.len() as f64 / length.as_secs_f64();
    (times, rate)
}

/// About each of so many keys once: how long that took.
pub(crate) async fn each_once<F, Fut>(ask: F) -> String
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (begun, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let next = move |_| Some(next.fetch_add(1, Relaxed)).filter(|n| *n < KEYS);
    let times = ask_on(CALLERS, begun, next, ask).await;
    format!("{} ms, {}", begun.elapsed().as_millis(), show(&times))
}
