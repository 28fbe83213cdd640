//! Which predictions are worth a call, in what order.

use super::predict::{Prediction, Source};

/// Keys in one request to warm.
pub const BATCH: usize = 10;

/// The probability that the last of the calls is spent on.
const SCARCE: f32 = 0.9;

/// When a prediction is worth a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// The least probability, 0 to 1.
    pub probability: f32,
    /// The least support.
    pub support: u32,
    /// What a call is worth, in ms of somebody's waiting.
    pub call_ms: f32,
}

impl Default for Worth {
    fn default() -> Self {
        Self {
            probability: 0.5,
            support: 10,
            call_ms: 100.0,
        }
    }
}

impl Worth {
    /// The least probability that a call is spent on, when so much of what may be saved of them is there: the fewer, the
    /// more likely it must be, so that what comes first does not take the calls of what is worth more.
    pub fn bar(&self, fill: f32) -> f32 {
        self.probability + (SCARCE - self.probability).max(0.0) * (1.0 - fill)
    }

    /// Whether a prediction is likely and founded enough to be looked at.
    pub fn founded(&self, prediction: &Prediction) -> bool {
        prediction.probability >= self.probability && prediction.support >= self.support
    }

    /// What a call is expected to gain, in ms of waiting: P x saved - cost. Saved are the wait for the fetch and the call
    /// that is then not made; the cost is the call. Not positive: not worth it.
    pub fn gain_ms(&self, prediction: &Prediction, fetch_ms: f32) -> f32 {
        prediction.probability * (fetch_ms + self.call_ms) - self.call_ms
    }
}

/// Why now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The cache was empty, or the planner new.
    Start,
    /// It is in the cache, and would end before the next round.
    BeforeExpiry,
    /// It is not in the cache, and will be asked for.
    Ahead,
    /// It follows what was just asked for.
    AfterAccess,
}

impl Reason {
    /// One or two words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::BeforeExpiry => "before expiry",
            Self::Ahead => "ahead",
            Self::AfterAccess => "after access",
        }
    }
}

/// A key that may be worth a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// What is predicted.
    pub prediction: Prediction,
    /// Why now.
    pub reason: Reason,
    /// What the call is expected to gain, in ms of waiting.
    pub gain_ms: f32,
    /// Until when it is in the cache anyway, in ms since the epoch.
    pub cached_until_ms: u64,
}

/// What becomes of a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Its source is switched off.
    Off,
    /// Too unlikely, or told from too little.
    Unfounded,
    /// The key is in the cache, and stays there until after the next round.
    Cached,
    /// An earlier prediction of the key is open, or too many are.
    Open,
    /// The wait that it saves is not worth the call.
    TooDear,
    /// Worth a call, if there is one left and its source is live.
    Worth(Candidate),
}

/// A key to be warmed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warm {
    /// Which key.
    pub key: u64,
    /// By which source.
    pub source: Source,
    /// Why now.
    pub reason: Reason,
    /// How likely it is to be asked for.
    pub probability: f32,
}

impl From<Candidate> for Warm {
    fn from(candidate: Candidate) -> Self {
        let Prediction {
            key,
            source,
            probability,
            ..
        } = candidate.prediction;
        Self {
            key,
            source,
            reason: candidate.reason,
            probability,
        }
    }
}

/// A plan in batches, the most gain first.
pub fn batches(plan: &[Warm]) -> impl Iterator<Item = &[Warm]> {
    plan.chunks(BATCH)
}

/// One candidate a key, the best; the most gain first.
pub fn rank(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let order = |one: &Candidate, other: &Candidate| {
        let gain = other.gain_ms.total_cmp(&one.gain_ms);
        let likely = other
            .prediction
            .probability
            .total_cmp(&one.prediction.probability);
        gain.then(likely)
            .then(one.prediction.key.cmp(&other.prediction.key))
            .then(one.prediction.source.cmp(&other.prediction.source))
    };
    let key = |candidate: &Candidate| candidate.prediction.key;
    candidates.sort_unstable_by(|one, other| key(one).cmp(&key(other)).then(order(one, other)));
    candidates.dedup_by_key(|candidate| key(candidate));
    candidates.sort_unstable_by(order);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(key: u64, probability: f32, gain_ms: f32) -> Candidate {
        let prediction = Prediction {
            key,
            source: Source::Frequency,
            probability,
            support: 10,
        };
        Candidate {
            prediction,
            reason: Reason::Ahead,
            gain_ms,
            cached_until_ms: 0,
        }
    }

    #[test]
    fn worth_is_more_than_likely() {
        let worth = Worth::default();
        let likely = candidate(1, 0.6, 0.0).prediction;
        assert!(worth.founded(&likely));
        assert!(worth.gain_ms(&likely, 200.0) > 0.0);
        assert!(
            worth.gain_ms(&likely, 50.0) < 0.0,
            "the wait is shorter than the call is dear"
        );
        assert!(!worth.founded(&Prediction { support: 9, ..likely }));
        assert!(!worth.founded(&Prediction {
            probability: 0.49,
            ..likely
        }));
        assert!(!worth.founded(&Prediction {
            probability: f32::NAN,
            ..likely
        }));
    }

    #[test]
    fn the_last_call_is_for_what_is_most_likely() {
        let worth = Worth::default();
        assert!((worth.bar(1.0) - 0.5).abs() < 1e-6);
        assert!((worth.bar(0.0) - 0.9).abs() < 1e-6);
    }

    #[test]
    fn the_best_of_each_key_by_gain() {
        let all = vec![
            candidate(1, 0.5, 10.0),
            candidate(2, 0.9, 20.0),
            candidate(1, 0.8, 30.0),
            candidate(3, 0.9, 20.0),
        ];
        let ranked: Vec<_> = rank(all)
            .iter()
            .map(|one| (one.prediction.key, one.gain_ms))
            .collect();
        assert_eq!(ranked, [(1, 30.0), (2, 20.0), (3, 20.0)]);
    }

    #[test]
    fn batches_of_ten() {
        let plan = vec![Warm::from(candidate(1, 0.5, 1.0)); 23];
        let sizes: Vec<_> = batches(&plan).map(<[Warm]>::len).collect();
        assert_eq!(sizes, [10, 10, 3]);
    }
}
