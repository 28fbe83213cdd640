//! Upstreams that are out of service, as the workers have written it down.

use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use serde_json::{Value, json};
use shared::breaker::{Record, Standing};
use shared::subject::{BREAKERS_BUCKET, Service};
use shared::telemetry::propagation::millis;

use crate::failure::Failure;
use crate::moment;
use crate::terminal::clean;

/// Those of a service that are out of service, in its order of preference.
#[derive(Debug, Default)]
pub(crate) struct Out(Vec<(Record, Standing)>);

impl Out {
    /// Reads them. A record that makes no sense is one that workers do not heed either.
    pub(crate) async fn read(js: &jetstream::Context, service: &Service) -> Result<Self, Failure> {
        let failed = || format!("reading the upstreams of {service}");
        let Ok(bucket) = js.get_key_value(BREAKERS_BUCKET).await else {
            return Ok(Self::default());
        };
        let own = service.breaker_key("");
        let mut keys = bucket.keys().await.map_err(Failure::at(failed()))?;
        let mut records = Vec::new();
        while let Some(key) = futures_util::StreamExt::next(&mut keys).await {
            let key = key.map_err(Failure::at(failed()))?;
            if key.starts_with(&own)
                && let Some(bytes) = bucket.get(key.as_str()).await.map_err(Failure::at(failed()))?
            {
                records.extend(Record::read(&bytes));
            }
        }
        Ok(Self::of(records, millis(SystemTime::now())))
    }

    fn of(records: Vec<Record>, now: u64) -> Self {
        let stand = |record: Record| {
            let standing = record.standing(record.age(now));
            (standing != Standing::Closed).then_some((record, standing))
        };
        let mut out: Vec<_> = records.into_iter().filter_map(stand).collect();
        out.sort_by_key(|(record, _)| record.place);
        Self(out)
    }

    /// Whether no call can be made at all, and in how many seconds a probe may be.
    pub(crate) fn all(&self) -> Option<f64> {
        let out: Vec<_> = self.0.iter().map(|(record, _)| record).collect();
        let next = self.0.iter().map(|(_, standing)| match standing {
            Standing::Open(left) => *left,
            Standing::Closed | Standing::Due(_) | Standing::Probing(_) => Duration::ZERO,
        });
        Record::are_all(&out).then(|| next.min().unwrap_or_default().as_secs_f64())
    }

    /// One for each, and what it means for the service.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .map(|(record, standing)| sentence(record, *standing))
            .collect();
        match self.0.first() {
            None => {}
            Some((record, _)) if self.all().is_none() => all.push(format!(
                "Calls go to another of the {} upstreams meanwhile.",
                record.of
            )),
            Some(_) => all.push("Events wait for it where they are; that uses up no attempt.".to_owned()),
        }
        all
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let each = self.0.iter().map(|(record, standing)| {
            let probe_in = match standing {
                Standing::Open(left) => Some(left.as_secs_f64()),
                Standing::Due(_) => Some(0.0),
                Standing::Closed | Standing::Probing(_) => None,
            };
            json!({
                "upstream": record.upstream, "place": record.place, "of": record.of, "state": record.state,
                "since_ms": record.since, "openings": record.openings, "calls": record.counts.calls,
                "failures": record.counts.failures, "why": record.why, "worker": record.by,
                "probe_at": probe_in.map(moment::stamp),
            })
        });
        Value::Array(each.collect())
    }
}

fn sentence(record: &Record, standing: Standing) -> String {
    let Record {
        upstream,
        since,
        counts,
        why,
        by,
        ..
    } = record;
    let next = match standing {
        Standing::Open(left) => format!(
            "no call goes there before {}, then one tries it",
            moment::until(left.as_secs_f64())
        ),
        Standing::Due(_) => "the next call tries it".to_owned(),
        Standing::Probing(_) => format!("a call of worker {} tries it now", clean(by, 80)),
        Standing::Closed => "it is back".to_owned(),
    };
    format!(
        "Upstream {} is out of service since {} ({} of {} calls failed; {}): {next}.",
        clean(upstream, 200),
        moment::since(*since),
        counts.failures,
        counts.calls,
        clean(why, 160),
    )
}

#[cfg(test)]
mod tests {
    use shared::breaker::{Counts, Now};

    use super::*;

    fn open(upstream: &str, place: u32, of: u32) -> Record {
        let now = Now { at: 1_000, by: "w" };
        let counts = Counts {
            calls: 12,
            failures: 10,
        };
        Record::new(upstream, place, of).opened(
            &"50% of 10 in 30s, open 1m".parse().unwrap(),
            counts,
            "http_500: \u{1b}[2J",
            0.5,
            now,
        )
    }

    #[test]
    fn each_state_has_its_sentence() {
        let one = Out::of(vec![open("https://x", 1, 1)], 2_000);
        let said = one.sentences().join(" ");
        assert!(
            said.starts_with("Upstream https://x is out of service since ")
                && said.contains("(10 of 12 calls failed; http_500: ")
                && said.contains("): no call goes there before ")
                && said.contains("(in 59s), then one tries it. Events wait"),
            "{said}"
        );
        assert!(!said.contains('\u{1b}'));
        assert_eq!(one.all(), Some(59.0));
        let due = Out::of(vec![open("https://x", 1, 1)], 200_000);
        assert!(due.sentences()[0].ends_with("the next call tries it."));
        let probing = open("https://x", 1, 1).claimed(Duration::from_secs(9), Now { at: 2_000, by: "me" });
        let probing = Out::of(vec![probing], 2_000);
        assert!(probing.sentences()[0].ends_with("a call of worker me tries it now."));
        let closed = open("https://x", 1, 1).closed(Now { at: 3_000, by: "w" });
        assert!(Out::of(vec![closed], 3_000).sentences().is_empty());
    }

    #[test]
    fn a_service_stands_still_only_when_all_are_out() {
        let first = Out::of(vec![open("https://x", 1, 2)], 2_000);
        assert_eq!(first.all(), None);
        assert_eq!(
            first.sentences()[1],
            "Calls go to another of the 2 upstreams meanwhile."
        );
        let both = Out::of(vec![open("https://y", 2, 2), open("https://x", 1, 2)], 2_000);
        assert_eq!(both.all(), Some(59.0));
        assert!(
            both.sentences()[0].starts_with("Upstream https://x"),
            "in their order"
        );
    }
}
