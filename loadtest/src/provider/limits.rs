//! The limits of the simulated provider: each call passes all of its limits or counts under none.

mod bucket;
mod counting;
mod gate;
mod log;
mod seen;
mod shape;
mod window;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use self::gate::Gate;
use super::window::Window;

pub use self::{
    seen::LimitStats,
    shape::{BadShape, Shape},
};

/// Most logs kept at a time; one for each credential and resource.
const MAX_GATES: usize = 10_000;

/// One limit a call has to pass.
#[derive(Clone, Debug)]
pub struct Demand {
    /// What the statistics call the limit, e.g. `github core`.
    pub limit: String,
    /// Hash of whom it counts for: the credential, and the channel where it is per channel.
    pub scope: u64,
    /// How many calls per span.
    pub window: Window,
    /// How they are counted.
    pub shape: Shape,
    /// What this call counts as.
    pub cost: u32,
}

impl Demand {
    /// A call that counts as one.
    pub fn new(limit: impl Into<String>, scope: u64, window: Window, shape: Shape) -> Self {
        Self {
            limit: limit.into(),
            scope,
            window,
            shape,
            cost: 1,
        }
    }
}

/// How a limit stands after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit's size: calls of a period, or what a full bucket holds.
    pub limit: u32,
    /// What counts now; of a bucket, the tokens it lacks, a started one included.
    pub used: u32,
    /// Time since the provider's start at which quota returns: a fixed or aligned window ends, the oldest call leaves
    /// a sliding one, a bucket is full.
    pub resets_at: Duration,
    /// Time since the provider's start at which a call of the same cost has room if nothing else comes.
    pub room_at: Duration,
}

impl Standing {
    /// What is left now.
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

/// All limits of a provider, counted apart for each scope.
#[derive(Debug, Default)]
pub struct Limits {
    /// The provider's clock at time zero, since the Unix epoch.
    origin: Duration,
    gates: HashMap<(String, u64), Gate>,
    /// With what was spent of, and could have been, in gates that made room for others.
    seen: BTreeMap<String, LimitStats>,
}

impl Limits {
    /// Nothing counted yet. `origin` is what the provider's clock shows at its start, since the Unix epoch.
    pub fn new(origin: Duration) -> Self {
        Self {
            origin,
            ..Self::default()
        }
    }

    /// Decides one call: counted under every demand or, when one is over, under none.
    ///
    /// `now` is the time since the provider's start and must not run backwards.
    pub fn admit(&mut self, now: Duration, demands: &[Demand]) -> Result<Admission, Crowded> {
        for demand in demands {
            self.open(now, demand)?;
        }
        let breached = demands.iter().position(|demand| {
            self.gate(demand)
                .is_some_and(|gate| !gate.has_room(now, demand.cost))
        });
        let mut standings = Vec::with_capacity(demands.len());
        for (index, demand) in demands.iter().enumerate() {
            let Some(gate) = self.gate(demand) else { continue };
            if breached.is_none() {
                gate.count(now, demand.cost);
            }
            let (came, saturated) = gate.saw(now, demand.cost);
            standings.push(gate.standing(now, demand.cost));
            let Some(seen) = self.seen.get_mut(&demand.limit) else {
                continue;
            };
            seen.allowed += u64::from(breached.is_none());
            seen.breaches += u64::from(breached == Some(index));
            seen.worst = seen.worst.max(came);
            seen.worst_saturated |= saturated;
        }
        Ok(Admission { breached, standings })
    }

    /// How a limit stands without a call.
    pub fn standing(&mut self, now: Duration, demand: &Demand) -> Standing {
        let origin = self.origin;
        match self.gate(demand) {
            Some(gate) => gate.standing(now, demand.cost),
            None => Gate::new(demand, origin, now).standing(now, demand.cost),
        }
    }

    /// What was seen of every limit until `now`, by its name.
    pub fn seen(&self, now: Duration) -> BTreeMap<String, LimitStats> {
        let mut seen = self.seen.clone();
        for ((limit, _), gate) in &self.gates {
            if let Some(seen) = seen.get_mut(limit) {
                add_account(seen, gate, now);
            }
        }
        seen
    }

    fn gate(&mut self, demand: &Demand) -> Option<&mut Gate> {
        self.gates.get_mut(&(demand.limit.clone(), demand.scope))
    }

    fn open(&mut self, now: Duration, demand: &Demand) -> Result<(), Crowded> {
        if self.gate(demand).is_some() {
            return Ok(());
        }
        if self.gates.len() >= MAX_GATES {
            self.gates.retain(|(limit, _), gate| {
                let idle = gate.is_idle(now);
                if idle && let Some(seen) = self.seen.get_mut(limit) {
                    add_account(seen, gate, now);
                }
                !idle
            });
            if self.gates.len() >= MAX_GATES {
                return Err(Crowded);
            }
        }
        self.gates.insert(
            (demand.limit.clone(), demand.scope),
            Gate::new(demand, self.origin, now),
        );
        self.seen
            .entry(demand.limit.clone())
            .or_insert_with(|| LimitStats::new(demand.window, demand.shape));
        Ok(())
    }
}

fn add_account(seen: &mut LimitStats, gate: &Gate, now: Duration) {
    let (spent, capacity) = gate.course.account(now);
    seen.spent += spent;
    seen.capacity += capacity;
}

#[cfg(test)]
mod tests;
