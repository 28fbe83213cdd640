//! Looks at everything again and again, in every replica. Each service, the counts of retries and dead letters, and what
//! workers say have a loop of their own: whoever does not answer hides nobody else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use futures_util::future::join_all;
use shared::config::fleet::Streams;
use shared::connect::API_TIMEOUT;
use shared::subject::Service;
use shared::topology;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep, timeout};

use super::{Counts, look};
use crate::board::{Board, FRESH_INTERVALS};
use crate::config;
use crate::metrics::Metrics;
use crate::scaling::{Scaler, Words};

/// After so many looks in a row without an answer, what may be missing is made: without a worker nobody else does, and while
/// depths are unknown no autoscaler wakes one.
const MENDED_AFTER: u32 = 30;
/// Pause before the topology is asked for again that could not be had.
const AGAIN: Duration = Duration::from_secs(5);

/// The task that observes.
#[derive(Debug, Clone)]
pub struct Observer {
    /// Whom to ask.
    pub js: jetstream::Context,
    /// Whom to ask for counts: the answers are large, and a connection that they end must be nobody else's.
    pub counts: jetstream::Context,
    /// What to look at.
    pub services: Vec<Service>,
    /// How the streams should be.
    pub streams: Streams,
    /// Pause between two looks.
    pub interval: Duration,
    /// How backlog and load become counts of workers.
    pub scaling: config::Scaling,
    /// Where the latest goes.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Metrics,
}

/// What the loops tell each other, each with the moment before it was asked for.
#[derive(Debug, Default)]
struct Latest {
    counts: Mutex<Option<(Counts, Instant)>>,
    words: Mutex<Option<(Arc<Words>, Instant)>>,
}

fn locked<T>(latest: &Mutex<T>) -> MutexGuard<'_, T> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// Observes for ever.
    pub async fn run(self) {
        let latest = Latest::default();
        let scaler = Mutex::new(Scaler::new(self.interval, self.scaling));
        let start = Instant::now();
        let each = self
            .services
            .iter()
            .map(|service| self.watch(service, &latest, &scaler, start));
        tokio::join!(
            self.make(),
            self.count(&latest),
            self.listen(&latest),
            join_all(each)
        );
    }

    fn ticks(&self) -> Interval {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    fn is_fresh(&self, at: Instant) -> bool {
        at.elapsed() <= self.interval * FRESH_INTERVALS
    }

    /// Makes the streams of every service once, however long that takes, and tells of drift.
    async fn make(&self) {
        let mut drift = BTreeSet::new();
        let mut left: Vec<_> = self.services.iter().collect();
        loop {
            let mut failed = Vec::new();
            for service in left {
                let made = topology::ensure(&self.js, std::slice::from_ref(service), &self.streams).await;
                let found = made.unwrap_or_else(|error| {
                    tracing::warn!(%service, %error, "the topology is not to be had");
                    failed.push(service);
                    Vec::new()
                });
                for found in found {
                    if drift.insert((found.object.clone(), found.setting)) {
                        tracing::warn!(
                            object = found.object,
                            setting = found.setting,
                            is = found.is,
                            should = found.should,
                            "the topology is not as the settings say"
                        );
                    }
                }
            }
            self.metrics.drift.set(drift.len() as i64);
            if failed.is_empty() {
                return;
            }
            left = failed;
            sleep(AGAIN).await;
        }
    }

    /// Counts retries and dead letters.
    async fn count(&self, latest: &Latest) {
        let mut ticks = self.ticks();
        let mut known = true;
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let counted = timeout(API_TIMEOUT * 2, Counts::read(&self.counts, &self.services)).await;
            match counted {
                Ok(Ok(counts)) => {
                    *locked(&latest.counts) = Some((counts, asked));
                    known = true;
                }
                failed if known => {
                    let error = failed.map_or_else(
                        |_| "no answer in time".to_owned(),
                        |read| read.map_or_else(|error| error.to_string(), |_| String::new()),
                    );
                    tracing::warn!(error, "retries and dead letters cannot be counted");
                    known = false;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Hears what workers say.
    async fn listen(&self, latest: &Latest) {
        let buckets = async || {
            let limits = topology::limits_bucket(&self.js, &self.streams).await?;
            let breakers = topology::breakers_bucket(&self.js, &self.streams).await?;
            Ok::<_, topology::TopologyError>((limits, breakers))
        };
        let (limits, breakers) = loop {
            match buckets().await {
                Ok(buckets) => break buckets,
                Err(error) => tracing::warn!(%error, "what workers say is not to be had"),
            }
            sleep(AGAIN).await;
        };
        let mut ticks = self.ticks();
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let heard = timeout(API_TIMEOUT * 2, Words::hear(&limits, &breakers, &self.services)).await;
            if let Ok(words) = heard {
                *locked(&latest.words) = Some((Arc::new(words), asked));
            }
        }
    }

    /// Looks at one service.
    async fn watch(&self, service: &Service, latest: &Latest, scaler: &Mutex<Scaler>, start: Instant) {
        let mut ticks = self.ticks();
        let mut unknown_for = 0_u32;
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            match look(&self.js, service, start).await {
                Ok(seen) => {
                    let counts = locked(&latest.counts)
                        .as_ref()
                        .filter(|(_, at)| self.is_fresh(*at))
                        .map(|(counts, _)| counts.of(service));
                    let words = locked(&latest.words).clone();
                    let words = words.filter(|(_, at)| self.is_fresh(*at));
                    let words = words
                        .as_ref()
                        .map(|(words, _)| &**words)
                        .ok_or("what workers say is not known");
                    let scaling = locked(scaler).scale(service, &seen, words);
                    let mut observation = seen.observation;
                    if let Some((retrying, dead)) = counts {
                        (observation.retrying, observation.dead) = (Some(retrying), Some(dead));
                    }
                    self.board.put(service, observation, scaling, asked);
                    if unknown_for > 0 {
                        tracing::info!(%service, "depths are known again");
                    }
                    unknown_for = 0;
                }
                Err(error) => {
                    self.metrics.unknown.inc();
                    // Told when it begins and when it ends, not every few seconds in between.
                    if unknown_for == 0 {
                        tracing::warn!(%service, %error, "depths are unknown");
                    }
                    unknown_for += 1;
                    if unknown_for.is_multiple_of(MENDED_AFTER) {
                        tracing::warn!(%service, "depths are still unknown: what is missing of the topology is made");
                        let services = std::slice::from_ref(service);
                        if let Err(error) = topology::ensure(&self.js, services, &self.streams).await {
                            tracing::warn!(%service, %error, "the topology is not to be had");
                        }
                    }
                }
            }
            self.board.looked();
        }
    }
}
