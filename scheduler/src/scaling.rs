//! From looks at the queues, and from what workers say of themselves, to counts of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::kv::Store;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use shared::breaker::{Record, Standing};
use shared::limiter::Rule;
use shared::limiter::live::Now;
use shared::subject::Service;
use shared::telemetry::propagation::millis;
use shared::topology::MAX_ACK_PENDING;

use crate::config;
use crate::observe::Seen;
use crate::signal::{Adviser, Capacity, Frame, Rates, Scaling, demand};

/// Looks further apart than so many intervals begin anew: what was in between is no rate of now.
const LONGEST_GAP: u32 = 4;

/// What workers of a service can do; `None` when none ever said so. Or why it cannot be told.
pub type Told = Result<Option<Capacity>, String>;

/// What workers have said.
#[derive(Debug)]
pub struct Words {
    /// Of what they can do, by service.
    capacities: BTreeMap<Service, Told>,
    /// Of upstreams: the services without any in service. Or why it cannot be told.
    out: Result<BTreeSet<Service>, String>,
}

impl Words {
    /// What workers say of these services in the bucket of limits, and of their upstreams in that of breakers.
    pub async fn hear(limits: &Store, breakers: &Store, services: &[Service]) -> Self {
        let (capacities, out) =
            tokio::join!(capacities(limits, services), out_of_service(breakers, services));
        Self { capacities, out }
    }
}

/// The services of which no upstream is in service. Records that make no sense are not heeded, as workers do not.
async fn out_of_service(breakers: &Store, services: &[Service]) -> Result<BTreeSet<Service>, String> {
    fn unknown(error: impl Display) -> String {
        format!("which upstreams are in service cannot be read: {error}")
    }
    let stream = &breakers.stream;
    let mut records: BTreeMap<&Service, Vec<Record>> = BTreeMap::new();
    if stream.get_info().await.map_err(unknown)?.state.messages > 0 {
        let below = format!("{}>", breakers.prefix);
        let mut subjects = stream.info_with_subjects(below).await.map_err(unknown)?;
        while let Some((subject, _)) = subjects.try_next().await.map_err(unknown)? {
            let Some((service, key)) = ours(&subject, &breakers.prefix, services) else {
                continue;
            };
            let record = breakers.get(key).await.map_err(unknown)?;
            let record = record.and_then(|bytes| Record::read(&bytes).ok());
            if let Some(record) = record
                && record.standing(record.age(millis(SystemTime::now()))) != Standing::Closed
            {
                records.entry(service).or_default().push(record);
            }
        }
    }
    let all = |records: &[Record]| Record::are_all(&records.iter().collect::<Vec<_>>());
    Ok(records
        .into_iter()
        .filter(|(_, records)| all(records))
        .map(|(service, _)| service.clone())
        .collect())
}

/// The service and the key of a record, if workers of ours write such: `<service>.<upstream>`.
fn ours<'s, 't>(subject: &'t str, prefix: &str, services: &'s [Service]) -> Option<(&'s Service, &'t str)> {
    let key = subject.strip_prefix(prefix)?;
    let (service, upstream) = key.split_once('.')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let service = services.iter().find(|known| known.as_str() == service)?;
    (!upstream.is_empty() && upstream.chars().all(plain)).then_some((service, key))
}

async fn capacities(limits: &Store, services: &[Service]) -> BTreeMap<Service, Told> {
    let told = services.iter().map(|service| async move {
        let told = match limits.get(service.limits_now()).await {
            Ok(Some(said)) => capacity(&said),
            Ok(None) => Ok(None),
            Err(error) => Err(format!("what its workers do at once cannot be read: {error}")),
        };
        (service.clone(), told)
    });
    join_all(told).await.into_iter().collect()
}

/// Keeps rates and counts of every service.
#[derive(Debug)]
pub struct Scaler {
    interval: Duration,
    settings: config::Scaling,
    services: BTreeMap<Service, (Rates, Adviser)>,
}

impl Scaler {
    /// Nothing seen yet.
    pub fn new(interval: Duration, settings: config::Scaling) -> Self {
        Self {
            interval,
            settings,
            services: BTreeMap::new(),
        }
    }

