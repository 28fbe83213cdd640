//! Reports that wait to be told to Redis, and how they age.

use std::time::Instant;

use shared::limiter::{Charge, Report};

use super::slot::micros;

/// A report that waits to be told.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) charge: Charge,
    pub(super) report: Report,
    /// Its times count from here.
    pub(super) since: Instant,
}

impl Owed {
    /// The report as it is now.
    pub(super) fn told(self, now: Instant) -> (Charge, Report) {
        let age = micros(now.saturating_duration_since(self.since));
        (self.charge, aged(self.report, age))
    }
}

/// A report so much later.
pub(super) fn aged(report: Report, age: f64) -> Report {
    Report {
        unused_age: report.unused_age + age,
        settle_age: report.settle_age + age,
        pause: (report.pause - age).max(0.0),
        reset: (report.reset - age).max(0.0),
        ..report
    }
}
