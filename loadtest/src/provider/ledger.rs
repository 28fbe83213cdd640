//! Every call the simulated provider saw, in bounded memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::{Deserialize, Serialize};

/// Most distinct effects counted; later ones are only told as untracked.
const MAX_EFFECTS: usize = 2_000_000;
/// Most events whose writes are counted by name.
const MAX_WRITTEN: usize = 500_000;
/// Examples of doubled effects kept.
const MAX_EXAMPLES: usize = 20;
/// Longest path or id kept of a call, in bytes.
const MAX_TEXT: usize = 256;

/// Which API a call was made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// GitHub's REST API.
    Github,
    /// Slack's Web API.
    Slack,
    /// Plain hooks with Standard Webhooks signatures.
    Http,
    /// OpenAI's chat completions.
    Openai,
    /// Anthropic's messages.
    Anthropic,
    /// xAI's chat completions.
    Xai,
    /// Linear's GraphQL API.
    Linear,
    /// Google Drive's API.
    Drive,
}

impl Api {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Slack => "slack",
            Self::Http => "http",
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Xai => "xai",
            Self::Linear => "linear",
            Self::Drive => "drive",
        }
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Served: its effect took place.
    Accepted,
    /// Over a limit: a breach.
    Refused,
    /// Failed by a configured fault before it had an effect.
    Failed,
    /// Wrong in itself: no credential, bad signature, unknown method.
    Rejected,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Milliseconds since the provider's start.
    pub at_ms: f64,
    /// The API it was made to.
    pub api: Api,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Hash of the credential in hex, empty without one; the credential itself is not kept.
    pub credential: String,
    /// HTTP status answered; 0 for a call left hanging.
    pub status: u16,
    /// What came of it.
    pub answer: Answer,
    /// Whether it changes something: what only reads may be made again.
    #[serde(default)]
    pub write: bool,
    /// From `webhook-id`, `weir-event-id` or `idempotency-key`, in this order.
    pub event_id: Option<String>,
    /// The `traceparent` it carried.
    pub traceparent: Option<String>,
}

/// Calls by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All calls.
    pub calls: u64,
    /// Served.
    pub accepted: u64,
    /// Over a limit: the breaches.
    pub refused: u64,
    /// Failed by a configured fault.
    pub failed: u64,
    /// Wrong in themselves.
    pub rejected: u64,
}

/// Effects that took place more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubled {
    /// How many pairs of event id and call (method and path) were accepted more than once.
    pub count: u64,
    /// The first event ids of them, at most 20.
    pub examples: Vec<String>,
    /// Distinct effects counted so far.
    pub tracked: u64,
    /// Accepted calls that came when the memory for effects was full.
    pub untracked: u64,
}

/// Ring of the last calls and counters over all of them.
#[derive(Debug)]
pub struct Ledger {
    ring: VecDeque<Call>,
    capacity: usize,
    counts: BTreeMap<Api, Counts>,
    effects: HashMap<u64, u32>,
    doubled: Doubled,
    written: HashMap<String, u32>,
    span_ms: Option<(f64, f64)>,
}

