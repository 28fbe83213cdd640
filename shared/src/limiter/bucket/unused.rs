//! Slots of a paced line whose calls were not made, and why they can be taken out of it.
//!
//! A slot is time on the line, and slots are interchangeable. Taking time out of the line at a place P moves what lies
//! behind P forward. The promise holds as long as no call starts after its slot; that calls start *earlier* than their
//! slots is what moves less. So time may be taken out at P if every call with a slot behind P starts at P or before.
//! `last` is the latest start of all calls booked on this line, made or not: at `last` or behind it any unused time goes.
//! There are no gaps behind `last` (a gap is idle time before a call that starts with its slot), so no idle time that was
//! remembered moves; and what an unused slot has left as idle time moves to no place before `last`, which is not before
//! the half of T in which it was noted.
//!
//! Of unused slots that come to the time U, none of them before P, at least `U - (last - P)` lies at `last` or behind it,
//! for slots do not overlap. So much is taken out, and the rest becomes idle time. One number is enough for many slots,
//! whatever they cost and in whatever order they come back; and a part of a slot counts as well as a whole one.
//!
//! **Where a slot lies** was told with its grant, and changes:
//! - Forward, when the line is shortened before it. The worker does not know, so places are told and reported as if that
//!   had never been (`place + back`), and all that the line was shortened by since counts as if before the slot. Calls that
//!   cost less than was booked shorten it too.
//! - Backward, by a push. All that lies before the push arrives so much later than its start, and the slots that were
//!   booked before it lie so much later: what was no later than P is still so. Taking P for what it was is safe.
//! - Altogether: a rule that changes, a bucket that is born or was forgotten. That is another line with another name
//!   (`line`); what is unused of an old one is idle time only. Nothing of an old line lies behind a slot of the new one,
//!   so `last` begins anew.
//!
//! So slots that come back in their order, or in one report, come back exactly. One that comes back after slots behind it
//! is taken to lie earlier than it does, and some of it may be idle time only: at worst, of a burst that comes back one
//! by one, half. That is too slow then, and never too fast.
//!
//! Places are on the limiter's own clock, as the line is: a report that is long on its way says nothing wrong. A report
//! must not be told twice, which is the worker's duty. A bucket in shadow that did not book a call gives its slots no line.

use super::{Bucket, Part, Place, Report, State};

impl State {
    /// Takes unused slots of so much time out of the line. What remains of them.
    pub(super) fn shorten(&mut self, report: &Report, unused: f64) -> f64 {
        if (report.unused_line - self.line).abs() > 0.0 {
            return unused;
        }
        let place = report.unused_place - self.back;
        let behind = place.max(self.last);
        let gone = ((place + unused).min(self.time()) - behind).min(unused).max(0.0);
        self.place = Place::Time(self.time() - gone);
        self.back += gone;
        unused - gone
    }
}

impl Part {
    /// A line that has no name yet gets one.
    pub(super) fn name_line(&mut self, now: f64) {
        let s = &mut self.state;
        if matches!(self.bucket, Bucket::Paced { .. }) && s.line <= 0.0 {
            (s.line, s.back, s.last) = (now, 0.0, 0.0);
        }
    }
}

#[cfg(test)]
mod tests;
