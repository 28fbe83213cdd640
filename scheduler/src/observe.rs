//! What waits in the fleet, read through the JetStream API: the leader of a stream answers it, while a follower's
//! monitoring page may show zero for what the leader knows to be thousands.

mod ask;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::jetstream;
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use shared::connect::API_TIMEOUT;
use shared::subject::{DEAD, DEAD_STREAM, Lane, RETRY_DUE, RETRY_SCHEDULED, RETRY_STREAM, Service};
use tokio::time::{Instant, timeout};

pub use watch::Observer;

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
    /// Retries that wait for their time; `None` where they could not be counted.
    pub retrying: Option<u64>,
    /// Dead letters; `None` where they could not be counted.
    pub dead: Option<u64>,
    /// When the oldest message that waits was kept, milliseconds since the Unix epoch; `None` when none waits.
    pub oldest_at: Option<u64>,
    /// When this was read by the server's clock, which all times here are of, milliseconds since the Unix epoch.
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
    fn of<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
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

/// Reads what waits of each of these services, retries and dead letters included; what is unknown of one does not hide
/// the others.
pub async fn observe(
    js: &jetstream::Context,
    services: &[Service],
) -> BTreeMap<Service, Result<Observation, Unknown>> {
    let (counts, start) = (Counts::read(js, services).await, Instant::now());
    let looks = services.iter().map(|service| {
        let counts = &counts;
        async move {
            let seen = match counts {
                Ok(counts) => look(js, service, start).await.map(|seen| {
                    let (retrying, dead) = counts.of(service);
                    Observation {
                        retrying: Some(retrying),
                        dead: Some(dead),
                        ..seen.observation
                    }
                }),
                Err(unknown) => Err(unknown.clone()),
            };
            (service.clone(), seen)
        }
    });
    join_all(looks).await.into_iter().collect()
}

/// Looks at a service's stream and its lanes. The time of the sample counts from `start`; retries and dead letters lie
/// elsewhere and are not counted.
pub async fn look(js: &jetstream::Context, service: &Service, start: Instant) -> Result<Seen, Unknown> {
    let name = service.stream();
    let unknown = || Unknown::of(format!("stream {name}"));
    let looked = timeout(API_TIMEOUT, async {
        let stream = ask::stream(js, &name).await.map_err(unknown())?;
        let at = start.elapsed();
        let lanes = try_join_all(Lane::ALL.map(|lane| {
            let (name, what) = (&name, format!("consumer {name}/{lane}"));
            async move {
                let told = ask::consumer(js, name, lane).await.map_err(Unknown::of(what))?;
                let depth = LaneDepth {
                    lane: lane.as_str().into(),
                    pending: told.pending,
                    unacked: told.unacked,
                    waiting: told.pending.saturating_add(told.unacked),
                    redelivered: told.redelivered,
                };
                Ok((depth, told.delivered.sequence))
            }
        }));
        let lanes = lanes.await?;
        let delivered = lanes.iter().map(|(_, delivered)| delivered).sum();
        let observation = Observation {
            lanes: lanes.into_iter().map(|(depth, _)| depth).collect(),
            retrying: None,
            dead: None,
            oldest_at: (stream.state.messages > 0).then_some(stream.state.first_at),
            observed_at: stream.now,
        };
        let sample = Sample {
            at,
            made: stream.made,
            last_sequence: stream.state.last_sequence,
            delivered,
            pending: observation.sum(|lane| lane.pending),
            unacked: observation.sum(|lane| lane.unacked),
        };
        Ok(Seen { observation, sample })
    });
    looked.await.unwrap_or_else(|_| {
        let why = format!("no answer within {API_TIMEOUT:?}");
        Err(Unknown::of(format!("stream {name}"))(why))
    })
}

/// Retries and dead letters by service.
#[derive(Debug, Clone)]
struct Counts {
    retrying: HashMap<Service, u64>,
    dead: HashMap<Service, u64>,
}

impl Counts {
    async fn read(js: &jetstream::Context, services: &[Service]) -> Result<Self, Unknown> {
        let count = async |name: &str, prefixes: &[&str]| {
            let counts = tally(js, name, prefixes, services).await;
            counts.map_err(Unknown::of(format!("subjects of stream {name}")))
        };
        let (retrying, dead) = tokio::try_join!(
            // Those whose time has come are on their way back, which takes seconds after a restart of the server.
            count(RETRY_STREAM, &[RETRY_SCHEDULED, RETRY_DUE]),
            count(DEAD_STREAM, &[DEAD])
        )?;
        Ok(Self { retrying, dead })
    }

    /// Retries and dead letters of a service.
    fn of(&self, service: &Service) -> (u64, u64) {
        let of = |counts: &HashMap<Service, u64>| counts.get(service).copied().unwrap_or(0);
        (of(&self.retrying), of(&self.dead))
    }
}