    /// Takes in a look at a service: the workers that it calls for, or why they cannot be told.
    pub fn scale(
        &mut self,
        service: &Service,
        seen: &Seen,
        words: Result<&Words, &str>,
    ) -> Result<Scaling, String> {
        let longest_gap = self.interval * LONGEST_GAP;
        let (rates, adviser) = self
            .services
            .entry(service.clone())
            .or_insert_with(|| (Rates::new(longest_gap), Adviser::default()));
        let load = rates
            .look(seen.sample)
            .ok_or("observed for too short a time to tell rates")?;
        let words = words?;
        let capacity = words.capacities.get(service).cloned().unwrap_or(Ok(None))?;
        let out = words.out.as_ref().map_err(Clone::clone)?;
        let lanes = seen
            .observation
            .lanes
            .iter()
            .filter(|lane| lane.waiting > 0)
            .count();
        let frame = Frame {
            drain: self.settings.drain,
            most_unacked: MAX_ACK_PENDING as u64 * lanes.max(1) as u64,
            in_service: !out.contains(service),
        };
        let demand = demand(load, capacity, frame);
        let advice = adviser.decide(seen.sample.at, demand.milli, &self.settings.thresholds);
        Ok(Scaling { demand, advice })
    }
}

/// What a worker said of what it does at once, and of the limits that every call falls under. Limits that only some
/// calls fall under bound those, not all; limits in shadow bound none.
fn capacity(said: &[u8]) -> Told {
    let now: Now = serde_json::from_slice(said)
        .map_err(|error| format!("what its workers say of themselves cannot be read: {error}"))?;
    if now.concurrency == 0 {
        return Ok(None);
    }
    let mut capacity = Capacity {
        concurrency: now.concurrency,
        timeout: Duration::from_millis(now.timeout),
        per_second: None,
        at_once: None,
    };
    for limit in now.limits.values().filter(|limit| !limit.shadow && !limit.apart) {
        let calls = limit.rule.calls();
        match limit.rule {
            Rule::Paced(_) | Rule::Window { .. } => {
                let period = limit.rule.period().unwrap_or_default().as_secs_f64().max(1e-3);
                let rate = f64::from(calls) / period;
                capacity.per_second = Some(capacity.per_second.map_or(rate, |least: f64| least.min(rate)));
            }
            Rule::AtOnce(_) => {
                capacity.at_once = Some(capacity.at_once.map_or(calls, |least| least.min(calls)));
            }
        }
    }
    Ok(Some(capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(concurrency: &str, limits: &str) -> String {
        format!(
            r#"{{"tag":"{{github:1}}","provider":"github","limits":{{{limits}}},"away":"stop","ahead":100,
                {concurrency}"at":1,"worker":"w","set":0}}"#
        )
    }

    #[test]
    fn the_tightest_of_the_limits_that_all_calls_fall_under_counts() {
        let limits = r#""requests":{"rule":"5000 per hour, burst 100","shadow":false,"apart":false},
            "points":{"rule":"900 per minute, burst 18","shadow":false,"apart":false},
            "at-once":{"rule":"100 at once","shadow":false,"apart":false},
            "mine":{"rule":"7 at once","shadow":true,"apart":false},
            "day":{"rule":"86400 per day, fixed","shadow":false,"apart":false},
            "content":{"rule":"1 per minute","shadow":false,"apart":true}"#;
        let said = said(r#""concurrency":20,"timeout":30000,"#, limits);
        let told = capacity(said.as_bytes()).unwrap().unwrap();
        assert_eq!(
            told,
            Capacity {
                concurrency: 20,
                timeout: Duration::from_secs(30),
                per_second: Some(1.0),
                at_once: Some(100),
            }
        );
    }

    #[test]
    fn a_worker_that_does_not_tell_is_not_guessed_at_and_nonsense_is_an_error() {
        assert_eq!(capacity(said("", "").as_bytes()), Ok(None));
        for bad in ["", "{}", "[]", "\u{0}", r#"{"limits":{"a":{"rule":"lots"}}}"#] {
            assert!(
                capacity(bad.as_bytes()).unwrap_err().contains("cannot be read"),
                "{bad}"
            );
        }
    }
}
