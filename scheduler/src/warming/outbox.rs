//! Keys that are to be fetched, and when the next of them leave: spread over the time until the next round, never in a burst.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::warm::plan::{BATCH, Warm};

/// Longest pause between two requests while there is something to ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What was planned and has not left.
#[derive(Debug)]
pub(super) struct Outbox {
    planned: VecDeque<Warm>,
    /// The next request leaves no sooner.
    next: Instant,
    /// By then all of it is to have left.
    by: Instant,
}

impl Outbox {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            planned: VecDeque::new(),
            next: now,
            by: now,
        }
    }

    /// Takes in what a round planned; all of it is to leave by `by`.
    pub(super) fn round(&mut self, plan: Vec<Warm>, by: Instant) {
        self.planned.extend(plan);
        self.by = by;
    }

    /// Takes in what will be asked for very soon.
    pub(super) fn soon(&mut self, plan: Vec<Warm>) {
        for warm in plan.into_iter().rev() {
            self.planned.push_front(warm);
        }
    }

    /// When the next request is to leave; `None` where there is nothing to ask for.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.planned.is_empty()).then_some(self.next)
    }

    /// The keys of the next request, and the pause after it.
    pub(super) fn batch(&mut self, now: Instant) -> Vec<Warm> {
        let requests = self.planned.len().div_ceil(BATCH).max(1);
        let pause = self.by.saturating_duration_since(now) / requests as u32;
        self.next = now + pause.min(LONGEST_PAUSE);
        let most = self.planned.len().min(BATCH);
        self.planned.drain(..most).collect()
    }

    /// Nothing of it is to leave any more.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Warm> {
        self.planned.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warm::plan::Reason;
    use crate::warm::predict::Source;

    fn plan(keys: std::ops::Range<u64>) -> Vec<Warm> {
        let warm = |key| Warm {
            key,
            source: Source::Rhythm,
            reason: Reason::Ahead,
            probability: 0.9,
        };
        keys.map(warm).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_leaves_in_even_steps_and_what_is_urgent_first() {
        let start = Instant::now();
        let mut outbox = Outbox::new(start);
        assert_eq!(outbox.due(), None);
        outbox.round(plan(0..195), start + Duration::from_secs(60));
        let (mut now, mut sizes) = (start, Vec::new());
        while let Some(due) = outbox.due() {
            now = due;
            sizes.push(outbox.batch(now).len());
            if sizes.len() == 1 {
                outbox.soon(plan(500..502));
                assert_eq!(outbox.planned[0].key, 500);
                assert_eq!(outbox.planned[1].key, 501);
            }
        }
        assert_eq!(sizes.iter().sum::<usize>(), 197);
        assert!(sizes.iter().all(|size| *size <= BATCH));
        let took = now - start;
        assert!(
            (Duration::from_secs(50)..Duration::from_secs(60)).contains(&took),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_keys_do_not_wait_for_the_end_of_the_round() {
        let start = Instant::now();
        let mut outbox = Outbox::new(start);
        outbox.round(plan(0..15), start + Duration::from_secs(60));
        assert_eq!(outbox.batch(start).len(), 10);
        assert_eq!(outbox.due(), Some(start + LONGEST_PAUSE));
        assert_eq!(outbox.clear().count(), 5);
        assert_eq!(outbox.due(), None);
    }
}
