//! What warming was worth within the last 24 hours.

const HOUR_MS: u64 = 3_600_000;
const HOURS: usize = 24;

/// Counts of a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Look-ups.
    pub looks: u64,
    /// Look-ups that found nothing.
    pub misses: u64,
    /// What came of what was fetched.
    pub live: Ends,
    /// What would have come of what was only noted.
    pub shadow: Ends,
}

/// What came of predictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Those that were right: a look-up that was, or would have been, a hit because of them.
    pub right: u64,
    /// Those that were wrong: calls wasted.
    pub wrong: u64,
    /// Time from right predictions to the look-ups, in ms, all together.
    pub lead_ms: u64,
}

impl Ends {
    /// Share of predictions that were right.
    pub fn precision(&self) -> Option<f64> {
        share(self.right, self.right + self.wrong)
    }

    /// Mean time from a right prediction to the look-up, in ms.
    pub fn mean_lead_ms(&self) -> Option<u64> {
        self.lead_ms.checked_div(self.right)
    }

    fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.lead_ms += other.lead_ms;
    }
}

impl Account {
    /// Of the look-ups that would have found nothing, the share that found something because it was warmed.
    pub fn coverage(&self) -> Option<f64> {
        share(self.live.right, self.live.right + self.misses)
    }

    /// What warming added to the hit rate, 0 to 1.
    pub fn hit_gain(&self) -> Option<f64> {
        share(self.live.right, self.looks)
    }

    pub(super) fn right(&mut self, live: bool, lead_ms: u64) {
        let ends = self.ends(live);
        ends.right += 1;
        ends.lead_ms += lead_ms;
    }

    pub(super) fn wrong(&mut self, live: bool) {
        self.ends(live).wrong += 1;
    }

    fn ends(&mut self, live: bool) -> &mut Ends {
        if live { &mut self.live } else { &mut self.shadow }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The accounts of the last 24 hours.
#[derive(Debug, Default)]
pub(super) struct Day {
    hours: [(u64, Account); HOURS],
    /// Where what is older than all of them goes.
    late: Account,
}

impl Day {
    /// The account of the hour of `at_ms`.
    pub(super) fn at(&mut self, at_ms: u64) -> &mut Account {
        let hour = at_ms / HOUR_MS;
        let (of, account) = &mut self.hours[(hour % HOURS as u64) as usize];
        if *of > hour {
            return &mut self.late;
        }
        if *of < hour {
            (*of, *account) = (hour, Account::default());
        }
        account
    }

    /// All hours that belong to the 24 that end at `now_ms`.
    pub(super) fn sum(&self, now_ms: u64) -> Account {
        let first = (now_ms / HOUR_MS + 1).saturating_sub(HOURS as u64);
        let mut sum = Account::default();
        for (hour, account) in &self.hours {
            if *hour >= first {
                sum.looks += account.looks;
                sum.misses += account.misses;
                sum.live.add(&account.live);
                sum.shadow.add(&account.shadow);
            }
        }
        sum
    }
}
