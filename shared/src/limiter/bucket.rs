//! The arithmetic of the limiter, pure: what `take.lua` does, with time as an argument. Times are microseconds.
//!
//! **Paced.** At most N calls in any window of the provider's period T, wherever it begins. Each call of cost c takes a
//! slot of `c x interval` on one line of time (`tat` is the line's end: the theoretical arrival time of GCRA), with
//! `interval = (T + slack for the way) / N`. Slots never overlap and a call never starts after its
//! slot, so calls that start with their slots keep the limit in every window and use all of it. A call may start
//! *early*, so that a burst can follow idleness: by at most `burst - 1` intervals, and by no more than was left idle
//! within the last T. Why that suffices: the calls of a window (w, w + T] have slots between w and the end of the
//! last one, which is early by e; the slots and the idle time between them fill that span, so `sum of costs x interval
//! <= T + e - idle <= T`. Idleness is remembered in two halves of T (`prev`, `cur`); what is older counts as busy.
//! (So a burst of more than half the calls is there at once only for those who ask for it at once.)
//! A bucket that refills at a constant rate has to be slower by its burst for ever to keep the same promise.
//!
//! **Unused.** A slot whose call was not made is taken out of the line as far as that harms no call: see `unused.rs`. What
//! is left of it is idle time at its place.
//!
//! **Arrivals.** A call reaches the provider later than it was let go. Whoever calls measures how late at most (until
//! the answer), and reports what goes beyond the slack before T is over; `tat` is pushed by it once
//! (`push` is the sum of all pushes, so a report says "at least so much" and can be repeated).
//!
//! **Window.** At most N in a window that opens with its first call or at a multiple of the period. No call starts
//! within a guard of its edges.
//!
//! **At once.** Each worker says how many calls it holds; what a worker does not confirm in time is dropped.
//!
//! **Ceiling.** What the provider says is left until its reset, as the total of grants that must not be exceeded.
//! **Blocked.** Until when the provider wants no call.
//! **Birth.** What happened before this Redis knew of calls is taken for a bucket just emptied, by slots that were booked
//! as far ahead as slots are.

mod idle;
mod state;
mod unused;

use std::time::Duration;

use super::Rule;
pub use state::{Holding, Mark, Place, Report, State};

/// Rounding that is not a difference.
const NEAR: f64 = 0.5;
/// How far two words about the same reset may lie apart.
const COARSE: f64 = 1_500_000.0;
/// Longest push that one report may cause.
const LONGEST_PUSH: f64 = 1_000_000.0;
/// How far ahead of time a slot can have been booked: nobody asks for more.
pub const LONGEST_AHEAD: f64 = 600_000.0;
/// After a birth, so long no call is counted as ended: every worker says in this time what it has under way.
const CONFIRMED: f64 = 10_000_000.0;
/// The Unix epoch on the limiter's clock, which counts from 2026-01-01 so that a double keeps fractions.
pub const EPOCH: f64 = 1_767_225_600_000_000.0;

/// How much later than its fellows a call may reach the provider before that has to be reported: a two-hundredth of the
/// period, 1 ms to 100 ms.
pub fn slack_of_way(period: Duration) -> Duration {
    (period / 200).clamp(Duration::from_millis(1), Duration::from_millis(100))
}

/// A rule as the arithmetic needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bucket {
    /// See the module.
    Paced {
        /// Time that a call of cost 1 takes.
        interval: f64,
        /// The period.
        period: f64,
        /// How early a call may be at most.
        slack: f64,
    },
    /// See the module.
    Window {
        /// Calls in a window.
        calls: f64,
        /// Its length.
        period: f64,
        /// How far from its edges calls start.
        guard: f64,
        /// Whether it begins at multiples of the period.
        aligned: bool,
    },
    /// See the module.
    AtOnce {
        /// Calls at a time.
        calls: f64,
    },
}

impl From<Rule> for Bucket {
    fn from(rule: Rule) -> Self {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        match rule {
            Rule::Paced(limit) => {
                let window = micros(limit.period() + slack_of_way(limit.period()));
                let interval = window / f64::from(limit.calls());
                Self::Paced {
                    interval,
                    period: micros(limit.period()),
                    slack: f64::from(limit.burst() - 1) * interval,
                }
            }
            Rule::Window {
                calls,
                period,
                aligned,
            } => Self::Window {
                calls: calls.into(),
                period: micros(period),
                guard: micros(slack_of_way(period)),
                aligned,
            },
            Rule::AtOnce(calls) => Self::AtOnce { calls: calls.into() },
        }
    }
}

