//! What came of a load: answers by kind, accepted ids, latencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency told apart, in microseconds; longer ones count as this.
const MAX_MICROS: u64 = 600_000_000;
/// Digits of a latency that are kept, as HDR histograms count them.
const DIGITS: u8 = 3;

/// What one request was answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Kept for good: 202, or an acknowledged publish.
    Accepted,
    /// An answer that accepted nothing: an HTTP status.
    Status(u16),
    /// No answer, and why in one word.
    Failed(&'static str),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// One request's end.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What it was answered.
    pub outcome: Outcome,
    /// The event's id; told only of accepted ones.
    pub id: Option<String>,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half are quicker.
    pub p50: u64,
    /// Nine of ten are quicker.
    pub p90: u64,
    /// 19 of 20 are quicker.
    pub p95: u64,
    /// 99 of 100 are quicker.
    pub p99: u64,
    /// The slowest.
    pub max: u64,
    /// How many were measured.
    pub count: u64,
}

impl Latency {
    /// An empty histogram of microseconds, up to ten minutes with three digits.
    pub fn histogram() -> Histogram<u64> {
        let Ok(histogram) = Histogram::new_with_bounds(1, MAX_MICROS, DIGITS) else {
            unreachable!("the bounds are constants that a histogram takes")
        };
        histogram
    }

    /// Percentiles of a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            max: histogram.max(),
            count: histogram.len(),
        }
    }
}

/// What came of a load.
#[derive(Clone, Debug, Serialize)]
pub struct LoadResult {
    /// Requests sent.
    pub sent: u64,
    /// Answers by kind: `accepted`, an HTTP status, or a word for no answer.
    pub outcomes: BTreeMap<String, u64>,
    /// Ids of accepted events, each once.
    #[serde(skip)]
    pub accepted_ids: BTreeSet<String>,
    /// Of accepted requests, to their answer.
    pub latency: Latency,
    /// Whether latencies count from when a request was due (open loop) or from when it was sent (closed loop).
    pub from_due: bool,
    /// Most microseconds that a request was sent after it was due: large when the load was more
    /// than the in-flight bound or this machine could send.
    pub latest_start_micros: u64,
    /// From the first request due to the last answer.
    pub elapsed: Duration,
    /// Accepted requests a second over that time.
    pub accepted_per_second: f64,
}

impl LoadResult {
    /// Requests answered in this way.
    pub fn count(&self, outcome: &Outcome) -> u64 {
        self.outcomes.get(&outcome.to_string()).copied().unwrap_or(0)
    }
}

struct Inner {
    outcomes: BTreeMap<Outcome, u64>,
    accepted_ids: BTreeSet<String>,
    latency: Histogram<u64>,
    latest_start: Duration,
    sent: u64,
}

/// Counts while the load runs.
pub(super) struct Tally {
    inner: Mutex<Inner>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let inner = Inner {
            outcomes: BTreeMap::new(),
            accepted_ids: BTreeSet::new(),
            latency: Latency::histogram(),
            latest_start: Duration::ZERO,
            sent: 0,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Counts one request: how late it was sent, and how long after it was due it was answered.
    pub(super) fn add(&self, sent: Sent, late: Duration, took: Duration) {
        let mut inner = self.inner();
        inner.sent += 1;
        inner.latest_start = inner.latest_start.max(late);
        if sent.outcome == Outcome::Accepted {
            inner.latency.saturating_record((took.as_micros() as u64).max(1));
            inner.accepted_ids.extend(sent.id);
        }
        *inner.outcomes.entry(sent.outcome).or_default() += 1;
    }

    /// Accepted and not accepted so far.
    pub(super) fn so_far(&self) -> (u64, u64) {
        let inner = self.inner();
        let accepted = inner.outcomes.get(&Outcome::Accepted).copied().unwrap_or(0);
        (accepted, inner.sent - accepted)
    }

    pub(super) fn finish(&self, elapsed: Duration, from_due: bool) -> LoadResult {
        let mut inner = self.inner();
        let accepted = inner.outcomes.get(&Outcome::Accepted).copied().unwrap_or(0);
        LoadResult {
            sent: inner.sent,
            outcomes: inner
                .outcomes
                .iter()
                .map(|(kind, count)| (kind.to_string(), *count))
                .collect(),
            accepted_ids: std::mem::take(&mut inner.accepted_ids),
            latency: Latency::of(&inner.latency),
            from_due,
            latest_start_micros: inner.latest_start.as_micros() as u64,
            elapsed,
            accepted_per_second: accepted as f64 / elapsed.as_secs_f64().max(1e-9),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
