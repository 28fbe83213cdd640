//! Whether warming is worth it, told from what came of each prediction.
//!
//! Each prediction is judged on what comes after it, and learnt from only then: a time split at every moment
//! ("prequential", A. P. Dawid, "Statistical theory: the prequential approach", 1984). Each source is judged by itself. It
//! begins in shadow: what it would fetch is noted, and nothing is fetched. It goes live when it was right often enough,
//! and back into the shadow when it is not, or when an upstream refused calls after warming made some.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::access::{AHEAD_MS, Access};
use super::account::{Account, Day};
use super::plan::Candidate;
use super::predict::Source;

/// Below this share of right predictions a source falls silent.
pub const STOP: f32 = 0.4;
/// From this share on it goes live.
pub const START: f32 = 0.5;
/// Predictions whose end must be known before anything is told of them.
pub const NEEDED: u32 = 40;
/// Bets that may be open at once: what is predicted beyond that is left alone.
const MOST_OPEN: usize = 16_384;
/// What is asked for so soon was predicted too late.
const TOO_LATE_MS: u64 = 2_000;
/// A refusal so soon after a call of warming is put down to it.
const BLAME_MS: u64 = 60_000;
/// Silence after a first refusal; doubled with each that follows within [`FORGIVEN_MS`].
const SILENCE_MS: u64 = 3_600_000;
const MOST_DOUBLINGS: u32 = 5;
const FORGIVEN_MS: u64 = 7 * 24 * 3_600_000;

/// What came of the last 64 predictions of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    right: u64,
    known: u32,
    live: bool,
}

impl Record {
    /// Whether its predictions lead to calls.
    pub fn live(&self) -> bool {
        self.live
    }

    /// How many of its latest predictions came to a known end.
    pub fn judged(&self) -> u32 {
        self.known.min(u64::BITS)
    }

    /// The share that was right, 0 to 1, when enough are known.
    pub fn precision(&self) -> Option<f32> {
        let known = self.judged();
        let right = self.right.count_ones().min(known);
        (known >= NEEDED).then(|| right as f32 / known as f32)
    }

    fn settle(&mut self, right: bool) {
        self.right = self.right << 1 | u64::from(right);
        self.known = self.known.saturating_add(1).min(u64::BITS);
        match self.precision() {
            Some(precision) if self.live && precision < STOP => *self = Self::default(),
            Some(precision) if !self.live && precision >= START => self.live = true,
            _ => {}
        }
    }
}

/// What has to be kept when another takes over, a few hundred bytes: without it everything begins in shadow again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// In the order of [`Source::ALL`].
    records: [Record; Source::ALL.len()],
    refused_ms: Option<u64>,
    doublings: u32,
}

/// A prediction whose end is not known.
#[derive(Debug, Clone, Copy)]
struct Bet {
    source: Source,
    at_ms: u64,
    /// Before this it is in the cache anyway.
    from_ms: u64,
    live: bool,
    used: bool,
}

/// Keeps the accounts of predictions.
#[derive(Debug)]
pub struct Judge {
    bets: HashMap<u64, Bet>,
    /// Keys and times of bets in the order in which they end.
    ends: VecDeque<(u64, u64)>,
    standing: Standing,
    day: Day,
    horizon_ms: u64,
    last_live_ms: Option<u64>,
}

impl Judge {
    /// A prediction has `horizon_ms` to come true.
    pub fn new(horizon_ms: u64, standing: Standing) -> Self {
        Self {
            bets: HashMap::new(),
            ends: VecDeque::new(),
            standing,
            day: Day::default(),
            horizon_ms,
            last_live_ms: None,
        }
    }

    /// Whether predictions of this source may lead to calls at `now_ms`.
    pub fn live(&self, source: Source, now_ms: u64) -> bool {
        self.standing.records[source as usize].live
            && self.silent_until_ms().is_none_or(|until| now_ms >= until)
    }

    /// Until when nothing is fetched because of a refusal.
    pub fn silent_until_ms(&self) -> Option<u64> {
        let silence_ms = SILENCE_MS << self.standing.doublings.min(MOST_DOUBLINGS);
        self.standing.refused_ms.map(|at| at.saturating_add(silence_ms))
    }

    /// What came of the latest predictions of a source.
    pub fn record(&self, source: Source) -> Record {
        self.standing.records[source as usize]
    }

    /// What is to be kept of all this.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What came of warming within the last 24 hours.
    pub fn account(&self, now_ms: u64) -> Account {
        self.day.sum(now_ms)
    }