/// What was granted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Granted {
    /// How many calls.
    pub calls: f64,
    /// When the first may start.
    pub start: f64,
    /// How many of them may start then.
    pub at_start: f64,
    /// After which time one more each.
    pub step: f64,
}

/// One of the buckets that a call falls under.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The bucket.
    pub bucket: Bucket,
    /// What one call costs.
    pub cost: f64,
    /// Where it stands.
    pub state: State,
    /// Since when Redis knows of calls.
    pub born: f64,
    /// Paced: where the first of the slots lies that were booked last, as in [`Mark::place`].
    pub placed: f64,
}

impl Part {
    /// A bucket as it was saved, or one that was never seen.
    pub fn new(bucket: Bucket, cost: u32, saved: Option<State>, born: f64, now: f64) -> Self {
        let unit = bucket.unit();
        let saved = saved.map(|state| state.under(bucket, now));
        let state = match (bucket, saved) {
            (Bucket::Paced { interval, slack, .. }, saved) => {
                let emptied = born + LONGEST_AHEAD + slack + interval;
                match saved {
                    None => State {
                        place: Place::Time(emptied),
                        epoch: born,
                        unit,
                        ..State::default()
                    },
                    Some(old) if old.epoch < born => State {
                        place: Place::Time(old.time().max(emptied)),
                        epoch: born,
                        prev: 0.0,
                        cur: 0.0,
                        line: 0.0,
                        ..old
                    },
                    Some(state) => state,
                }
            }
            (_, saved) => saved.unwrap_or(State {
                unit,
                ..State::default()
            }),
        };
        let mut part = Self {
            bucket,
            cost: cost.into(),
            state,
            born,
            placed: 0.0,
        };
        part.name_line(now);
        part
    }

    /// Takes a report in.
    pub fn report(&mut self, now: f64, report: &Report) {
        let s = &mut self.state;
        let time = s.time();
        if report.late > s.push {
            let more = (report.late - s.push).min(LONGEST_PUSH);
            s.push += more;
            match self.bucket {
                Bucket::Paced { .. } => s.place = Place::Time(time + more),
                Bucket::Window { .. } if time > now => s.place = Place::Time(time + more),
                Bucket::Window { .. } | Bucket::AtOnce { .. } => {}
            }
        }
        // What was not used is of use only as long as it would have counted.
        let (unused_at, settled_at) = (now - report.unused_age, now - report.settle_age);
        match self.bucket {
            Bucket::Paced { interval, period, .. } => {
                let half = period / 2.0;
                (s.epoch, s.prev, s.cur) = halves(s, half, now);
                let unused = s.shorten(report, report.unused * interval);
                if unused_at >= s.epoch {
                    s.cur = (s.cur + unused).min(half);
                } else if unused_at >= s.epoch - half {
                    s.prev = (s.prev + unused).min(half);
                }
                if report.settle > 0.0 || settled_at > now - period {
                    s.place = Place::Time(s.time() + report.settle * interval);
                    s.back += (-report.settle * interval).max(0.0);
                }
            }
            Bucket::Window {
                period,
                guard,
                aligned,
                ..
            } => {
                let opens = s.time() - period - if aligned { 0.0 } else { guard };
                if unused_at >= opens {
                    s.epoch -= report.unused;
                }
                if report.settle > 0.0 || settled_at >= opens {
                    s.epoch += report.settle;
                }
                s.epoch = s.epoch.max(0.0);
            }
            Bucket::AtOnce { .. } => {}
        }
        if report.pause > 0.0 {
            s.blocked = s.blocked.max(now + report.pause);
        }
        if report.reset > 0.0 {
            let reset = now + report.reset;
            let newer = now >= s.reset || reset > s.reset + (report.reset / 8.0).max(COARSE);
            if let Bucket::Window { period, .. } = self.bucket {
                let edge = now + report.reset.min(period);
                // Resets are told in whole seconds: what is near our own edge is our own edge. One that is nearer may be
                // of another window than ours.
                if edge - s.time() > COARSE {
                    s.place = Place::Time(edge);
                }
            }
            let own = self.until(now, reset);
            let s = &mut self.state;
            if report.left < own - report.tolerance {
                (s.ceiling, s.reset) = if newer {
                    (report.ceiling, reset)
                } else {
                    (s.ceiling.min(report.ceiling), s.reset)
                };
            } else if newer {
                (s.ceiling, s.reset) = (0.0, 0.0);
            }
        }
    }

