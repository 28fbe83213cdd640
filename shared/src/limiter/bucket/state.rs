//! Where a bucket stands, and what it is told of earlier calls.

use serde::{Deserialize, Serialize};

use super::Bucket;

/// Where a bucket stands; in Redis a msgpack array in this order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Paced: end of the last slot. Window: its end. At once: the holders.
    pub place: Place,
    /// Sum of all pushes.
    pub push: f64,
    /// Paced: when `cur` began. Window: calls in it.
    pub epoch: f64,
    /// Idle time in the half window before `epoch`.
    pub prev: f64,
    /// Idle time since `epoch`.
    pub cur: f64,
    /// Until when no call may start.
    pub blocked: f64,
    /// Costs granted, ever.
    pub total: f64,
    /// What `total` must not exceed until `reset`.
    pub ceiling: f64,
    /// Until when `ceiling` holds; 0 for none.
    pub reset: f64,
    /// Calls that a limit in shadow would have held up.
    pub over: f64,
    /// What it was written under: a paced rule's interval; -2 for a window, -3 for calls at a time; 0
    /// when nobody has noted it.
    #[serde(default)]
    pub unit: f64,
    /// Paced: the line's name, the moment it began; 0 for none yet.
    #[serde(default)]
    pub line: f64,
    /// Paced: by how much the line was shortened, ever.
    #[serde(default)]
    pub back: f64,
    /// Paced: no call booked on this line starts later.
    #[serde(default)]
    pub last: f64,
}

/// See [`State::place`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// A moment.
    Time(f64),
    /// Who holds how many calls, until when.
    Holders(Vec<Holding>),
}

/// A part of [`Place::Holders`]: three of them make one holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Holding {
    /// Its name.
    Name(String),
    /// Its calls, or until when.
    Number(f64),
}

impl Default for Place {
    fn default() -> Self {
        Self::Time(0.0)
    }
}

impl Bucket {
    /// See [`State::unit`].
    pub(super) fn unit(&self) -> f64 {
        match self {
            Self::Paced { interval, .. } => *interval,
            Self::Window { .. } => -2.0,
            Self::AtOnce { .. } => -3.0,
        }
    }
}

impl State {
    /// The state under a rule that may have been changed while the bucket lived: as many calls as before stand in line;
    /// a bucket of another kind starts anew, a paced one emptied. What the provider said holds on.
    pub(super) fn under(mut self, bucket: Bucket, now: f64) -> Self {
        let unit = bucket.unit();
        let known = self.unit.abs() > 0.0;
        if known && (self.unit - unit).abs() > 0.0 {
            if self.unit > 0.0 && unit > 0.0 {
                self.place = Place::Time(now + (self.time() - now).max(0.0) * unit / self.unit);
            } else {
                (self.place, self.epoch) = match bucket {
                    Bucket::Paced { interval, slack, .. } => (Place::Time(now + slack + interval), now),
                    Bucket::Window { .. } => (Place::Time(0.0), 0.0),
                    Bucket::AtOnce { .. } => (Place::Holders(Vec::new()), 0.0),
                };
                (self.prev, self.cur) = (0.0, 0.0);
            }
            self.line = 0.0;
        }
        self.unit = unit;
        self
    }

    pub(super) fn time(&self) -> f64 {
        match self.place {
            Place::Time(time) => time,
            Place::Holders(_) => 0.0,
        }
    }

    /// Calls held by workers that are believed in at `now`.
    pub fn held(&self, now: f64) -> f64 {
        let Place::Holders(holders) = &self.place else {
            return 0.0;
        };
        let live = holders.chunks(3).filter_map(|holder| match holder {
            [_, Holding::Number(calls), Holding::Number(until)] if *until > now => Some(*calls),
            _ => None,
        });
        live.sum()
    }
}

/// Where a grant stands in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mark {
    /// The bucket's pushes, for [`Report::late`].
    pub push: f64,
    /// The total of its grants before these, for [`Report::ceiling`].
    pub total: f64,
    /// Where the first of the slots lies, had the line never been shortened; for [`Report::unused_place`].
    pub place: f64,
    /// Which line, for [`Report::unused_line`]; 0 where the grant has none.
    pub line: f64,
}

/// What a worker reports of earlier calls.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Report {
    /// The pushes must come to at least this.
    pub late: f64,
    /// Cost of calls that were granted and not made.
    pub unused: f64,
    /// How long ago the earliest of them could have begun.
    pub unused_age: f64,
    /// Cost beyond what was estimated; negative for less.
    pub settle: f64,
    /// How long ago the earliest of the calls that cost less was granted.
    pub settle_age: f64,
    /// For how long no call may start.
    pub pause: f64,
    /// What the total of grants must not exceed until the reset.
    pub ceiling: f64,
    /// What the provider said was left.
    pub left: f64,
    /// In how long the provider counts anew; 0 for no ceiling.
    pub reset: f64,
    /// By how much `left` has to be below what our own limit allows until the reset, for the ceiling to count.
    pub tolerance: f64,
    /// Where the earliest slot of the calls lies that were not made, as its [`Mark`] says. A moment on the limiter's own
    /// clock, not a time from now: it must not be too late by the report's way.
    pub unused_place: f64,
    /// The line of all of these slots; 0 when they are of several, or of none.
    pub unused_line: f64,
}

impl Report {
    /// Calls that were not made: cost in all `cost`, the earliest slot of them as in `mark`, which could have begun `age` ago.
    pub fn add_unused(&mut self, cost: f64, mark: Mark, age: f64) {
        if self.unused > 0.0 {
            self.unused_age = self.unused_age.max(age);
            self.unused_place = self.unused_place.min(mark.place);
            if (self.unused_line - mark.line).abs() > 0.0 {
                self.unused_line = 0.0;
            }
        } else {
            (self.unused_age, self.unused_place, self.unused_line) = (age, mark.place, mark.line);
        }
        self.unused += cost;
    }
}

impl Mark {
    /// The mark of a call `n` places behind the first under this bucket, of the same cost each.
    #[must_use]
    pub fn behind(self, bucket: Bucket, cost: u32, n: u32) -> Self {
        let cost = f64::from(n) * f64::from(cost);
        let place = match bucket {
            Bucket::Paced { interval, .. } => self.place + cost * interval,
            Bucket::Window { .. } | Bucket::AtOnce { .. } => self.place,
        };
        Self {
            total: self.total + cost,
            place,
            ..self
        }
    }
}
