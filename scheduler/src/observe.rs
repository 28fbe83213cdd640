//! What waits in the fleet, read through the JetStream API: the leader of a stream answers it, while a follower's
//! monitoring page may show zero for what the leader knows to be thousands.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use shared::config::fleet::Streams;
use shared::subject::{DEAD, DEAD_STREAM, Lane, RETRY_DUE, RETRY_SCHEDULED, RETRY_STREAM, Service};
use shared::telemetry::propagation::millis;
use shared::topology::{self, TopologyError};
use tokio::time::{Instant, MissedTickBehavior};

use crate::board::Board;
use crate::config;
use crate::metrics::Metrics;
use crate::scaling::Scaler;
use crate::signal::Sample;
use crate::tally::tally;

/// What waits in one lane of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneDepth {
    /// The lane's name.
    pub lane: String,
    /// Messages that no worker has got yet.
    pub pending: u64,
    /// Messages that a worker has got and not settled.
    pub unacked: u64,
    /// `pending` and `unacked`: all that is left to do.
    pub waiting: u64,
    /// Of the unacked ones, those that were delivered more than once.
    pub redelivered: u64,
}

/// What waits of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Most urgent first.
    pub lanes: Vec<LaneDepth>,
    /// Retries that wait for their time.
    pub retrying: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest message that waits was kept, milliseconds since the Unix epoch; `None` when none waits.
    pub oldest_at: Option<u64>,
    /// When this was read, milliseconds since the Unix epoch.
    pub observed_at: u64,
}

impl Observation {
    /// A figure of all lanes together.
    pub fn sum(&self, figure: impl Fn(&LaneDepth) -> u64) -> u64 {
        self.lanes.iter().map(figure).sum()
    }

    /// How long the oldest message had waited when this was read.
    pub fn oldest_age(&self) -> Option<Duration> {
        self.oldest_at
            .map(|at| Duration::from_millis(self.observed_at.saturating_sub(at)))
    }
}

/// A figure that could not be read, which is not the same as zero.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {why}")]
pub struct Unknown {
    what: String,
    why: String,
}

impl Unknown {
    fn of<E: std::error::Error>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self {
            what,
            why: error.to_string(),
        }
    }
}

/// A look at one service.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What waits.
    pub observation: Observation,
    /// What rates are told from.
    pub sample: Sample,
}

/// Reads what waits of each of these services; what is unknown of one does not hide the others.
pub async fn observe(
    js: &jetstream::Context,
    services: &[Service],
) -> BTreeMap<Service, Result<Observation, Unknown>> {
    let seen = look(js, services, Instant::now()).await.into_iter();
    seen.map(|(service, seen)| (service, seen.map(|seen| seen.observation)))
        .collect()
}

/// Looks at each of these services. Times of samples count from `start`.
pub async fn look(
    js: &jetstream::Context,
    services: &[Service],
    start: Instant,
) -> BTreeMap<Service, Result<Seen, Unknown>> {
    let (retries, dead) = tokio::join!(
        // Those whose time has come are on their way back, which takes seconds after a restart of the server.
        counts(js, RETRY_STREAM, &[RETRY_SCHEDULED, RETRY_DUE], services),
        counts(js, DEAD_STREAM, &[DEAD], services)
    );
    let of = |counts: &Result<HashMap<Service, u64>, Unknown>, service: &Service| match counts {
        Ok(counts) => Ok(counts.get(service).copied().unwrap_or(0)),
        Err(unknown) => Err(unknown.clone()),
    };
    join_all(services.iter().map(|service| {
        let figures = of(&retries, service).and_then(|retrying| Ok((retrying, of(&dead, service)?)));
        async move {
            let observed = match figures {
                Ok((retrying, dead)) => one(js, service, start, retrying, dead).await,
                Err(unknown) => Err(unknown),
            };
            (service.clone(), observed)
        }
    }))
    .await
    .into_iter()
    .collect()
}

