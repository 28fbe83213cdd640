//! Warms caches: [`crate::warm`] says what is worth it, this asks and does. On the leader alone, one [`served`] service beside
//! the other, each with what was learnt of it from the access log; what its predictions were worth ([`standing`]) lies in NATS,
//! so that another leader goes on from there.

mod desk;
mod fetch;
pub mod metrics;
mod outbox;
mod question;
mod served;
mod standing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::{self, kv};
use futures_util::StreamExt;
use shared::config::fleet::Streams;
use shared::subject::{Service, WARM_ASK};
use shared::telemetry::propagation::millis;
use shared::topology::{self, TopologyError};
use shared::warm::{Mode, State};
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::leader::Leadership;
use desk::Desk;
use metrics::WarmMetrics;

/// How often it is looked whether this replica still leads, beside the look before every request.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most questions that are answered at once.
const QUESTIONS: usize = 8;

/// Why warming had to begin anew.
#[derive(Debug, thiserror::Error)]
pub enum WarmingError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] TopologyError),
    /// Questions cannot be heard.
    #[error("listening for questions: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    /// A part of it ended by a panic.
    #[error("the warming of a service ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// The job.
#[derive(Debug, Clone)]
pub struct Warming {
    /// Whom to ask for words of workers and people.
    pub js: jetstream::Context,
    /// Over which workers are asked.
    pub client: async_nats::Client,
    /// How the bucket is kept.
    pub streams: Streams,
    /// The services of the fleet.
    pub services: Vec<Service>,
    /// How far it may go.
    pub mode: Mode,
    /// Where the access log is; `None` where none is.
    pub database: Option<PgPool>,
    /// What waits.
    pub board: Arc<Board>,
    /// Whether to do it.
    pub leadership: Leadership,
    /// Counts.
    pub metrics: WarmMetrics,
}

/// What the parts of one term have in common.
#[derive(Debug)]
struct Term {
    job: Warming,
    bucket: kv::Store,
    limits: kv::Store,
    desks: Vec<Arc<Desk>>,
}

impl Warming {
    /// Warms while this replica leads, for ever.
    ///
    /// # Errors
    /// NATS does not give what it takes, or a part has ended. Another call begins anew.
    pub async fn run(self) -> Result<(), WarmingError> {
        if let Some(why) = self.off() {
            tracing::info!(why, "caches are not warmed");
        }
        loop {
            self.leadership.elected().await;
            let ended = self.term().await;
            self.metrics.forget();
            ended?;
        }
    }

    /// Why nothing is warmed at all; `None` where something may be.
    fn off(&self) -> Option<&'static str> {
        match (self.mode, &self.database) {
            (Mode::Off, _) => Some("WEIR_WARM is off"),
            (_, None) => Some("WEIR_POSTGRES_URL is not set: there is no access log to learn from"),
            (Mode::Shadow | Mode::On, Some(_)) => None,
        }
    }

    async fn term(&self) -> Result<(), WarmingError> {
        let state = self.off().map_or(State::NotCached, |_| State::Off);
        let of = |service: &Service| Arc::new(Desk::new(service.clone(), state));
        let term = Arc::new(Term {
            bucket: topology::warm_bucket(&self.js, &self.streams).await?,
            limits: topology::limits_bucket(&self.js, &self.streams).await?,
            desks: self.services.iter().map(of).collect(),
            job: self.clone(),
        });
        let mut questions = self.client.subscribe(WARM_ASK).await?;
        let mut served = JoinSet::new();
        if let (None, Some(database)) = (self.off(), &self.database) {
            for desk in &term.desks {
                served.spawn(served::serve(
                    Arc::clone(&term),
                    Arc::clone(desk),
                    database.clone(),
                ));
            }
        }
        let mut answers = JoinSet::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if !self.leadership.leads() {
                        return Ok(());
                    }
                }
                Some(ended) = served.join_next() => ended?,
                Some(_) = answers.join_next() => {}
                Some(message) = questions.next(), if answers.len() < QUESTIONS => {
                    answers.spawn(question::answer(Arc::clone(&term), message));
                }
            }
        }
    }
}

/// Now, in ms since the epoch.
fn now_ms() -> u64 {
    millis(SystemTime::now())
}
