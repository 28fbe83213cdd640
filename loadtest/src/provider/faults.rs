//! Faults the simulated provider adds: latency, errors, hanging, cut answers.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use rand::Rng;
use serde::{Deserialize, Serialize};
use shared::config::value::duration;

/// Request header that chooses the fault of one call, e.g. `latency=200ms, status=503`, `hang` or `close`.
pub const FAULT_HEADER: &str = "weir-sim-fault";

/// Standard score of the 99th percentile of a normal distribution.
const Z99: f64 = 2.326_347_9;
/// Longest latency a fault may add.
const MAX_LATENCY_MS: f64 = 600_000.0;
const MAX_DELAY: Duration = Duration::from_mins(10);

/// What goes wrong and how often; shares are 0 to 1 and are drawn for each call apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Median latency in milliseconds.
    pub latency_p50_ms: f64,
    /// 99th percentile in milliseconds; at or below the median the latency is fixed. Log-normal.
    pub latency_p99_ms: f64,
    /// Share of calls answered 500 without an effect.
    pub errors: f64,
    /// Share of calls never answered, without an effect.
    pub hangs: f64,
    /// Share of calls whose answer ends in the middle of its body, after the effect took place.
    pub closes: f64,
    /// Share of calls answered 500 although the effect took place.
    pub late_errors: f64,
    /// Share of calls never answered although the effect took place.
    pub swallows: f64,
    /// Share of Slack's calls answered 200 with an error in it, without an effect; other APIs do not do this.
    pub lies: f64,
}

/// A fault setting that makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {why}")]
pub struct BadFaults {
    field: &'static str,
    why: &'static str,
}

/// How one call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As the API says.
    Served,
    /// With this status, without an effect.
    Error(StatusCode),
    /// Never.
    Hang,
    /// Served, but the body is cut.
    Cut,
    /// With this status, after the effect.
    LateError(StatusCode),
    /// Never, after the effect.
    Swallow,
    /// 200 with an error in it where the API has that, without an effect; elsewhere served.
    Lie,
}

/// The fault drawn for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Wait before the answer.
    pub delay: Duration,
    /// How the call ends.
    pub fate: Fate,
}

impl Faults {
    /// Checks that shares are shares and latencies bounded.
    pub fn validate(&self) -> Result<(), BadFaults> {
        let shares = [
            ("errors", self.errors),
            ("hangs", self.hangs),
            ("closes", self.closes),
            ("late_errors", self.late_errors),
            ("swallows", self.swallows),
            ("lies", self.lies),
        ];
        for (field, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(BadFaults {
                    field,
                    why: "must be a share from 0 to 1",
                });
            }
        }
        let latencies = [
            ("latency_p50_ms", self.latency_p50_ms),
            ("latency_p99_ms", self.latency_p99_ms),
        ];
        for (field, latency) in latencies {
            if !(0.0..=MAX_LATENCY_MS).contains(&latency) {
                return Err(BadFaults {
                    field,
                    why: "must be 0 to 600000 ms",
                });
            }
        }
        Ok(())
    }

    /// Draws the fault of one call; the request's own [`FAULT_HEADER`] wins.
    pub fn draw(&self, headers: &HeaderMap, rng: &mut impl Rng) -> Draw {
        let mut draw = Draw {
            delay: self.latency(rng),
            fate: self.fate(rng),
        };
        let wish = headers.get(FAULT_HEADER).and_then(|value| value.to_str().ok());
        for part in wish.into_iter().flat_map(|text| text.split(',')) {
            match part.trim().split_once('=').unwrap_or((part.trim(), "")) {
                ("hang", _) => draw.fate = Fate::Hang,
                ("close", _) => draw.fate = Fate::Cut,
                ("swallow", _) => draw.fate = Fate::Swallow,
                ("lie", _) => draw.fate = Fate::Lie,
                ("none", _) => draw.fate = Fate::Served,
                ("status", code) => {
                    if let Some(status) = code.parse().ok().filter(StatusCode::is_server_error) {
                        draw.fate = Fate::Error(status);
                    }
                }
                ("latency", wait) => draw.delay = duration(wait).unwrap_or(draw.delay).min(MAX_DELAY),
                _ => {}
            }
        }
        draw
    }

    fn latency(&self, rng: &mut impl Rng) -> Duration {
        let (median, p99) = (self.latency_p50_ms, self.latency_p99_ms);
        if median <= 0.0 || p99 <= median {
            return Duration::from_secs_f64(median.max(0.0) / 1e3);
        }
        // Box-Muller; 1 - u keeps the logarithm finite.
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        let z = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let sigma = (p99 / median).ln() / Z99;
        Duration::from_secs_f64((median * (sigma * z).exp()).min(MAX_LATENCY_MS) / 1e3)
    }

    fn fate(&self, rng: &mut impl Rng) -> Fate {
        let fates = [
            (self.errors, Fate::Error(StatusCode::INTERNAL_SERVER_ERROR)),
            (self.hangs, Fate::Hang),
            (self.closes, Fate::Cut),
            (
                self.late_errors,
                Fate::LateError(StatusCode::INTERNAL_SERVER_ERROR),
            ),
            (self.swallows, Fate::Swallow),
            (self.lies, Fate::Lie),
        ];
        let drawn = fates
            .into_iter()
            .find(|(share, _)| rng.random_bool(share.clamp(0.0, 1.0)));
        drawn.map_or(Fate::Served, |(_, fate)| fate)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn latency_has_the_percentiles_asked_for() {
        let faults = Faults {
            latency_p50_ms: 10.0,
            latency_p99_ms: 100.0,
            ..Faults::default()
        };
        let mut rng = StdRng::seed_from_u64(7);
        let mut drawn: Vec<f64> = (0..20_000)
            .map(|_| faults.draw(&HeaderMap::new(), &mut rng).delay.as_secs_f64() * 1e3)
            .collect();
        drawn.sort_by(f64::total_cmp);
        assert!((9.0..11.0).contains(&drawn[10_000]), "{}", drawn[10_000]);
        assert!((80.0..125.0).contains(&drawn[19_800]), "{}", drawn[19_800]);
    }

    #[test]
    fn the_header_wins_and_nonsense_in_it_is_ignored() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut headers = HeaderMap::new();
        let mut draw = |text: &'static str| {
            headers.insert(FAULT_HEADER, http::HeaderValue::from_static(text));
            Faults::default().draw(&headers, &mut rng)
        };
        let slow = Draw {
            delay: Duration::from_millis(200),
            fate: Fate::Error(StatusCode::SERVICE_UNAVAILABLE),
        };
        assert_eq!(draw("latency=200ms, status=503"), slow);
        assert_eq!(draw("hang").fate, Fate::Hang);
        assert_eq!(draw("close").fate, Fate::Cut);
        assert_eq!(
            draw("status=200, latency=x, =,,"),
            Draw {
                delay: Duration::ZERO,
                fate: Fate::Served
            }
        );
    }

    #[test]
    fn shares_beyond_one_are_refused() {
        let faults = Faults {
            hangs: 1.5,
            ..Faults::default()
        };
        assert_eq!(
            faults.validate().unwrap_err().to_string(),
            "hangs: must be a share from 0 to 1"
        );
        assert!(
            Faults {
                latency_p50_ms: f64::NAN,
                ..Faults::default()
            }
            .validate()
            .is_err()
        );
    }
}