    /// Whether a prediction of this key can be taken on: none is open that was not right yet, and there is room.
    pub fn free(&self, key: u64) -> bool {
        self.ends.len() < MOST_OPEN && self.bets.get(&key).is_none_or(|bet| bet.used)
    }

    /// A prediction is taken on, which must be [free](Self::free).
    pub fn bet(&mut self, candidate: &Candidate, live: bool, now_ms: u64) {
        let key = candidate.prediction.key;
        if let Some(right) = self.bets.remove(&key) {
            self.settle(right);
        }
        if live {
            self.last_live_ms = Some(now_ms);
        }
        let bet = Bet {
            source: candidate.prediction.source,
            at_ms: now_ms,
            from_ms: candidate.cached_until_ms.max(now_ms),
            live,
            used: false,
        };
        self.bets.insert(key, bet);
        self.ends.push_back((key, now_ms));
    }

    /// A key was looked up.
    pub fn look(&mut self, access: &Access) {
        let account = self.day.at(access.at_ms);
        account.looks += 1;
        account.misses += u64::from(access.missed());
        let Some(bet) = self.bets.get_mut(&access.key) else {
            return;
        };
        let ends_ms = bet.at_ms.saturating_add(self.horizon_ms);
        if bet.used || access.at_ms < bet.from_ms || access.at_ms >= ends_ms {
            return;
        }
        let lead_ms = access.at_ms - bet.at_ms;
        let late = lead_ms < TOO_LATE_MS;
        match (bet.live, access.missed()) {
            // Warmed and found; or only noted, and missed as foretold.
            (true, false) => {
                bet.used = true;
                account.right(true, lead_ms);
            }
            (false, true) if !late => {
                bet.used = true;
                account.right(false, lead_ms);
            }
            // Warmed, and lost again before it was of use.
            (true, true) if !late => {
                let bet = *bet;
                self.bets.remove(&access.key);
                self.settle(bet);
            }
            // Predicted too late, or in the cache for another reason: neither right nor wrong.
            _ => {
                self.bets.remove(&access.key);
            }
        }
    }

    /// A key was not fetched although it was planned: its prediction is neither right nor wrong. True if one was open that
    /// had counted as a call.
    pub fn skipped(&mut self, key: u64) -> bool {
        self.bets.remove(&key).is_some_and(|bet| bet.live)
    }

    /// Settles what has ended by `now_ms`. What was taken on at a time that is still to come (a clock was wrong) is left out.
    pub fn pass(&mut self, now_ms: u64) {
        while let Some((key, at_ms)) = self.ends.front().copied() {
            let ended = at_ms.saturating_add(self.horizon_ms) <= now_ms;
            let to_come = at_ms > now_ms.saturating_add(AHEAD_MS);
            if !ended && !to_come {
                break;
            }
            self.ends.pop_front();
            if self.bets.get(&key).is_some_and(|bet| bet.at_ms == at_ms)
                && let Some(bet) = self.bets.remove(&key)
                && ended
            {
                self.settle(bet);
            }
        }
    }

    /// An upstream refused a call (429 and the like). When warming made calls shortly before, all sources fall silent, for
    /// an hour first, and have to prove themselves anew. True when it did.
    pub fn refused(&mut self, at_ms: u64) -> bool {
        let to_blame = self.last_live_ms.is_some_and(|last| {
            last <= at_ms.saturating_add(TOO_LATE_MS) && at_ms.saturating_sub(last) <= BLAME_MS
        });
        if to_blame {
            self.silence(at_ms);
        }
        to_blame
    }

    /// A call that warming made was refused: all sources fall silent, as after [`refused`](Self::refused).
    pub fn silence(&mut self, at_ms: u64) {
        self.standing.doublings = match self.standing.refused_ms {
            Some(before) if at_ms.saturating_sub(before) < FORGIVEN_MS => {
                self.standing.doublings.saturating_add(1).min(MOST_DOUBLINGS)
            }
            _ => 0,
        };
        self.standing.refused_ms = Some(at_ms);
        self.standing.records = Default::default();
        self.last_live_ms = None;
    }

    fn settle(&mut self, bet: Bet) {
        if !bet.used {
            self.day.at(bet.at_ms).wrong(bet.live);
        }
        let record = &mut self.standing.records[bet.source as usize];
        // What a source did in another mode than its present one says nothing of it.
        if record.live == bet.live {
            record.settle(bet.used);
        }
    }
}

#[cfg(test)]
mod tests;
