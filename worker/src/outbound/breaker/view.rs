//! What a worker knows of one upstream at a moment.

use std::time::{Duration, Instant};

use shared::breaker::{Heard, Record, Standing, Window};

/// How often a worker tells its counts while calls fail; and at most, when it is asked.
const TELL_EVERY: Duration = Duration::from_secs(1);
const TELL_ASKED: Duration = Duration::from_millis(50);

/// What there is to tell the others, the most urgent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tell {
    Nothing,
    /// Calls have failed of which they have not heard.
    Failures,
    /// The counts, because one of them asked.
    Answer,
    /// The counts, and theirs are wanted.
    Question,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) record: Record,
    /// Of the record in the bucket; 0 when there is none.
    pub(super) revision: u64,
    /// When the record began to hold.
    pub(super) began: Instant,
    /// When it changed last here, and how often it has.
    pub(super) changed: Instant,
    pub(super) version: u64,
    /// When the bucket was looked at last.
    pub(super) looked: Option<Instant>,
    /// The record was made here and is not in the bucket yet.
    pub(super) unsaved: bool,
    pub(super) window: Window,
    pub(super) heard: Heard,
    /// The last failure counted here.
    pub(super) why: String,
    pub(super) tell: Tell,
    pub(super) told: Option<Instant>,
    /// The others' counts are awaited until then.
    pub(super) hold: Option<Instant>,
    /// They were in vain until then.
    pub(super) rested: Option<Instant>,
}

impl View {
    /// Of an upstream of which nothing is known.
    pub(super) fn new(unused: &Record, window: Duration) -> Self {
        let now = Instant::now();
        Self {
            record: unused.clone(),
            revision: 0,
            began: now,
            changed: now,
            version: 0,
            looked: None,
            unsaved: false,
            window: Window::new(window, now),
            heard: Heard::default(),
            why: String::new(),
            tell: Tell::Nothing,
            told: None,
            hold: None,
            rested: None,
        }
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.record.standing(now.saturating_duration_since(self.began)) {
            Standing::Closed => match self.hold.filter(|hold| *hold > now) {
                Some(hold) => Standing::Open(hold - now),
                None => Standing::Closed,
            },
            other => other,
        }
    }

    pub(super) fn tell_at(&self) -> Option<Instant> {
        let pause = match self.tell {
            Tell::Nothing => return None,
            Tell::Failures => TELL_EVERY,
            Tell::Answer => TELL_ASKED,
            Tell::Question => Duration::ZERO,
        };
        Some(self.told.map_or(self.changed, |told| told + pause))
    }
}
