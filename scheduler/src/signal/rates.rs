//! Rates of a queue from successive looks at it.

use std::time::Duration;

use super::Load;

/// How fast the past is forgotten: after so long it counts for a third.
const MEMORY: Duration = Duration::from_secs(30);
/// Attempts that must have ended within the memory for their time to be told: fewer say nothing new.
const ENOUGH: f64 = 1.0;

/// Most messages that come in such a time: no server keeps a million a second in one stream, and sequences can be made to
/// jump.
fn most_in(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A look at a service's queue, all of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When, counted from any fixed moment.
    pub at: Duration,
    /// When the stream was made, in any unit: one that was made anew counts from 1 again.
    pub made: i128,
    /// Sequence of the last message that came.
    pub last_sequence: u64,
    /// Deliveries that workers have got, repeated ones included.
    pub delivered: u64,
    /// Messages that no worker holds.
    pub pending: u64,
    /// Messages that workers hold.
    pub unacked: u64,
}

/// Rates of one service's queue, from looks at it that follow each other.
#[derive(Debug, Clone)]
pub struct Rates {
    /// Looks further apart say nothing of what happens now.
    longest_gap: Duration,
    previous: Option<Sample>,
    /// The first of the looks that follow each other.
    since: Duration,
    span: f64,
    arrived: f64,
    ended: f64,
    /// Messages held, times how long.
    held: f64,
    service_time: Option<f64>,
}

impl Rates {
    /// Nothing seen yet. Looks further apart than `longest_gap` begin anew.
    pub fn new(longest_gap: Duration) -> Self {
        Self {
            longest_gap,
            previous: None,
            since: Duration::ZERO,
            span: 0.0,
            arrived: 0.0,
            ended: 0.0,
            held: 0.0,
            service_time: None,
        }
    }

    /// Takes in a look. `None` while nothing can be told: after the first one, one after a gap or of a stream that was made
    /// anew, or one that is not later than the one before, until three quarters of the longest gap have been seen again.
    /// What piled up while nobody looked comes at once, and is no rate.
    pub fn look(&mut self, sample: Sample) -> Option<Load> {
        let previous = self.previous.take();
        // What a new leader does not know yet came before, and comes no second time when it does.
        let known = previous.filter(|previous| previous.made == sample.made);
        let last_sequence = known.map_or(0, |previous| previous.last_sequence);
        self.previous = Some(Sample {
            last_sequence: last_sequence.max(sample.last_sequence),
            ..sample
        });
        let follows = previous.filter(|previous| {
            previous.made == sample.made
                && previous.last_sequence <= sample.last_sequence
                && previous.at < sample.at
                && sample.at.saturating_sub(previous.at) <= self.longest_gap
                && sample.last_sequence - previous.last_sequence
                    <= most_in(sample.at.saturating_sub(previous.at))
        });
        let Some(previous) = follows else {
            // What an attempt takes does not change with the stream; how many come does.
            (self.span, self.arrived, self.ended, self.held) = (0.0, 0.0, 0.0, 0.0);
            self.since = sample.at;
            return None;
        };
        let span = sample.at.saturating_sub(previous.at).as_secs_f64();
        let arrived = sample.last_sequence - previous.last_sequence;
        // What was handed out and is held no more has ended, in whatever way. Messages that were purged were never handed
        // out. A consumer that was made anew counts from 1 again.
        let ended = previous
            .unacked
            .saturating_add(sample.delivered.saturating_sub(previous.delivered))
            .saturating_sub(sample.unacked);
        let held = f64::midpoint(previous.unacked as f64, sample.unacked as f64) * span;
        let kept = (-span / MEMORY.as_secs_f64()).exp();
        self.span = self.span * kept + span;
        self.arrived = self.arrived * kept + arrived as f64;
        self.ended = self.ended * kept + ended as f64;
        self.held = self.held * kept + held;
        if sample.at.saturating_sub(self.since) < self.longest_gap * 3 / 4 {
            return None;
        }
        if self.ended >= ENOUGH {
            self.service_time = Some(self.held / self.ended);
        }
        Some(Load {
            arrivals: self.arrived / self.span,
            service_time: self.service_time,
            pending: sample.pending,
            unacked: sample.unacked,
        })
    }
}