    /// What our own limit grants from now until `reset`.
    fn until(&self, now: f64, reset: f64) -> f64 {
        let time = self.state.time();
        match self.bucket {
            Bucket::Paced { interval, period, .. } => {
                (reset - time.max(now) + self.idle(now).3).clamp(0.0, period) / interval
            }
            Bucket::Window { calls, .. } if now < time => calls - self.state.epoch,
            Bucket::Window { calls, .. } | Bucket::AtOnce { calls } => calls,
        }
    }

    /// The first moment from `u` on at which a call may start, as far as can be said at `u`.
    pub fn first(&self, u: f64) -> f64 {
        let s = &self.state;
        let mut at = match self.bucket {
            Bucket::Paced { interval, .. } => s.time().max(u) + (self.cost - 1.0) * interval - self.idle(u).3,
            Bucket::Window {
                calls,
                period,
                guard,
                aligned,
            } => self.window_first(u, calls, period, guard, aligned),
            Bucket::AtOnce { calls } => {
                if u < self.born + CONFIRMED {
                    self.born + CONFIRMED
                } else if calls > s.held(u) {
                    u
                } else {
                    u + 20_000.0
                }
            }
        };
        if u < s.reset && s.total + self.cost > s.ceiling {
            at = at.max(s.reset);
        }
        at.max(s.blocked)
    }

    /// How many calls may start at `u`, how many of those wanted may be granted at all, and the time between the later
    /// ones. `block` is how far the later ones may lie.
    pub fn room(&self, u: f64, want: f64, block: f64) -> (f64, f64, f64) {
        let s = &self.state;
        let (at_start, mut all, step) = match self.bucket {
            Bucket::Paced { interval, period, .. } => {
                let (epoch, _, cur, idle) = self.idle(u);
                let step = self.cost * interval;
                let early = idle + u - s.time().max(u) - (self.cost - 1.0) * interval;
                let at_start = ((early + NEAR) / step).floor() + 1.0;
                // Idleness that is about to be forgotten carries nobody who starts later.
                let lasts = u + block <= epoch + period / 2.0 || cur >= idle;
                (at_start, if lasts { want } else { at_start }, step)
            }
            Bucket::Window { calls, period, .. } => {
                let used = if u < s.time() { s.epoch } else { 0.0 };
                let left = ((self.cap(u, calls, period) - used) / self.cost).floor();
                (left, left, 0.0)
            }
            Bucket::AtOnce { calls } => (calls - s.held(u), calls - s.held(u), 0.0),
        };
        if u < s.reset {
            all = all.min(((s.ceiling - s.total) / self.cost).floor());
        }
        (at_start, all, step)
    }

    /// Books calls that [`take`] has allowed.
    fn book(&mut self, u: f64, calls: f64, last: f64) {
        match self.bucket {
            Bucket::Paced { interval, .. } => {
                let (epoch, prev, cur, _) = self.idle(u);
                let step = self.cost * interval;
                let s = &mut self.state;
                self.placed = s.time().max(u) + s.back;
                s.place = Place::Time((s.time().max(u) + calls * step).max(last + step));
                (s.epoch, s.prev, s.cur) = (epoch, prev, cur);
                s.last = s.last.max(last);
            }
            Bucket::Window {
                period,
                guard,
                aligned,
                ..
            } => {
                let s = &mut self.state;
                if u >= s.time() {
                    let edge = if aligned {
                        next_edge(u, period)
                    } else {
                        u + period + guard
                    };
                    (s.place, s.epoch) = (Place::Time(edge), 0.0);
                }
                s.epoch += calls * self.cost;
            }
            Bucket::AtOnce { .. } => {}
        }
        self.state.total += calls * self.cost;
    }

