//! The limits of one service by name, as they are at this moment, and the charges that they make for its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use shared::limiter::{Charge, Rule};

/// The limit that each tenant has for itself, where one is set.
pub const TENANT: &str = "tenant";

/// A limit as it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// How much.
    pub rule: Rule,
    /// Only counted, never in the way.
    pub shadow: bool,
}

/// All limits of a service, by the provider's name of what is limited (`requests`, `content`, `channel`).
pub type Table = BTreeMap<String, Set>;

/// The limits of one service and credential.
#[derive(Debug)]
pub struct Limits {
    /// Service and credential, in the braces that keep all buckets of a credential on one node.
    tag: String,
    /// Names that only some calls fall under; a handler charges those.
    apart: &'static [&'static str],
    now: RwLock<Now>,
    /// What calls cost of late, by name.
    spent: RwLock<BTreeMap<&'static str, f64>>,
}

#[derive(Debug)]
struct Now {
    table: Table,
    base: Arc<[Charge]>,
}

impl Limits {
    /// Limits of the credential behind `tag`. Every call falls under each of them but those named in `apart`.
    pub fn new(tag: String, apart: &'static [&'static str], table: Table) -> Self {
        let limits = Self {
            tag,
            apart,
            now: RwLock::new(Now {
                table: Table::new(),
                base: Arc::from([]),
            }),
            spent: RwLock::default(),
        };
        limits.change(table);
        limits
    }

    /// Puts other limits in force from the next call on.
    pub fn change(&self, table: Table) {
        let base = table
            .iter()
            .filter(|(name, _)| !self.is_apart(name))
            .map(|(name, set)| self.make(name, *set, 1))
            .collect();
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Now { table, base };
    }

    /// Whether only some calls fall under the limit of this name, or each of many buckets is for some.
    pub fn is_apart(&self, name: &str) -> bool {
        name == TENANT || self.apart.contains(&name) || name.contains(':')
    }

    /// What every call falls under.
    pub fn base(&self) -> Arc<[Charge]> {
        Arc::clone(&self.now().base)
    }

    /// All limits, as they are.
    pub fn table(&self) -> Table {
        self.now().table.clone()
    }

    /// The charge of a call that falls under `name`; none without such a limit. A cost above what the limit can ever
    /// let through counts as that.
    pub fn charge(&self, name: &str, cost: u32) -> Option<Charge> {
        let set = *self.now().table.get(name)?;
        Some(self.make(name, set, cost))
    }

    /// The charge of a call that falls under the bucket `of` among those of `name`, for example one channel's. A limit of
    /// the name `channel:C024BE91L` is that channel's own.
    pub fn charge_of(&self, name: &str, of: &str, cost: u32) -> Option<Charge> {
        let own = format!("{name}:{of}");
        let now = self.now();
        let set = *now.table.get(&own).or_else(|| now.table.get(name))?;
        Some(self.make(&own, set, cost))
    }

    /// The charge of a call under a limit that stands in no table.
    pub fn charge_by(&self, name: &str, rule: Rule) -> Charge {
        let set = Set { rule, shadow: false };
        self.make(name, set, 1)
    }

    /// What to reserve for a call whose cost only its answer tells: what calls cost of late and a quarter more, or
    /// `guess` while nothing is known.
    pub fn estimate(&self, name: &str, guess: u32) -> u32 {
        let spent = self.spent.read().unwrap_or_else(PoisonError::into_inner);
        spent.get(name).map_or(guess, |spent| (spent * 1.25) as u32)
    }

    /// Learns what a call has cost.
    pub fn learn(&self, name: &'static str, cost: u64) {
        let mut spent = self.spent.write().unwrap_or_else(PoisonError::into_inner);
        let mean = spent.entry(name).or_insert(cost as f64);
        *mean += (cost as f64 - *mean) / 10.0;
    }

    /// What every key of its buckets begins with.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The key of the bucket of this name.
    pub fn key(&self, name: &str) -> Arc<str> {
        format!("{}:{name}", self.tag).into()
    }

    fn make(&self, name: &str, set: Set, cost: u32) -> Charge {
        Charge {
            key: self.key(name),
            rule: set.rule,
            cost: cost.clamp(1, set.rule.most()),
            shadow: set.shadow,
        }
    }

    fn now(&self) -> std::sync::RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is limited, from a bucket's key: `{github:1f3a}:content` is about `content`.
pub fn dimension(key: &str) -> &str {
    key.split_once("}:").map_or(key, |(_, name)| name)
}
