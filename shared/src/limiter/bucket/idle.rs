//! Calls that nobody else needs: what may be taken of a bucket that is more than half full.

use super::{Bucket, NEAR, Part};

impl Part {
    /// How many calls may start at `u` so that at least half of the limit stays: half of the burst (and one call at least,
    /// or the next event would wait), half of the calls of the period or window, half of the places, and half of it by
    /// what the provider says is left. A limit without a burst has none to spare.
    pub fn spare(&self, u: f64) -> f64 {
        let s = &self.state;
        let (mut spare, half) = match self.bucket {
            Bucket::Paced {
                interval,
                period,
                slack,
            } => {
                let (epoch, prev, cur, early) = self.idle(u);
                // Of a larger one, more than half the calls are there only for those who ask for them at once.
                let burst = (slack / interval + 1.5).min(period / interval / 2.0).floor();
                let stays = (burst / 2.0).ceil().max(1.0);
                let at_once = early + u - s.time().max(u) - (stays - 1.0) * interval;
                // Remembered are half a period and what has passed of the next half: as much of it as was not idle is
                // used, and with these calls that is to be half a period at most.
                let in_all = prev + cur + epoch - u;
                let calls = (at_once.min(in_all) + NEAR) / (self.cost * interval);
                (calls.floor(), period / interval / 2.0)
            }
            Bucket::Window { calls, period, .. } => {
                let used = if u < s.time() { s.epoch } else { 0.0 };
                let left = self.cap(u, calls, period) - used;
                (((left - calls / 2.0) / self.cost).floor(), calls / 2.0)
            }
            Bucket::AtOnce { calls } => ((calls - s.held(u) - calls / 2.0).floor(), calls / 2.0),
        };
        if u < s.reset {
            spare = spare.min(((s.ceiling - s.total - half) / self.cost).floor());
        }
        spare.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::float_cmp,
        reason = "tests panic on failure; the arithmetic is exact here"
    )]

    use super::super::{Report, take, take_as};
    use super::*;
    use crate::limiter::Rule;

    const NOW: f64 = 1e12;

    fn part(rule: &str, cost: u32) -> Part {
        let rule: Rule = rule.parse().unwrap();
        Part::new(rule.into(), cost, None, 0.0, NOW)
    }

    /// How many calls are spare, one after the other, after so many that were not.
    fn spare_after(rule: &str, cost: u32, calls: f64) -> f64 {
        let mut part = [part(rule, cost)];
        take(NOW, &mut part, calls, 0.0, 0.0);
        let mut spare = 0.0;
        while take_as(NOW, &mut part, 1.0, 0.0, 0.0, true).calls > 0.0 {
            spare += 1.0;
        }
        spare
    }

    #[test]
    fn half_of_every_limit_stays() {
        for (rule, cost, calls, spare) in [
            ("100 per second, burst 20", 1, 0.0, 10.0),
            ("100 per second, burst 20", 3, 0.0, 3.0),
            ("100 per second, burst 20", 1, 7.0, 3.0),
            ("100 per second, burst 20", 1, 10.0, 0.0),
            ("100 per second, burst 7", 1, 0.0, 3.0),
            ("100 per second, burst 2", 1, 0.0, 1.0),
            // The next event would wait.
            ("100 per second, burst 1", 1, 0.0, 0.0),
            ("100 per second, burst 100", 1, 0.0, 25.0),
            ("10 per second, fixed", 1, 0.0, 5.0),
            ("10 per second, fixed", 2, 1.0, 1.0),
            ("10 per second, fixed", 1, 5.0, 0.0),
            ("1 per second, fixed", 1, 0.0, 0.0),
        ] {
            assert_eq!(
                spare_after(rule, cost, calls),
                spare,
                "{rule}, {cost} each, after {calls}"
            );
        }
    }

    #[test]
    fn a_limit_that_was_used_for_half_its_period_has_nothing_to_spare() {
        let mut part = [part("100 per second, burst 10", 1)];
        let mut now = NOW;
        for _ in 0..70 {
            take(now, &mut part, 1.0, 0.0, 0.0);
            now += 10_050.0;
        }
        // A burst is there again, and nobody has asked for 150 ms.
        now += 150_000.0;
        assert!(part[0].room(now, 10.0, 0.0).0 >= 10.0);
        assert_eq!(part[0].spare(now), 0.0);
        assert!(part[0].spare(now + 1e6) > 0.0);
    }

    #[test]
    fn what_the_provider_says_is_left_counts() {
        let mut part = part("5000 per hour, burst 100", 1);
        assert_eq!(part.spare(NOW), 50.0);
        let said = |left: f64| Report {
            ceiling: left,
            left,
            reset: 3e9,
            tolerance: 50.0,
            ..Report::default()
        };
        part.report(NOW, &said(2_510.0));
        assert!((1.0..=20.0).contains(&part.spare(NOW)), "{}", part.spare(NOW));
        part.report(NOW, &said(2_000.0));
        assert_eq!(part.spare(NOW), 0.0);
    }
}