    /// The start of the current half window, the idle time before and since, and how early a call may be.
    fn idle(&self, u: f64) -> (f64, f64, f64, f64) {
        let Bucket::Paced { period, slack, .. } = self.bucket else {
            return (0.0, 0.0, 0.0, 0.0);
        };
        let (s, half) = (&self.state, period / 2.0);
        let (epoch, prev, cur) = halves(s, half, u);
        let gap = (u - s.time()).max(0.0);
        let here = gap.min(u - epoch);
        let cur = (cur + here).min(half);
        let prev = (prev + (gap - here).min(half)).min(half);
        (epoch, prev, cur, (prev + cur).min(slack))
    }

    /// Calls that a window may hold; in the first one after birth they come evenly.
    fn cap(&self, u: f64, calls: f64, period: f64) -> f64 {
        if u < self.born + period {
            (calls * (u - self.born) / period).floor()
        } else {
            calls
        }
    }

    fn window_first(&self, u: f64, calls: f64, period: f64, guard: f64, aligned: bool) -> f64 {
        let end = self.state.time();
        let opens = end - period - if aligned { 0.0 } else { guard };
        if u < opens - NEAR {
            return opens;
        }
        if aligned {
            let edge = next_edge(u, period);
            if edge - u < guard {
                return edge + guard;
            }
            if u - (edge - period) < guard {
                return edge - period + guard;
            }
        } else if u < end && end - u < 2.0 * guard {
            return end;
        }
        let open = u < end;
        let after = if open { self.state.epoch } else { 0.0 } + self.cost;
        if after <= self.cap(u, calls, period) {
            return u;
        }
        let grown = if after > calls {
            end
        } else {
            self.born + after * period / calls + 1.0
        };
        if open { end.min(grown) } else { grown }
    }
}

/// The start of the half window that `u` is in, and what is remembered of the time before and since.
fn halves(s: &State, half: f64, u: f64) -> (f64, f64, f64) {
    if u >= s.epoch + 2.0 * half {
        (u - half, 0.0, 0.0)
    } else if u >= s.epoch + half {
        (s.epoch + half, s.cur, 0.0)
    } else {
        (s.epoch, s.prev, s.cur)
    }
}

fn next_edge(u: f64, period: f64) -> f64 {
    (((u + EPOCH) / period).floor() + 1.0) * period - EPOCH
}

/// The first moment from `now` on at which every part lets a call through, and whether that is certain.
pub fn start(now: f64, parts: &[Part]) -> (f64, bool) {
    let mut start = now;
    for _ in 0..4 {
        let mut latest = start;
        for part in parts {
            let at = part.first(start);
            if at > latest + NEAR {
                latest = at;
            }
        }
        if latest <= start + NEAR {
            return (start, true);
        }
        start = latest;
    }
    (start, false)
}

/// Takes up to `want` calls from all parts, the first no later than `ahead` from now and the last no later than `block`
/// after it.
pub fn take(now: f64, parts: &mut [Part], want: f64, ahead: f64, block: f64) -> Granted {
    take_as(now, parts, want, ahead, block, false)
}

/// As [`take`]; with `idle`, only what is [spare](Part::spare).
pub fn take_as(now: f64, parts: &mut [Part], want: f64, ahead: f64, block: f64, idle: bool) -> Granted {
    let (start, met) = start(now, parts);
    let mut granted = Granted {
        start,
        ..Granted::default()
    };
    if want > 0.0 && met && start - now <= ahead {
        let (mut hard, mut at_start) = (want, want);
        for part in parts.iter() {
            let (here, all, step) = part.room(start, want, block);
            hard = hard.min(all);
            if idle {
                hard = hard.min(part.spare(start));
            }
            at_start = at_start.min(here);
            granted.step = granted.step.max(step);
        }
        granted.at_start = at_start.min(hard).max(0.0);
        granted.calls = if granted.step > 0.0 {
            hard.min(granted.at_start + (block / granted.step).floor())
        } else {
            granted.at_start
        };
    }
    if granted.calls > 0.0 {
        let last = start + (granted.calls - granted.at_start).max(0.0) * granted.step;
        for part in parts {
            part.book(start, granted.calls, last);
        }
    }
    granted
}

#[cfg(test)]
mod tests;
