//! A cache whose entries end after a time, in front of calls, with and without warming.

use std::collections::{HashMap, VecDeque};

use scheduler::warm::access::{Access, Found};
use scheduler::warm::predict::Source;
use scheduler::warm::{Settings, Warmer};

use crate::trace::{DAY, Look, MINUTE};

/// Time from a look-up to the planner hearing of it: the log is flushed that often.
pub(crate) const LOG_LAG_MS: u64 = 5_000;
/// Plans are made from so long before the measured time on: sources have to prove themselves in shadow first.
const PROVING_MS: u64 = 4 * DAY;
/// Time from a plan to the beginning of a fetch.
const ON_ITS_WAY_MS: u64 = 300;

/// What came of a run, from a time on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) looks: u64,
    pub(crate) hits: u64,
    /// Calls, those of warming included.
    pub(crate) calls: u64,
    pub(crate) warmed: u64,
    /// Those of them that were of use: a look-up that without them had been a miss.
    pub(crate) used: u64,
    /// Time from fetches to that look-up, all together.
    pub(crate) lead_ms: u64,
    /// Made and used, by source.
    pub(crate) by_source: HashMap<Source, (u64, u64)>,
}

impl Outcome {
    pub(crate) fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.looks as f64
    }

    pub(crate) fn precision(&self) -> Option<f64> {
        (self.warmed > 0).then(|| self.used as f64 / self.warmed as f64)
    }

    /// Of what had been missed without it, the share that was found.
    pub(crate) fn coverage(&self) -> f64 {
        let misses = self.looks - self.hits;
        self.used as f64 / (self.used + misses).max(1) as f64
    }
}

/// An entry of the cache.
#[derive(Clone, Copy)]
struct Entry {
    until_ms: u64,
    /// What was warmed and not used yet: since when, until when it had been there anyway, by which source.
    warmed: Option<(u64, u64, Source)>,
}

/// Plays a trace; counts from `from_ms` on. Without settings nothing is warmed.
pub(crate) fn play(
    looks: &[Look],
    ttl_ms: u64,
    settings: Option<Settings>,
    from_ms: u64,
) -> (Outcome, Option<Warmer>) {
    let mut run = Run {
        ttl_ms,
        from_ms,
        plan_from_ms: from_ms.saturating_sub(PROVING_MS),
        entries: HashMap::new(),
        log: VecDeque::new(),
        warmer: settings.map(|settings| Warmer::new(settings, None)),
        outcome: Outcome::default(),
    };
    let Some(first) = looks.first() else {
        return (run.outcome, run.warmer);
    };
    let mut tick = first.at_ms;
    for look in looks {
        while tick <= look.at_ms {
            run.plan(tick);
            tick += LOG_LAG_MS;
        }
        run.look(look);
    }
    // What was asked for last is still to be told.
    run.plan(tick);
    (run.outcome, run.warmer)
}

struct Run {
    ttl_ms: u64,
    from_ms: u64,
    plan_from_ms: u64,
    entries: HashMap<u64, Entry>,
    log: VecDeque<Access>,
    warmer: Option<Warmer>,
    outcome: Outcome,
}

impl Run {
    fn look(&mut self, look: &Look) {
        let counted = look.at_ms >= self.from_ms;
        let entry = self.entries.entry(look.key).or_insert(Entry {
            until_ms: 0,
            warmed: None,
        });
        // A fetch that is under way is waited for: no hit.
        let there = entry.warmed.is_none_or(|(since, ..)| since <= look.at_ms);
        let hit = there && look.at_ms < entry.until_ms;
        let of_use = entry.warmed.filter(|(_, anyway, _)| look.at_ms >= *anyway);
        if let Some((since, _, source)) = of_use {
            entry.warmed = None;
            if hit && since >= self.from_ms {
                self.outcome.used += 1;
                self.outcome.lead_ms += look.at_ms - since;
                self.outcome.by_source.entry(source).or_default().1 += 1;
            }
        }
        if !hit {
            entry.until_ms = look.at_ms + self.ttl_ms;
        }
        self.outcome.looks += u64::from(counted);
        self.outcome.hits += u64::from(counted && hit);
        self.outcome.calls += u64::from(counted && !hit);
        self.log.push_back(Access {
            at_ms: look.at_ms,
            key: look.key,
            actor: Some(look.actor),
            repository: Some(look.repository),
            found: if hit { Found::Redis } else { Found::Nowhere },
            fetch_ms: (!hit).then(|| look.fetch_ms()),
        });
    }

    fn plan(&mut self, now_ms: u64) {
        let Some(warmer) = &mut self.warmer else { return };
        for access in self.log.drain(..) {
            warmer.observe(&access, now_ms);
        }
        if now_ms < self.plan_from_ms {
            return;
        }
        let mut plan = warmer.after(now_ms, true);
        if now_ms % MINUTE < LOG_LAG_MS {
            plan.extend(warmer.round(now_ms, true));
        }
        for warm in plan {
            let entry = self.entries.entry(warm.key).or_insert(Entry {
                until_ms: 0,
                warmed: None,
            });
            let probe = Look {
                at_ms: now_ms,
                key: warm.key,
                actor: 0,
                repository: 0,
            };
            let since = now_ms + ON_ITS_WAY_MS + u64::from(probe.fetch_ms());
            if entry.until_ms > now_ms + MINUTE {
                // It is there, and is not about to end.
                warmer.skipped(warm.key);
                continue;
            }
            *entry = Entry {
                warmed: Some((since, entry.until_ms.max(since), warm.source)),
                until_ms: since + self.ttl_ms,
            };
            self.log.push_back(Access {
                at_ms: since,
                found: Found::Unasked,
                key: warm.key,
                actor: None,
                repository: None,
                fetch_ms: Some(probe.fetch_ms()),
            });
            if since >= self.from_ms {
                self.outcome.calls += 1;
                self.outcome.warmed += 1;
                self.outcome.by_source.entry(warm.source).or_default().0 += 1;
            }
        }
    }
}
