//! Whether a quota that comes back only at its reset lasts until then, and what the lowest lane may take of it if it does
//! not. Pure: time is an argument.

use std::time::{Duration, Instant};

/// How long the past counts: an observation weighs half after so long.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// The part of what is left that the lowest lane gets whatever the others want, so that it never starves.
const LEAST: f64 = 0.05;

/// How fast a quota is used, and by whom.
#[derive(Debug, Default)]
pub struct Forecast {
    seen: Option<(Instant, f64)>,
    /// Calls a second of the whole fleet.
    rate: f64,
    /// Of 1, what the upper lanes pull here.
    upper: f64,
}

impl Forecast {
    /// The fleet's calls have come to `total`.
    pub fn observe(&mut self, now: Instant, total: f64) {
        let Some((then, before)) = self.seen else {
            self.seen = Some((now, total));
            return;
        };
        let passed = now.saturating_duration_since(then).as_secs_f64();
        if passed < 0.1 {
            return;
        }
        let kept = 0.5_f64.powf(passed / HALF_LIFE.as_secs_f64());
        let rate = (total - before).max(0.0) / passed;
        self.rate = if self.rate == 0.0 {
            rate
        } else {
            rate + (self.rate - rate) * kept
        };
        self.seen = Some((now, total));
    }

    /// So many messages were pulled from the upper lanes and from the lowest.
    pub fn pulled(&mut self, upper: usize, lowest: usize) {
        for (count, side) in [(upper, 1.0), (lowest, 0.0)] {
            // A hundred messages weigh half.
            self.upper = side + (self.upper - side) * 0.5_f64.powf(count as f64 / 100.0);
        }
    }

    /// When `left` calls until `reset` do not last: how far apart the calls of the lowest lane have to be in one of
    /// `workers`, so that the others find what they are used to.
    pub fn lowest_every(&self, left: f64, reset: Duration, workers: u32) -> Option<Duration> {
        let reset = reset.as_secs_f64();
        if self.rate * reset <= left {
            return None;
        }
        let wanted = self.rate * self.upper * reset;
        let spare = (left - wanted).max(left * LEAST);
        let every = (reset / spare.max(0.001) * f64::from(workers)).min(reset.max(0.001));
        Some(Duration::from_secs_f64(every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rate: f64, upper: usize, lowest: usize) -> Forecast {
        let (mut forecast, start) = (Forecast::default(), Instant::now());
        for second in 0..600 {
            forecast.observe(start + Duration::from_secs(second), rate * second as f64);
            forecast.pulled(upper, lowest);
        }
        forecast
    }

    #[test]
    fn the_lowest_lane_is_slowed_when_the_quota_would_not_last() {
        let minute = Duration::from_secs(60);
        let busy = at(10.0, 2, 8);
        assert_eq!(busy.lowest_every(700.0, minute, 1), None, "it lasts");
        let every = busy.lowest_every(300.0, minute, 1).unwrap();
        // 10 a second with a fifth from above want 120 of the 300: 180 are left for the lowest lane, 3 a second.
        assert!((0.3..0.37).contains(&every.as_secs_f64()), "{every:?}");
        let of_four = busy.lowest_every(300.0, minute, 4).unwrap();
        assert!((of_four.as_secs_f64() / every.as_secs_f64() - 4.0).abs() < 0.01);
        let urgent = at(10.0, 10, 1);
        let every = urgent.lowest_every(300.0, minute, 1).unwrap();
        assert!(
            (3.9..4.1).contains(&every.as_secs_f64()),
            "a twentieth, never nothing: {every:?}"
        );
        assert_eq!(urgent.lowest_every(0.0, minute, 1), Some(minute));
        assert_eq!(Forecast::default().lowest_every(0.0, minute, 1), None);
    }
}
