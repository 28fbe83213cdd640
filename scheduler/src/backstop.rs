//! The backstop: a message delivered too often without an outcome would stay in its stream for ever, counted in its
//! limits and served to nobody. The server tells of it in an advisory; here it becomes a dead letter.
//!
//! Two replicas doing this at once make one dead letter, since its message id names the place it came from.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use shared::claim;
use shared::config::fleet::Streams;
use shared::dead_letter::{self, Attempt, Burial};
use shared::event::EventId;
use shared::failpoint;
use shared::failure::Reason;
use shared::stored::{self, Unread};
use shared::subject::{EXHAUSTED_CONSUMER, EXHAUSTED_STREAM, Service, header, headers};
use shared::telemetry::propagation::millis;
use shared::topology;
use shared::wire;
use tokio_util::sync::CancellationToken;

use crate::leader::Leadership;
use crate::metrics::{Metrics, ServiceLabel};

/// Reason code of what is buried here.
pub const EXHAUSTED: &str = "exhausted";
/// Advisories asked for at once.
const BATCH: usize = 16;
/// How long the server may wait for one before it answers that there is none.
const PULL_FOR: Duration = Duration::from_secs(5);
/// When to try an advisory again that could not be acted on.
const RETRY_IN: Duration = Duration::from_secs(5);

/// What cannot be done now and is tried again.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct BackstopError {
    doing: &'static str,
    source: async_nats::Error,
}

impl BackstopError {
    fn of<E: Into<async_nats::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self {
            doing,
            source: source.into(),
        }
    }
}

/// What an advisory led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The message is a dead letter and off its stream.
    Buried(Service),
    /// It was settled or deleted in the meantime.
    Gone,
    /// It is none of ours.
    Foreign,
    /// This replica does not lead any more; the next leader gets the advisory.
    Stepped,
}

/// The server's advisory, as far as it is of use here.
#[derive(Debug, Deserialize)]
struct Advisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
    deliveries: u64,
}

/// The job.
#[derive(Debug, Clone)]
pub struct Backstop {
    /// Whom to ask.
    pub js: jetstream::Context,
    /// How streams are kept.
    pub streams: Streams,
    /// Whether to do it.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Metrics,
}

