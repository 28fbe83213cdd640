//! What to fetch into a service's cache before it is asked for. Pure: time and accesses are arguments.
//!
//! [`access`] is what comes in, [`learn`] what is kept of it, [`predict`] what that says of the next minutes, [`plan`] which
//! of it is worth a call, `budget` how many calls there may be, [`judge`] whether it was right and may go on. What was
//! tried and measured: `docs/warming.md`.

pub mod access;
pub mod account;
mod bounded;
mod budget;
mod decay;
mod follow;
pub mod judge;
pub mod learn;
pub mod plan;
pub mod predict;
mod rhythm;

use access::{Access, Found};
use budget::Budget;
use judge::{Judge, Standing};
use learn::{Bounds, Model};
use plan::{Candidate, Reason, Verdict, Warm, Worth, rank};
use predict::{Prediction, Source};

/// Predictions kept from accesses until the next plan.
const MOST_HINTS: usize = 16_384;
/// No prediction looks further ahead, however long an entry stays in the cache.
const FURTHEST_MS: u64 = 3_600_000;
/// So many look-ups of a round must have found nothing of what should be in the cache, and more than half of all those, for it
/// to count as lost.
const LOST: u32 = 20;

/// How a service's cache is warmed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long an entry stays in the cache, the time included in which it is served stale. In ms.
    pub ttl_ms: u64,
    /// The time between two rounds, in ms.
    pub interval_ms: u64,
    /// The largest share of all calls, in thousandths.
    pub share_permille: u32,
    /// Calls of that share that may be saved up.
    pub saved: u32,
    /// The most keys of one plan.
    pub most: usize,
    /// When a prediction is worth a call.
    pub worth: Worth,
    /// How much is remembered.
    pub bounds: Bounds,
    /// Which predictions are made.
    pub sources: Vec<Source>,
}

impl Settings {
    /// The defaults for entries that stay for `ttl_ms`: a round a minute, 5 % of all calls, of which 100 may be saved up,
    /// 200 in one plan, all sources.
    pub fn new(ttl_ms: u64) -> Self {
        Self {
            ttl_ms,
            interval_ms: 60_000,
            share_permille: 50,
            saved: 100,
            most: 200,
            worth: Worth::default(),
            bounds: Bounds::default(),
            sources: Source::ALL.to_vec(),
        }
    }

    /// The time within which what is predicted is to come.
    fn horizon_ms(&self) -> u64 {
        self.ttl_ms.min(FURTHEST_MS)
    }
}

/// Learns, plans and judges for one service's cache.
#[derive(Debug)]
pub struct Warmer {
    settings: Settings,
    model: Model,
    budget: Budget,
    judge: Judge,
    /// What follows what was observed since the last plan.
    hints: Vec<Prediction>,
    /// No round was planned since the start, or since the cache was lost.
    fresh: bool,
    /// Look-ups since the last round of what should be in the cache, and how many of them found nothing.
    held: (u32, u32),
}

impl Warmer {
    /// Has learnt nothing. `standing` is what an earlier one was [judged](Judge::standing); without it all sources begin in
    /// shadow.
    pub fn new(settings: Settings, standing: Option<Standing>) -> Self {
        Self {
            model: Model::new(settings.bounds, settings.ttl_ms),
            budget: Budget::new(settings.share_permille, settings.saved),
            judge: Judge::new(settings.horizon_ms(), standing.unwrap_or_default()),
            hints: Vec::new(),
            fresh: true,
            held: (0, 0),
            settings,
        }
    }

    /// Learns from the access log, as a new leader does: oldest first is best. Calls that warming made are taken off what
    /// may be spent. Returns how many accesses were left out because their times cannot be true.
    pub fn replay(&mut self, accesses: impl IntoIterator<Item = Access>, now_ms: u64) -> u64 {
        let mut left_out = 0;
        for access in accesses {
            left_out += u64::from(!self.observe(&access, now_ms));
            if access.found == Found::Unasked {
                self.budget.spend();
            }
            self.hints.clear();
        }
        self.held = (0, 0);
        left_out
    }

    /// Learns from an access. False when its time cannot be true: then nothing is learnt from it.
    pub fn observe(&mut self, access: &Access, now_ms: u64) -> bool {
        if !access::plausible(access, now_ms) {
            return false;
        }
        if access.found == Found::Unasked {
            self.model.fetched(access);
            return true;
        }
        if access.fetch_ms.is_some() {
            self.budget.earn();
        }
        self.judge.look(access);
        if self
            .model
            .known(access.key)
            .is_some_and(|known| known.cached_until_ms > access.at_ms)
        {
            self.held.0 = self.held.0.saturating_add(1);
            self.held.1 = self.held.1.saturating_add(u32::from(access.missed()));
        }
        let (hints, worth) = (&mut self.hints, &self.settings.worth);
        self.model.learn(access, |hint| {
            if hints.len() < MOST_HINTS && worth.founded(&hint) {
                hints.push(hint);
            }
        });
        true
    }

    /// What to fetch because of what was observed since the last plan: cheap, after every few accesses. Unless `allowed`,
    /// everything stays in shadow. A key that is returned counts as a call until it is said to be [skipped](Self::skipped).
    pub fn after(&mut self, now_ms: u64, allowed: bool) -> Vec<Warm> {
        let hints = std::mem::take(&mut self.hints);
        let candidates = hints.into_iter().filter_map(|hint| self.candidate(hint, now_ms));
        let candidates = candidates.collect();
        self.choose(candidates, now_ms, allowed)
    }

