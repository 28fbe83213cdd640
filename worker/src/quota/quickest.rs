//! The quickest answer, which bounds how late a call may have arrived.

use std::time::{Duration, Instant};

/// The quickest answer of the last minute or two: no call is under way for less after its arrival.
#[derive(Debug, Default)]
pub(super) struct Quickest {
    now: Option<(Instant, Duration)>,
    before: Duration,
}

impl Quickest {
    pub(super) fn saw(&mut self, took: Duration, now: Instant) {
        match &mut self.now {
            Some((since, least)) if now.duration_since(*since) < Duration::from_secs(60) => {
                *least = took.min(*least);
            }
            Some((since, least)) => (*since, self.before, *least) = (now, *least, took),
            None => self.now = Some((now, took)),
        }
    }

    pub(super) fn least(&self) -> Duration {
        self.now
            .map_or(Duration::ZERO, |(_, least)| least.min(self.before))
    }
}