impl Backstop {
    /// Works while this replica leads, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BackstopError> {
        while shutdown
            .run_until_cancelled(self.leadership.elected())
            .await
            .is_some()
        {
            // At the very first start of a fleet nobody has made it yet.
            topology::ensure(&self.js, &[], &self.streams)
                .await
                .map_err(BackstopError::of("making the advisories' stream"))?;
            let consumer: jetstream::consumer::Consumer<pull::Config> = self
                .js
                .get_consumer_from_stream(EXHAUSTED_CONSUMER, EXHAUSTED_STREAM)
                .await
                .map_err(BackstopError::of("finding the advisories' consumer"))?;
            while self.leadership.leads() && !shutdown.is_cancelled() {
                self.pull(&consumer, &shutdown).await?;
            }
        }
        Ok(())
    }

    async fn pull(
        &self,
        consumer: &jetstream::consumer::Consumer<pull::Config>,
        shutdown: &CancellationToken,
    ) -> Result<(), BackstopError> {
        let batch = consumer.batch().max_messages(BATCH).expires(PULL_FOR).messages();
        let mut batch = batch.await.map_err(BackstopError::of("pulling advisories"))?;
        while let Some(Some(message)) = shutdown.run_until_cancelled(batch.next()).await {
            let message = message.map_err(BackstopError::of("pulling advisories"))?;
            let settled = match self.act_on(&message.payload).await {
                Ok(Outcome::Stepped) => message.ack_with(AckKind::Nak(None)).await,
                Ok(Outcome::Buried(service)) => {
                    self.metrics
                        .buried
                        .get_or_create(&ServiceLabel {
                            service: service.to_string(),
                        })
                        .inc();
                    message.ack().await
                }
                Ok(Outcome::Gone | Outcome::Foreign) => message.ack().await,
                Err(error) => {
                    tracing::warn!(%error, "a message delivered too often is not buried yet");
                    message.ack_with(AckKind::Nak(Some(RETRY_IN))).await
                }
            };
            // An advisory that comes again does no harm.
            settled.map_err(BackstopError::of("acknowledging an advisory"))?;
        }
        Ok(())
    }

    /// Does what an advisory asks for.
    async fn act_on(&self, advisory: &[u8]) -> Result<Outcome, BackstopError> {
        let Ok(advisory) = serde_json::from_slice::<Advisory>(advisory) else {
            tracing::warn!(
                bytes = advisory.len(),
                "an advisory that cannot be read is dropped"
            );
            return Ok(Outcome::Foreign);
        };
        let Some(service) = Service::of_stream(&advisory.stream) else {
            return Ok(Outcome::Foreign);
        };
        let stream = self
            .js
            .get_stream_no_info(&advisory.stream)
            .await
            .map_err(BackstopError::of("finding the message's stream"))?;
        let message = match stored::at(&self.js, &advisory.stream, advisory.stream_seq).await {
            Ok(Some(message)) => message.message(),
            // With its stream, when that is gone.
            Ok(None) | Err(Unread::NoStream(_)) => return Ok(Outcome::Gone),
            Err(error) => return Err(BackstopError::of("reading the message")(error)),
        };
        if !self.leadership.leads() {
            return Ok(Outcome::Stepped);
        }
        let id = event_id(&message, &advisory.stream);
        bury(&self.js, &service, &advisory, message, &id).await?;
        failpoint::hit("scheduler.buried");
        // Not asked for leadership again: the letter is kept, and whoever deletes what it stands for does right.
        // Where it fails because a worker settled the message just now, the next try finds it gone.
        let deleted = stream.delete_message(advisory.stream_seq).await;
        deleted.map_err(BackstopError::of("taking the buried message off its stream"))?;
        failpoint::hit("scheduler.deleted");
        tracing::warn!(
            %service, %id, stream = advisory.stream, sequence = advisory.stream_seq, consumer = advisory.consumer,
            deliveries = advisory.deliveries, "buried a message that was delivered too often without an outcome"
        );
        Ok(Outcome::Buried(service))
    }
}

async fn bury(
    js: &jetstream::Context,
    service: &Service,
    advisory: &Advisory,
    message: StreamMessage,
    id: &EventId,
) -> Result<(), BackstopError> {
    let found = Some(&message.headers);
    if let Some(Ok(name)) = claim::of(found, service, id) {
        let marked = claim::moving(js, &name).await;
        marked.map_err(BackstopError::of("telling that a reference moves"))?;
    }
    let detail = format!("delivered {} times without an outcome", advisory.deliveries);
    let reason = Reason::new(EXHAUSTED, detail);
    let mut history = dead_letter::history(found);
    history.push(Attempt::now(&reason));
    let number = |name| header(found, name).and_then(|text| text.parse::<u64>().ok());
    let burial = Burial {
        service,
        sequence: advisory.stream_seq,
        subject: &message.subject,
        id,
        headers: found,
        payload: message.payload.clone(),
        reason: &reason,
        attempts: (number(headers::ATTEMPTS).unwrap_or(0) as u32).saturating_add(1),
        history: &history,
        accepted: number(headers::ACCEPTED).unwrap_or_else(|| millis(SystemTime::from(message.time))),
    };
    dead_letter::bury(js, burial)
        .await
        .map_err(BackstopError::of("burying the message"))
}

/// The id that a worker would have given the event.
fn event_id(message: &StreamMessage, stream: &str) -> EventId {
    let named = |name| header(Some(&message.headers), name).and_then(|text| EventId::new(text).ok());
    let fallback =
        || named(headers::MESSAGE_ID).unwrap_or_else(|| EventId::from_position(stream, message.sequence));
    named(headers::ID).unwrap_or_else(|| {
        let encoding = header(Some(&message.headers), headers::CONTENT_ENCODING);
        let plain: Result<Bytes, _> = wire::decompress(message.payload.clone(), encoding);
        match plain.and_then(|plain| wire::decode(&plain, fallback)) {
            Ok(event) => event.id,
            Err(_) => fallback(),
        }
    })
}
