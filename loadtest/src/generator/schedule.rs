//! When each request is due: fixed before the first one is sent.

use std::{str::FromStr, time::Duration};

use shared::config::value::duration;

/// A constant rate for a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// Requests a second, 0 (a pause) to 1,000,000.
    pub rate: f64,
    /// How long it lasts, 24 h at most.
    pub lasts: Duration,
}

/// Why a text is no [`Phase`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no phase: write the requests a second (at most 1,000,000) and how long (at most 24h), for example '200 for 10s'"
)]
pub struct BadPhase(String);

const MAX_RATE: f64 = 1_000_000.0;
const MAX_PHASE: Duration = Duration::from_hours(24);

impl FromStr for Phase {
    type Err = BadPhase;

    fn from_str(text: &str) -> Result<Self, BadPhase> {
        let bad = || BadPhase(text.chars().take(64).collect());
        let (rate, lasts) = text.split_once(" for ").ok_or_else(bad)?;
        let rate: f64 = rate.trim().parse().map_err(|_| bad())?;
        let lasts = duration(lasts).map_err(|_| bad())?;
        let fits = (0.0..=MAX_RATE).contains(&rate) && lasts <= MAX_PHASE;
        if fits {
            Ok(Self { rate, lasts })
        } else {
            Err(bad())
        }
    }
}

/// Arrival times of phases one after another, evenly spaced inside each.
#[derive(Clone, Debug)]
pub struct Schedule {
    phases: Vec<Phase>,
    phase: usize,
    begun: Duration,
    sent: u64,
}

impl Schedule {
    /// The schedule of these phases.
    pub fn new(phases: Vec<Phase>) -> Self {
        Self {
            phases,
            phase: 0,
            begun: Duration::ZERO,
            sent: 0,
        }
    }

    /// Requests of all phases together, about.
    pub fn total(&self) -> u64 {
        self.phases
            .iter()
            .map(|phase| (phase.rate * phase.lasts.as_secs_f64()).ceil() as u64)
            .sum()
    }

    /// How long all phases last together.
    pub fn lasts(&self) -> Duration {
        self.phases.iter().map(|phase| phase.lasts).sum()
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    /// Time of the next arrival since the start.
    fn next(&mut self) -> Option<Duration> {
        while let Some(phase) = self.phases.get(self.phase) {
            let offset = self.sent as f64 / phase.rate;
            if offset.is_finite() && offset < phase.lasts.as_secs_f64() {
                self.sent += 1;
                return Some(self.begun + Duration::from_secs_f64(offset));
            }
            self.begun += phase.lasts;
            self.sent = 0;
            self.phase += 1;
        }
        None
    }
}
