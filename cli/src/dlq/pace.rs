//! How fast letters may go.

use std::time::Duration;

use tokio::time::Instant;

use crate::args::Rate;

/// How late a timer may wake; what is due within it may begin together.
const GRAIN: Duration = Duration::from_millis(2);

/// A pace that no span as long as the rate's ever breaks, wherever it begins: what may begin together is taken off what
/// may follow.
pub(super) struct Pace {
    gap: Duration,
    slack: Duration,
    due: Option<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        let a_second = rate.count / rate.per.as_secs_f64();
        // Room for late timers costs its share of every span; where letters are few, being late costs less.
        let together = if rate.count * a_second > 1000.0 {
            1.0 + (a_second * GRAIN.as_secs_f64()).ceil()
        } else {
            1.0
        };
        // Nothing is lost by rounding up, and a span would hold one too many by rounding down.
        let gap = (rate.per.as_nanos() as f64 / (rate.count - together + 1.0)).ceil();
        let gap = Duration::from_nanos(gap as u64);
        Self {
            gap,
            slack: gap.mul_f64(together - 1.0),
            due: None,
        }
    }

    /// When the next may begin; the past means now.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.and_then(|due| due.checked_sub(self.slack))
    }

    /// One begins.
    pub(super) fn begun(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + self.gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments at which letters begin whose timers wake up to `late` late.
    fn begins(rate: Rate, late: Duration, wanted: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut pace = Pace::new(rate);
        let (mut now, mut begun) = (start, Vec::new());
        while begun.len() < wanted {
            if let Some(next) = pace.next()
                && next > now
            {
                // Lateness of every size in turn, and one long pause.
                let late = late.mul_f64((begun.len() % 7) as f64 / 6.0);
                now = next + if begun.len() == wanted / 2 { rate.per } else { late };
            }
            pace.begun(now);
            begun.push(now - start);
        }
        begun
    }

    #[test]
    fn no_span_holds_more_than_the_rate_and_nearly_all_of_it_is_used() {
        for (count, seconds) in [
            (1.0, 1),
            (3.0, 1),
            (32.0, 1),
            (60.0, 60),
            (100.0, 60),
            (999.0, 1),
            (5000.0, 1),
            (50_000.0, 1),
        ] {
            let per = Duration::from_secs(seconds);
            let rate = Rate { count, per };
            let wanted = (count * 4.0) as usize + 4;
            let begun = begins(rate, Duration::from_micros(1500), wanted);
            for (n, first) in begun.iter().enumerate() {
                let held = begun[n..].partition_point(|at| *at < *first + per);
                assert!(held as f64 <= count, "{held} of {count} in {per:?}");
            }
            let took = begun.last().unwrap().as_secs_f64() - per.as_secs_f64();
            let ideal = wanted as f64 / count * per.as_secs_f64();
            assert!(
                took < ideal * 1.04 + 0.1 * per.as_secs_f64(),
                "{took} s for {ideal} s at {count}"
            );
        }
    }
}