    /// What to fetch of everything that is known, once every [`Settings::interval_ms`]; otherwise like
    /// [`after`](Self::after).
    pub fn round(&mut self, now_ms: u64, allowed: bool) -> Vec<Warm> {
        let (horizon_ms, soon_ms) = (self.settings.horizon_ms(), self.soon_ms(now_ms));
        let (held, gone) = std::mem::take(&mut self.held);
        if gone >= LOST && gone > held / 2 {
            self.lost();
        }
        let mut candidates = Vec::new();
        for (key, known) in self.model.keys() {
            // Nothing can be said of what was seen once.
            if known.seen < 2 || known.cached_until_ms > soon_ms {
                continue;
            }
            let rhythm = predict::rhythm(key, known, now_ms, horizon_ms);
            let frequency = predict::frequency(key, known, now_ms, horizon_ms);
            for prediction in rhythm.into_iter().chain([frequency]) {
                candidates.extend(self.candidate(prediction, now_ms));
            }
        }
        let chosen = self.choose(candidates, now_ms, allowed);
        self.fresh = false;
        chosen
    }

    /// What becomes of what can be said of a key right now, and why.
    pub fn explain(&self, key: u64, now_ms: u64) -> Vec<(Prediction, Verdict)> {
        let Some(known) = self.model.known(key) else {
            return Vec::new();
        };
        let horizon_ms = self.settings.horizon_ms();
        let rhythm = predict::rhythm(key, known, now_ms, horizon_ms);
        let follows = known.followers.iter().flat_map(|of| predict::follows(of));
        let said = [predict::frequency(key, known, now_ms, horizon_ms)]
            .into_iter()
            .chain(rhythm)
            .chain(follows);
        said.map(|prediction| (prediction, self.verdict(&prediction, now_ms)))
            .collect()
    }

    /// A worker did not fetch a key that was planned: no call was made.
    pub fn skipped(&mut self, key: u64) {
        if self.judge.skipped(key) {
            self.budget.give_back();
        }
    }

    /// An upstream refused a call, of warming or not. True when warming falls silent because of it.
    pub fn refused(&mut self, at_ms: u64) -> bool {
        self.judge.refused(at_ms)
    }

    /// The API refused a call that warming made: it falls silent.
    pub fn silence(&mut self, at_ms: u64) {
        self.judge.silence(at_ms);
    }

    /// The cache was lost: all of it is to be fetched anew. Found out by [rounds](Self::round) when most of what should be
    /// there is not.
    pub fn lost(&mut self) {
        self.model.forget_cached();
        self.fresh = true;
    }

    /// What predictions were worth.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What was learnt.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Calls that may be made now.
    pub fn calls_left(&self) -> u64 {
        self.budget.left()
    }

    fn soon_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.settings.interval_ms)
    }

    fn verdict(&self, prediction: &Prediction, now_ms: u64) -> Verdict {
        let Settings { worth, sources, .. } = &self.settings;
        if !sources.contains(&prediction.source) {
            return Verdict::Off;
        }
        if !worth.founded(prediction) {
            return Verdict::Unfounded;
        }
        let Some(known) = self.model.known(prediction.key) else {
            return Verdict::Unfounded;
        };
        if known.cached_until_ms > self.soon_ms(now_ms) {
            return Verdict::Cached;
        }
        if !self.judge.free(prediction.key) {
            return Verdict::Open;
        }
        let gain_ms = worth.gain_ms(prediction, known.fetch_ms);
        if gain_ms <= 0.0 {
            return Verdict::TooDear;
        }
        let reason = match prediction.source {
            _ if self.fresh => Reason::Start,
            Source::Follows => Reason::AfterAccess,
            _ if known.cached_until_ms > now_ms => Reason::BeforeExpiry,
            _ => Reason::Ahead,
        };
        Verdict::Worth(Candidate {
            prediction: *prediction,
            reason,
            gain_ms,
            cached_until_ms: known.cached_until_ms,
        })
    }

    fn candidate(&self, prediction: Prediction, now_ms: u64) -> Option<Candidate> {
        match self.verdict(&prediction, now_ms) {
            Verdict::Worth(candidate) => Some(candidate),
            _ => None,
        }
    }

    fn choose(&mut self, candidates: Vec<Candidate>, now_ms: u64, allowed: bool) -> Vec<Warm> {
        self.judge.pass(now_ms);
        let (mut chosen, mut noted) = (Vec::new(), 0);
        for candidate in rank(candidates) {
            let prediction = candidate.prediction;
            let live = allowed && self.judge.live(prediction.source, now_ms);
            if live {
                let likely = prediction.probability >= self.settings.worth.bar(self.budget.fill());
                if likely && chosen.len() < self.settings.most && self.budget.spend() {
                    self.judge.bet(&candidate, true, now_ms);
                    chosen.push(Warm::from(candidate));
                }
            } else if noted < self.settings.most {
                self.judge.bet(&candidate, false, now_ms);
                noted += 1;
            }
        }
        chosen
    }
}
