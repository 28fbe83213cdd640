//! How far a replica is behind: pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Most places of the primary's log that are remembered.
const MARKS: usize = 64;

/// What a replica said of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replayed {
    /// How far it has replayed the primary's log, in bytes.
    pub to: u64,
    /// Time since the commit that it replayed last; `None` when it has replayed none since its start.
    pub since_commit: Option<Duration>,
}

/// Where the end of the primary's log was, and when.
#[derive(Debug, Clone, Default)]
pub struct Trail(VecDeque<(Instant, u64)>);

impl Trail {
    /// Notes that the primary's log ended there at that time.
    pub fn mark(&mut self, at: Instant, end: u64) {
        if self.0.back().is_some_and(|(_, last)| *last > end) {
            // Another server, or one that was set back: what was known is of no use.
            self.0.clear();
        }
        if self.0.len() == MARKS {
            self.0.pop_front();
        }
        self.0.push_back((at, end));
    }

    /// How old the replica's picture of the primary is at most; `None` when nobody knows.
    ///
    /// A replica that has replayed all is not behind, however long the primary has been idle. One that has not shows
    /// everything up to the commit that it replayed last, and everything up to the time when the log ended where it is
    /// now: the shorter of both counts, so that the first commit after an idle hour does not look like an hour's lag.
    pub fn lag(&self, now: Instant, replayed: Replayed) -> Option<Duration> {
        let (_, end) = self.0.back()?;
        if replayed.to >= *end {
            return Some(Duration::ZERO);
        }
        let passed = self.0.iter().rev().find(|(_, end)| *end <= replayed.to);
        let by_trail = passed.map(|(at, _)| now.saturating_duration_since(*at));
        match (by_trail, replayed.since_commit) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(to: u64, since_commit: Option<u64>) -> Replayed {
        Replayed {
            to,
            since_commit: since_commit.map(Duration::from_secs),
        }
    }

    #[test]
    fn an_idle_primary_is_no_lag_and_a_silent_replica_is() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut trail = Trail::default();
        assert_eq!(trail.lag(start, at(5, Some(0))), None, "the primary is not known");
        trail.mark(after(0), 100);
        trail.mark(after(3_600), 100);
        assert_eq!(
            trail.lag(after(3_600), at(100, Some(3_600))),
            Some(Duration::ZERO)
        );
        trail.mark(after(3_602), 150);
        // The first write after an idle hour is not replayed yet: what was there two seconds ago is.
        let lag = trail.lag(after(3_602), at(100, Some(3_602)));
        assert_eq!(lag, Some(Duration::from_secs(2)));
        assert_eq!(
            trail.lag(after(3_602), at(150, Some(3_602))),
            Some(Duration::ZERO)
        );
        assert_eq!(
            trail.lag(after(3_602), at(200, None)),
            Some(Duration::ZERO),
            "it went on"
        );
        for seconds in 3_603..3_700 {
            trail.mark(after(seconds), seconds * 10);
        }
        let lag = trail.lag(after(3_700), at(100, Some(98)));
        assert_eq!(
            lag,
            Some(Duration::from_secs(98)),
            "longer ago than is remembered"
        );
        assert_eq!(trail.lag(after(3_700), at(100, None)), None);
        let lag = trail.lag(after(3_700), at(36_900, Some(3_000)));
        assert_eq!(lag, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_log_that_goes_back_is_another_one() {
        let start = Instant::now();
        let mut trail = Trail::default();
        trail.mark(start, 1_000);
        trail.mark(start, 10);
        assert_eq!(trail.lag(start, at(5, None)), None);
        assert_eq!(trail.lag(start, at(10, None)), Some(Duration::ZERO));
    }
}
