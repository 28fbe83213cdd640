//! Counts of a sliding window: one's own, and those that others told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Counts;

/// Parts of a window: a call counts for the window's length, up to one part less.
const PARTS: usize = 10;
/// Workers whose counts are kept; whoever comes beyond that is not heard.
const MOST_WORKERS: usize = 1_000;
/// Most calls that a worker is believed to have made within a window.
const MOST_CALLS: u64 = 1_000_000_000;

/// Calls of the last so many seconds.
#[derive(Debug)]
pub struct Window {
    part: Duration,
    began: Instant,
    parts: [(u64, Counts); PARTS],
}

impl Window {
    /// An empty one of this length.
    pub fn new(length: Duration, now: Instant) -> Self {
        let part = (length / PARTS as u32).max(Duration::from_millis(1));
        Self {
            part,
            began: now,
            parts: [(0, Counts::default()); PARTS],
        }
    }

    /// Counts a call that ended now.
    pub fn count(&mut self, failed: bool, now: Instant) {
        let number = self.number(now);
        let (of, counts) = &mut self.parts[(number % PARTS as u64) as usize];
        if *of != number {
            (*of, *counts) = (number, Counts::default());
        }
        counts.calls += 1;
        counts.failures += u64::from(failed);
    }

    /// What it holds.
    pub fn counts(&self, now: Instant) -> Counts {
        let number = self.number(now);
        let recent = self.parts.iter().filter(|(of, _)| of + PARTS as u64 > number);
        recent.fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    }

    /// Forgets all calls.
    pub fn clear(&mut self) {
        self.parts = [(0, Counts::default()); PARTS];
    }

    fn number(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.began).as_nanos() / self.part.as_nanos()) as u64
    }
}

/// What other workers told of their calls, the last of each.
#[derive(Debug, Default)]
pub struct Heard(HashMap<String, (Instant, Counts)>);

impl Heard {
    /// A worker's counts, instead of what it told before.
    pub fn hear(&mut self, worker: &str, counts: Counts, now: Instant) {
        let calls = counts.calls.min(MOST_CALLS);
        let counts = Counts {
            calls,
            failures: counts.failures.min(calls),
        };
        if self.0.len() < MOST_WORKERS || self.0.contains_key(worker) {
            self.0.insert(worker.to_owned(), (now, counts));
        }
    }

    /// The sum of what was told within `window`.
    pub fn counts(&mut self, window: Duration, now: Instant) -> Counts {
        self.0
            .retain(|_, (told, _)| now.saturating_duration_since(*told) < window);
        let all = self.0.values();
        all.fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
