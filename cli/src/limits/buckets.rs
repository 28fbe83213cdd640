//! A service's limits with how they stand: what a worker says is in force, what Redis knows of it.

use std::time::Duration;

use serde_json::{Value, json};
use shared::connect;
use shared::limiter::live::Now;
use shared::limiter::{Limiter, Rule, Unavailable};
use worker::provider::{Provider, slack};

use super::reading::Reading;
use crate::fleet;
use crate::terminal::clean;

/// How long Redis may take for an answer.
const REDIS_WITHIN: Duration = Duration::from_secs(3);
/// How long going through its keys may take.
const KEYS_WITHIN: Duration = Duration::from_secs(30);
/// Most channels, methods and the like that are looked at.
pub(crate) const MOST_KEYS: usize = 20_000;

/// Limits of which each channel, method or tenant has a bucket of its own.
const EACH: [&str; 3] = ["channel", "method", "tenant"];

/// A limit, or the bucket of one channel, method or the like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    /// What is limited.
    pub(crate) name: String,
    /// How; `None` where nobody says any more.
    pub(crate) rule: Option<Rule>,
    /// Only counted, never in the way.
    pub(crate) shadow: bool,
    /// Only some calls fall under it.
    pub(crate) apart: bool,
    /// How it stands, where that is known.
    pub(crate) reading: Option<Reading>,
}

impl Limit {
    /// Whether each channel, method or tenant has a bucket of this, and the limit itself none.
    pub(crate) fn is_of_each(&self) -> bool {
        self.apart && EACH.contains(&self.name.as_str())
    }

    /// What the rule is for, where that is not every call.
    pub(crate) fn scope(&self) -> Option<String> {
        if self.is_of_each() {
            Some(format!("of each {}", self.name))
        } else {
            (self.apart && !self.name.contains(':')).then(|| "of some calls".to_owned())
        }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let mut value = self.reading.as_ref().map_or_else(|| json!({}), Reading::json);
        value["name"] = json!(self.name);
        value["rule"] = json!(self.rule.map(|rule| rule.to_string()));
        value["shadow"] = json!(self.shadow);
        value["apart"] = json!(self.apart);
        value
    }

    /// Its rule's text.
    pub(crate) fn rule_text(&self) -> String {
        self.rule.map_or("?".into(), |rule| rule.to_string())
    }

    /// Whether it keeps calls waiting.
    pub(crate) fn holds(&self) -> bool {
        !self.shadow && self.reading.as_ref().is_some_and(|reading| reading.next > 0.0)
    }
}

/// Buckets of channels, methods and the like.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    /// The busiest first.
    pub(crate) keys: Vec<Limit>,
    /// Whether there are more than were looked at.
    pub(crate) cut: bool,
}

/// The buckets of a fleet.
pub(crate) struct Buckets {
    limiter: Limiter,
    url: String,
}

impl Buckets {
    /// Those in this Redis. Nothing is asked yet.
    pub(crate) fn open(url: &str) -> Result<Self, String> {
        let redis = connect::redis(url).map_err(|error| error.to_string())?;
        Ok(Self {
            limiter: Limiter::new(redis, "weir", false),
            url: fleet::shown(url),
        })
    }

    /// How the limits stand that a worker says are in force.
    pub(crate) async fn limits(&self, now: &Now) -> Result<Vec<Limit>, String> {
        self.read(now, limits(now)).await
    }

    /// How one bucket stands.
    pub(crate) async fn one(&self, now: &Now, limit: Limit) -> Result<Limit, String> {
        let mut read = self.read(now, vec![limit]).await?;
        read.pop().ok_or_else(|| "Redis says nothing of it".to_owned())
    }

    /// The buckets that single channels, methods and the like have.
    pub(crate) async fn apart(&self, now: &Now) -> Result<Apart, String> {
        let found = self
            .within(KEYS_WITHIN, self.limiter.keys(&now.tag, MOST_KEYS))
            .await?;
        let names = found.keys.iter().filter_map(|key| {
            let name = key.strip_prefix(&now.tag)?.strip_prefix(':')?;
            // Without a colon it is left over from a limit that is gone.
            (!now.limits.contains_key(name) && name.contains(':')).then(|| dynamic(now, name))
        });
        let mut keys = self.read(now, names.collect()).await?;
        let busy = |limit: &Limit| {
            let reading = limit.reading.as_ref();
            reading.map_or((0.0, 0.0, 0.0), |r| (r.next, r.used, r.granted))
        };
        keys.sort_by(|a, b| {
            let (a, b) = (busy(a), busy(b));
            b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal)
        });
        Ok(Apart { keys, cut: found.cut })
    }

    async fn read(&self, now: &Now, mut limits: Vec<Limit>) -> Result<Vec<Limit>, String> {
        if limits.is_empty() {
            return Ok(limits);
        }
        let key = |limit: &Limit| format!("{}:{}", now.tag, limit.name);
        let keys: Vec<String> = limits.iter().map(key).collect();
        let standings = self
            .within(REDIS_WITHIN, self.limiter.standings(&now.tag, &keys))
            .await?;
        for (limit, standing) in limits.iter_mut().zip(standings) {
            limit.reading = limit
                .rule
                .filter(|_| !limit.is_of_each())
                .zip(standing)
                .map(|(rule, standing)| Reading::new(rule, &standing));
        }
        Ok(limits)
    }

    async fn within<T>(
        &self,
        time: Duration,
        asked: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, String> {
        match tokio::time::timeout(time, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!(
                "Redis at {}: {}",
                self.url,
                clean(&error.to_string(), 200)
            )),
            Err(_) => Err(format!(
                "Redis at {} does not answer within {} s",
                self.url,
                time.as_secs()
            )),
        }
    }
}

/// The limits that a worker says are in force, without how they stand.
pub(crate) fn limits(now: &Now) -> Vec<Limit> {
    let limits = now.limits.iter().map(|(name, limit)| Limit {
        name: name.clone(),
        rule: Some(limit.rule),
        shadow: limit.shadow,
        apart: limit.apart,
        reading: None,
    });
    limits.collect()
}

/// The limit of one channel, method or the like.
pub(crate) fn dynamic(now: &Now, name: &str) -> Limit {
    let (family, of) = name.split_once(':').unwrap_or((name, ""));
    let set = now.limits.get(family);
    let is_slack = Provider::named(&now.provider) == Some(Provider::Slack);
    let tier = || {
        (is_slack && family == "method")
            .then(|| slack::tier(of).parse().ok())
            .flatten()
    };
    Limit {
        name: name.to_owned(),
        rule: set.map(|set| set.rule).or_else(tier),
        shadow: set.is_some_and(|set| set.shadow),
        apart: true,
        reading: None,
    }
}
