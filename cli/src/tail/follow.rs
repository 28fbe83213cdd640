//! What is new among what has been looked at: pure.

use std::collections::BTreeSet;

use shared::store::history::{Entry, Place};

/// Most places that are remembered as shown.
const REMEMBERED: usize = 200_000;

/// The order of all entries.
type Key = (i64, String, String);

/// Follows what comes. A worker's row bears the time when its attempt ended and is there only when it is recorded, so each
/// look goes back a little, and what has been shown is left out.
#[derive(Debug)]
pub(super) struct Follower {
    /// What was before this has no interest.
    begin: i64,
    /// The latest time seen, none later than when it was seen: a clock that is ahead must not hide what others record.
    newest: i64,
    overlap: i64,
    shown: BTreeSet<Key>,
}

impl Follower {
    /// Begins at a time, microseconds since the Unix epoch.
    pub(super) fn new(begin: i64, overlap: i64) -> Self {
        Self {
            begin,
            newest: begin,
            overlap,
            shown: BTreeSet::new(),
        }
    }

    /// Where the next look begins.
    pub(super) fn from(&self) -> Place {
        Place {
            at_us: (self.newest - self.overlap).max(self.begin),
            ..Place::default()
        }
    }

    /// What of these rows is new.
    pub(super) fn take(&mut self, rows: Vec<Entry>, now: i64) -> Vec<Entry> {
        if let Some(last) = rows.last() {
            self.newest = self.newest.max(last.at_us.min(now));
        }
        let fresh = rows.into_iter().filter(|row| {
            let key = (row.at_us, row.event_id.clone(), row.service.clone());
            self.shown.insert(key)
        });
        let fresh = fresh.collect();
        let from = self.from().at_us;
        while self.shown.first().is_some_and(|(at, ..)| *at < from) || self.shown.len() > REMEMBERED {
            self.shown.pop_first();
        }
        fresh
    }

    /// Leaves out what has not been looked at by now.
    pub(super) fn skip_to(&mut self, now: i64) {
        self.begin = self.begin.max(now - self.overlap);
        self.newest = self.newest.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_us: i64, event: &str) -> Entry {
        Entry {
            event_id: event.into(),
            service: "github".into(),
            state: "done".into(),
            attempts: 1,
            class: None,
            code: String::new(),
            detail: String::new(),
            took_ms: 1,
            worker: String::new(),
            trace_id: String::new(),
            tenant: None,
            accepted_ms: None,
            at_us,
        }
    }

    fn ids(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.event_id.as_str()).collect()
    }

    #[test]
    fn what_is_recorded_late_is_shown_and_nothing_twice() {
        let mut follower = Follower::new(1_000, 300);
        assert_eq!(follower.from().at_us, 1_000);
        let rows = vec![entry(1_100, "a"), entry(1_400, "c")];
        assert_eq!(ids(&follower.take(rows, 1_500)), ["a", "c"]);
        assert_eq!(follower.from().at_us, 1_100);
        // It ended before the last one and is there only now.
        let rows = vec![entry(1_100, "a"), entry(1_300, "b"), entry(1_400, "c")];
        assert_eq!(ids(&follower.take(rows, 1_600)), ["b"]);
        assert_eq!(ids(&follower.take(vec![entry(2_000, "d")], 2_000)), ["d"]);
        assert_eq!(follower.shown.len(), 1, "what no look goes back to is forgotten");
    }

    #[test]
    fn a_clock_that_is_ahead_hides_nobody_else() {
        let mut follower = Follower::new(0, 300);
        let rows = vec![entry(1_000, "a"), entry(9_000_000, "ahead")];
        assert_eq!(ids(&follower.take(rows, 1_100)), ["a", "ahead"]);
        assert_eq!(follower.from().at_us, 800);
        let rows = vec![entry(1_000, "a"), entry(1_050, "b"), entry(9_000_000, "ahead")];
        assert_eq!(ids(&follower.take(rows, 1_200)), ["b"]);
    }

    #[test]
    fn what_is_left_out_stays_out_and_memory_is_bounded() {
        let mut follower = Follower::new(0, 1_000_000);
        let many = (0..REMEMBERED as i64 + 10).map(|n| entry(n, "e")).collect();
        assert_eq!(follower.take(many, 500_000).len(), REMEMBERED + 10);
        assert_eq!(follower.shown.len(), REMEMBERED);
        follower.skip_to(5_000_000);
        assert_eq!(follower.from().at_us, 4_000_000);
    }
}
