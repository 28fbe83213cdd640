//! The limits of the simulated provider: each call passes all of its limits or counts under none.

mod log;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::log::Gate;
use super::window::Window;

pub use self::log::SlidingLog;

/// Most logs kept at a time; one for each credential and resource.
const MAX_GATES: usize = 10_000;

/// Where a window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Any span of the window's length: the strictest reading.
    #[default]
    Sliding,
    /// From the first call to the reset, then anew, as GitHub's hour.
    Fixed,
}

/// One limit a call has to pass.
#[derive(Clone, Debug)]
pub struct Demand {
    /// What the statistics call the limit, e.g. `github core`.
    pub limit: String,
    /// Hash of whom it counts for: the credential, and the channel where it is per channel.
    pub scope: u64,
    /// How many calls per span.
    pub window: Window,
    /// Where the window begins.
    pub shape: Shape,
}

/// How a limit stands after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit's size in calls.
    pub limit: u32,
    /// Calls counted in the window now.
    pub used: u32,
    /// Time since the provider's start at which quota returns.
    pub resets_at: Duration,
}

impl Standing {
    /// Calls left now.
    pub fn remaining(&self) -> u32 {
        self.limit.saturating_sub(self.used)
    }
}

/// What was decided about one call.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Index of the first demand that was over its limit; `None` when the call is allowed.
    pub breached: Option<usize>,
    /// One for each demand, in their order.
    pub standings: Vec<Standing>,
}

/// Too many credentials and resources at once to count them apart.
#[derive(Debug, thiserror::Error)]
#[error("the simulated provider counts {MAX_GATES} credentials and resources at most")]
pub struct Crowded;

/// What was seen of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStats {
    /// Calls the limit allows in a span.
    pub calls: u32,
    /// The span in milliseconds.
    pub per_ms: u64,
    /// Where the window begins.
    pub shape: Shape,
    /// Calls allowed.
    pub allowed: u64,
    /// Calls over this limit.
    pub breaches: u64,
    /// Most calls, refused ones too, that came in any one span from one credential.
    pub worst: u64,
    /// True when more came than the meter can hold; `worst` is then a lower bound.
    pub worst_saturated: bool,
}

/// All limits of a provider, counted apart for each scope.
#[derive(Debug, Default)]
pub struct Limits {
    gates: HashMap<(String, u64), Gate>,
    seen: BTreeMap<String, LimitStats>,
}

impl Limits {
    /// Decides one call: counted under every demand or, when one is over, under none.
    ///
    /// `now` is the time since the provider's start and must not run backwards.
    pub fn admit(&mut self, now: Duration, demands: &[Demand]) -> Result<Admission, Crowded> {
        for demand in demands {
            self.open(now, demand)?;
        }
        let used: Vec<u32> = demands
            .iter()
            .map(|demand| self.gate(demand).map_or(0, |gate| gate.used(now)))
            .collect();
        let breached = demands
            .iter()
            .zip(&used)
            .position(|(demand, used)| *used >= demand.window.calls);
        let mut standings = Vec::with_capacity(demands.len());
        for (index, (demand, used)) in demands.iter().zip(used).enumerate() {
            let Some(gate) = self.gates.get_mut(&(demand.limit.clone(), demand.scope)) else {
                continue;
            };
            if breached.is_none() {
                gate.count(now);
            }
            let came = gate.saw(now);
            let saturated = gate.saturated(came);
            standings.push(Standing {
                limit: demand.window.calls,
                used: used + u32::from(breached.is_none()),
                resets_at: gate.resets_at(now),
            });
            let seen = self
                .seen
                .entry(demand.limit.clone())
                .or_insert_with(|| LimitStats {
                    calls: demand.window.calls,
                    per_ms: demand.window.per.as_millis() as u64,
                    shape: demand.shape,
                    allowed: 0,
                    breaches: 0,
                    worst: 0,
                    worst_saturated: false,
                });
            seen.allowed += u64::from(breached.is_none());
            seen.breaches += u64::from(breached == Some(index));
            seen.worst = seen.worst.max(came as u64);
            seen.worst_saturated |= saturated;
        }
        Ok(Admission { breached, standings })
    }