async fn one(
    js: &jetstream::Context,
    service: &Service,
    start: Instant,
    retrying: u64,
    dead: u64,
) -> Result<Seen, Unknown> {
    let name = service.stream();
    let stream = js
        .get_stream(&name)
        .await
        .map_err(Unknown::of(format!("stream {name}")))?;
    let at = start.elapsed();
    let lanes = try_join_all(Lane::ALL.map(|lane| {
        let stream = &stream;
        let what = format!("consumer {name}/{lane}");
        async move {
            let info = stream
                .consumer_info(lane.as_str())
                .await
                .map_err(Unknown::of(what))?;
            let (pending, unacked) = (info.num_pending, info.num_ack_pending as u64);
            let depth = LaneDepth {
                lane: lane.as_str().into(),
                pending,
                unacked,
                waiting: pending + unacked,
                redelivered: info.num_redelivered as u64,
            };
            Ok((depth, info.delivered.consumer_sequence))
        }
    }))
    .await?;
    let delivered = lanes.iter().map(|(_, delivered)| delivered).sum();
    let lanes = lanes.into_iter().map(|(depth, _)| depth).collect();
    let info = stream.cached_info();
    let state = &info.state;
    let oldest_at = (state.messages > 0).then(|| millis(state.first_timestamp.into()));
    let observation = Observation {
        lanes,
        retrying,
        dead,
        oldest_at,
        observed_at: millis(SystemTime::now()),
    };
    let sample = Sample {
        at,
        made: info.created.unix_timestamp_nanos(),
        last_sequence: state.last_sequence,
        delivered,
        pending: observation.sum(|lane| lane.pending),
        unacked: observation.sum(|lane| lane.unacked),
    };
    Ok(Seen { observation, sample })
}

async fn counts(
    js: &jetstream::Context,
    name: &str,
    prefixes: &[&str],
    services: &[Service],
) -> Result<HashMap<Service, u64>, Unknown> {
    let counts = tally(js, name, prefixes, services).await;
    counts.map_err(Unknown::of(format!("subjects of stream {name}")))
}

/// After so many observations in a row without all depths, what may be missing is made: without a worker nobody else does,
/// and while depths are unknown no autoscaler wakes one.
const MENDED_AFTER: u32 = 30;

/// The task that observes, in every replica.
#[derive(Debug, Clone)]
pub struct Observer {
    /// Whom to ask.
    pub js: jetstream::Context,
    /// What to look at.
    pub services: Vec<Service>,
    /// How the streams should be.
    pub streams: Streams,
    /// Pause between two observations.
    pub interval: Duration,
    /// How backlog and load become counts of workers.
    pub scaling: config::Scaling,
    /// Where the latest goes.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Observer {
    /// Makes the streams once, then observes for ever.
    pub async fn run(self) -> Result<(), TopologyError> {
        let drift = topology::ensure(&self.js, &self.services, &self.streams).await?;
        for found in &drift {
            tracing::warn!(
                object = found.object,
                setting = found.setting,
                is = found.is,
                should = found.should,
                "the topology is not as the settings say"
            );
        }
        self.metrics.drift.set(drift.len() as i64);
        let limits = topology::limits_bucket(&self.js, &self.streams).await?;
        let breakers = topology::breakers_bucket(&self.js, &self.streams).await?;
        let mut scaler = Scaler::new(limits, breakers, self.interval, self.scaling);
        let start = Instant::now();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unknown_for = 0_u32;
        loop {
            ticks.tick().await;
            let mut trouble = None;
            let (seen, words) = tokio::join!(
                look(&self.js, &self.services, start),
                scaler.listen(&self.services)
            );
            for (service, observed) in seen {
                match observed {
                    Ok(seen) => {
                        let scaling = scaler.scale(&service, &seen, &words);
                        self.board.put(service, seen.observation, scaling);
                    }
                    Err(unknown) => {
                        self.metrics.unknown.inc();
                        trouble = Some((service, unknown));
                    }
                }
            }
            self.board.looked();
            // Told when it begins and when it ends, not every few seconds in between.
            match (&trouble, unknown_for) {
                (Some((service, error)), 0) => tracing::warn!(%service, %error, "depths are unknown"),
                (None, 1..) => tracing::info!("depths are known again"),
                _ => {}
            }
            unknown_for = if trouble.is_some() { unknown_for + 1 } else { 0 };
            if unknown_for > 0 && unknown_for.is_multiple_of(MENDED_AFTER) {
                tracing::warn!("depths are still unknown: what is missing of the topology is made");
                if let Err(error) = topology::ensure(&self.js, &self.services, &self.streams).await {
                    tracing::warn!(%error, "the topology is not to be had");
                }
            }
        }
    }
}
