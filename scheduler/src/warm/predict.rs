//! What will be asked for within the next minutes, and how likely.

use super::follow::Followers;
use super::learn::{HALF_LIFE_MS, Known};
use super::rhythm::SLOT_MS;

/// A prediction begins so long before the slot that it is about, so that the fetch is done when the slot begins.
const AHEAD_MS: u64 = 2 * 60_000;
/// It is made until so long after the slot began: later, what was to come in it may have come.
const INTO_MS: u64 = 3 * 60_000;

/// Where a prediction comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// It is asked for often, lately.
    Frequency,
    /// It is asked for at this time of day or week.
    Rhythm,
    /// It is asked for after what somebody just asked for.
    Follows,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Frequency, Self::Rhythm, Self::Follows];

    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frequency => "frequency",
            Self::Rhythm => "rhythm",
            Self::Follows => "follows",
        }
    }
}

/// That a key will be asked for before an entry that is fetched now would end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Which key.
    pub key: u64,
    /// Where this comes from.
    pub source: Source,
    /// How likely it is, 0 to 1.
    pub probability: f32,
    /// How often it could have been seen to be true or false.
    pub support: u32,
}

/// From how often it is asked for: that a Poisson process of its present rate has an event within `horizon_ms`.
pub(super) fn frequency(key: u64, known: &Known, now_ms: u64, horizon_ms: u64) -> Prediction {
    let expected = known.recent.at(now_ms, HALF_LIFE_MS) * horizon_ms as f32 / HALF_LIFE_MS as f32;
    Prediction {
        key,
        source: Source::Frequency,
        // A decayed count is rate x half-life / ln 2, so 1 - exp(-rate x horizon) has a base of 2.
        probability: 1.0 - (-expected).exp2(),
        support: known.seen,
    }
}

/// From the time of day and of week. Nothing between the beginnings of slots.
pub(super) fn rhythm(key: u64, known: &Known, now_ms: u64, horizon_ms: u64) -> Option<Prediction> {
    let from_ms = now_ms.saturating_add(AHEAD_MS);
    if from_ms % SLOT_MS >= AHEAD_MS + INTO_MS {
        return None;
    }
    let share = known.rhythm.share(from_ms, horizon_ms / SLOT_MS);
    Some(Prediction {
        key,
        source: Source::Rhythm,
        probability: share.probability,
        support: share.days,
    })
}

/// From what was just asked for: what follows it.
pub(super) fn follows(followers: &Followers) -> impl Iterator<Item = Prediction> {
    followers.likely().map(|(key, probability)| Prediction {
        key,
        source: Source::Follows,
        probability,
        support: followers.times(),
    })
}