    /// How a limit stands without a call.
    pub fn standing(&mut self, now: Duration, demand: &Demand) -> Standing {
        let limit = demand.window.calls;
        match self.gate(demand) {
            Some(gate) => Standing {
                limit,
                used: gate.used(now),
                resets_at: gate.resets_at(now),
            },
            None => Standing {
                limit,
                used: 0,
                resets_at: now + demand.window.per,
            },
        }
    }

    /// What was seen of every limit so far, by its name.
    pub fn seen(&self) -> &BTreeMap<String, LimitStats> {
        &self.seen
    }

    fn gate(&mut self, demand: &Demand) -> Option<&mut Gate> {
        self.gates.get_mut(&(demand.limit.clone(), demand.scope))
    }

    fn open(&mut self, now: Duration, demand: &Demand) -> Result<(), Crowded> {
        if self.gate(demand).is_some() {
            return Ok(());
        }
        if self.gates.len() >= MAX_GATES {
            self.gates.retain(|_, gate| !gate.idle(now));
            if self.gates.len() >= MAX_GATES {
                return Err(Crowded);
            }
        }
        self.gates.insert(
            (demand.limit.clone(), demand.scope),
            Gate::new(demand.window, demand.shape),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;
    use proptest::prelude::*;

    fn demand(limit: &str, calls: u32, per_ms: u64, shape: Shape) -> Demand {
        let window = Window::new(calls, Duration::from_millis(per_ms));
        Demand {
            limit: limit.to_owned(),
            scope: 1,
            window,
            shape,
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    proptest! {
        #[test]
        fn the_worst_window_counts_every_call(
            gaps in prop::collection::vec(0u64..12, 1..200),
        ) {
            let demand = demand("x", 3, 20, Shape::Sliding);
            let mut limits = Limits::default();
            let mut came: Vec<u64> = Vec::new();
            let mut worst = 0;
            for gap in gaps {
                came.push(came.last().copied().unwrap_or(0) + gap);
                let now = came[came.len() - 1];
                limits.admit(ms(now), std::slice::from_ref(&demand)).unwrap();
                worst = worst.max(came.iter().filter(|at| **at + 20 > now).count());
            }
            let seen = &limits.seen()["x"];
            prop_assert_eq!(seen.worst, worst as u64);
            prop_assert_eq!(seen.allowed + seen.breaches, came.len() as u64);
        }
    }

    #[test]
    fn a_refused_call_is_counted_under_no_limit() {
        let wide = demand("wide", 10, 1000, Shape::Sliding);
        let narrow = demand("narrow", 1, 1000, Shape::Sliding);
        let mut limits = Limits::default();
        let both = [wide, narrow];
        assert_eq!(limits.admit(ms(0), &both).unwrap().breached, None);
        let second = limits.admit(ms(1), &both).unwrap();
        assert_eq!(second.breached, Some(1));
        assert_eq!(second.standings[0].used, 1);
        assert_eq!(second.standings[1].resets_at, ms(1000));
        assert_eq!(
            (limits.seen()["wide"].breaches, limits.seen()["narrow"].breaches),
            (0, 1)
        );
    }

    #[test]
    fn a_fixed_window_opens_with_its_first_call() {
        let fixed = [demand("hour", 2, 1000, Shape::Fixed)];
        let mut limits = Limits::default();
        let breached = |limits: &mut Limits, at| limits.admit(ms(at), &fixed).unwrap().breached;
        assert_eq!(breached(&mut limits, 300), None);
        assert_eq!(breached(&mut limits, 1290), None);
        assert_eq!(breached(&mut limits, 1299), Some(0));
        assert_eq!(
            breached(&mut limits, 1300),
            None,
            "the window ended 1 s after its first call"
        );
    }

    #[test]
    fn scopes_are_counted_apart_and_bounded() {
        let mut limits = Limits::default();
        let mut one = demand("x", 1, 10, Shape::Sliding);
        for scope in 0..MAX_GATES as u64 {
            one.scope = scope;
            assert_eq!(
                limits.admit(ms(0), std::slice::from_ref(&one)).unwrap().breached,
                None
            );
        }
        one.scope = u64::MAX;
        assert!(limits.admit(ms(9), std::slice::from_ref(&one)).is_err());
        assert!(
            limits.admit(ms(10), std::slice::from_ref(&one)).is_ok(),
            "idle logs make room"
        );
    }
}