impl Ledger {
    /// A ledger that keeps the last `capacity` calls (at least one).
    pub fn new(capacity: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            capacity: capacity.max(1),
            counts: BTreeMap::new(),
            effects: HashMap::new(),
            doubled: Doubled::default(),
            written: HashMap::new(),
            span_ms: None,
        }
    }

    /// Writes one call down; long texts are cut.
    pub fn record(&mut self, mut call: Call) {
        let counts = self.counts.entry(call.api).or_default();
        counts.calls += 1;
        match call.answer {
            Answer::Accepted => counts.accepted += 1,
            Answer::Refused => counts.refused += 1,
            Answer::Failed => counts.failed += 1,
            Answer::Rejected => counts.rejected += 1,
        }
        let first = self.span_ms.map_or(call.at_ms, |(first, _)| first);
        self.span_ms = Some((first, call.at_ms));
        if call.answer == Answer::Accepted {
            self.count_effect(&call);
        }
        cut(&mut call.path);
        call.event_id
            .iter_mut()
            .chain(call.traceparent.iter_mut())
            .for_each(cut);
        if self.ring.len() == self.capacity {
            self.ring.pop_front();
        }
        self.ring.push_back(call);
    }

    /// The last calls, oldest first; with `id` only those of this event. At most `limit`, the newest.
    pub fn calls(&self, id: Option<&str>, limit: usize) -> Vec<Call> {
        let mut found: Vec<Call> = self
            .ring
            .iter()
            .rev()
            .filter(|call| id.is_none() || call.event_id.as_deref() == id)
            .take(limit)
            .cloned()
            .collect();
        found.reverse();
        found
    }

    /// Calls by API.
    pub fn counts(&self) -> &BTreeMap<Api, Counts> {
        &self.counts
    }

    /// Calls of all APIs together.
    pub fn total(&self) -> Counts {
        self.counts.values().fold(Counts::default(), |sum, one| Counts {
            calls: sum.calls + one.calls,
            accepted: sum.accepted + one.accepted,
            refused: sum.refused + one.refused,
            failed: sum.failed + one.failed,
            rejected: sum.rejected + one.rejected,
        })
    }

    /// Effects that took place more than once.
    pub fn doubled(&self) -> Doubled {
        Doubled {
            tracked: self.effects.len() as u64,
            ..self.doubled.clone()
        }
    }

    /// How often each event's write took place, of those that named their event.
    pub fn effects(&self) -> &HashMap<String, u32> {
        &self.written
    }

    /// Times of the first and the last call in milliseconds since the provider's start.
    pub fn span_ms(&self) -> Option<(f64, f64)> {
        self.span_ms
    }

    fn count_effect(&mut self, call: &Call) {
        let Some(id) = &call.event_id else { return };
        if call.write && (self.written.len() < MAX_WRITTEN || self.written.contains_key(id)) {
            *self.written.entry(id.clone()).or_default() += 1;
        }
        let mut hasher = DefaultHasher::new();
        (id, call.api, &call.method, &call.path).hash(&mut hasher);
        let key = hasher.finish();
        if self.effects.len() >= MAX_EFFECTS && !self.effects.contains_key(&key) {
            self.doubled.untracked += 1;
            return;
        }
        let times = self.effects.entry(key).or_default();
        *times += 1;
        if *times == 2 {
            self.doubled.count += 1;
            if self.doubled.examples.len() < MAX_EXAMPLES {
                let mut id = id.clone();
                cut(&mut id);
                self.doubled.examples.push(id);
            }
        }
    }
}

/// Hash of a credential, for telling credentials apart without keeping them.
pub fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn cut(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = text.floor_char_boundary(MAX_TEXT);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str, path: &str, answer: Answer) -> Call {
        Call {
            at_ms: 1.0,
            api: Api::Github,
            method: "POST".into(),
            path: path.into(),
            credential: String::new(),
            status: 200,
            answer,
            write: true,
            event_id: Some(id.into()),
            traceparent: None,
        }
    }

    #[test]
    fn the_same_call_for_the_same_event_is_doubled_once() {
        let mut ledger = Ledger::new(10);
        ledger.record(call("a", "/x", Answer::Accepted));
        ledger.record(call("a", "/y", Answer::Accepted));
        ledger.record(call("b", "/x", Answer::Failed));
        ledger.record(call("b", "/x", Answer::Accepted));
        assert_eq!(
            ledger.doubled().count,
            0,
            "another path or a failed try is no second effect"
        );
        ledger.record(call("a", "/x", Answer::Accepted));
        ledger.record(call("a", "/x", Answer::Accepted));
        assert_eq!(ledger.doubled().count, 1);
        assert_eq!(ledger.doubled().examples, ["a"]);
        assert_eq!(ledger.doubled().tracked, 3);
        assert_eq!((ledger.effects()["a"], ledger.effects()["b"]), (4, 1));
    }

    #[test]
    fn the_ring_forgets_and_the_counters_do_not() {
        let mut ledger = Ledger::new(2);
        for id in ["a", "b", "c"] {
            ledger.record(call(id, "/x", Answer::Refused));
        }
        assert_eq!(ledger.total().refused, 3);
        assert!(ledger.calls(Some("a"), 10).is_empty());
        assert_eq!(ledger.calls(None, 1)[0].event_id.as_deref(), Some("c"));
    }

    #[test]
    fn long_hostile_texts_are_cut_at_a_character() {
        let mut ledger = Ledger::new(1);
        ledger.record(call(&"é".repeat(4000), &"ü".repeat(4001), Answer::Accepted));
        let kept = &ledger.calls(None, 1)[0];
        assert!(kept.path.len() <= MAX_TEXT && kept.event_id.as_ref().is_some_and(|id| id.len() <= MAX_TEXT));
    }
}
