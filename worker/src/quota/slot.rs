//! A place for one call under a grant of Redis, and what each of its limits is owed when the call is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::limiter::bucket::slack_of_way;
use shared::limiter::{Bucket, Charge, Grant, Mark};

/// The right to begin one call, from its time on.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Not before this.
    pub(super) due: Instant,
    /// The earliest moment that this may have been for Redis.
    pub(super) booked: Instant,
    /// Under which limits.
    pub(super) base: Arc<[Charge]>,
    /// One for each of them, as it was before this call.
    pub(super) marks: Vec<Mark>,
    /// A refusal makes older slots void.
    pub(super) generation: u64,
}

/// One limit of a call under way.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) charge: Charge,
    pub(super) booked: Instant,
    pub(super) push: f64,
    /// The total of grants with this call.
    pub(super) total: f64,
}

/// Until how long after its time a slot may be used.
pub(super) fn lasts(base: &[Charge]) -> Duration {
    let shortest = base.iter().filter_map(|charge| charge.rule.period()).min();
    shortest.map_or(Duration::MAX, |period| {
        (period / 20).clamp(Duration::from_millis(10), Duration::from_millis(250))
    })
}

/// How late a call is taken to be at most that is long without an answer: an API can be slow at times. A quarter of the
/// period, at most 500 ms.
pub(super) fn longest_way(period: Duration) -> Duration {
    (period / 4).min(Duration::from_millis(500))
}

impl Slot {
    /// The slots of a grant that was asked for at `asked` and came at `answered`.
    pub(super) fn of(
        grant: &Grant,
        base: &Arc<[Charge]>,
        asked: Instant,
        answered: Instant,
        generation: u64,
    ) -> impl Iterator<Item = Self> {
        (0..grant.calls).map(move |n| Self {
            due: answered + grant.due(n),
            booked: asked + grant.due(n),
            base: Arc::clone(base),
            marks: grant
                .marks
                .iter()
                .zip(base.iter())
                .map(|(mark, charge)| mark.behind(Bucket::from(charge.rule), charge.cost, n))
                .collect(),
            generation,
        })
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.base
            .iter()
            .zip(&self.marks)
            .map(|(charge, mark)| Part::own(charge.clone(), self.booked, *mark))
    }
}

impl Part {
    /// A limit taken for one call.
    pub(super) fn own(charge: Charge, booked: Instant, mark: Mark) -> Self {
        let total = mark.total + f64::from(charge.cost);
        Self {
            charge,
            booked,
            push: mark.push,
            total,
        }
    }

    /// What the pushes of the bucket must come to when this call arrived no later than `quickest` before `now`.
    pub(super) fn late(&self, now: Instant, quickest: Duration) -> f64 {
        let Some(period) = self.charge.rule.period() else {
            return 0.0;
        };
        let way = now
            .saturating_duration_since(self.booked)
            .saturating_sub(quickest)
            .min(longest_way(period));
        let beyond = way.saturating_sub(slack_of_way(period));
        if beyond.is_zero() {
            return 0.0;
        }
        self.push + micros(beyond)
    }
}

/// Microseconds, in which the script counts.
pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
