//! Events on their way into JetStream: published with their id, tried again with the same id, and reported as kept
//! only after the server's acknowledgement.

mod large;
mod outcome;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use bytes::Bytes;
use opentelemetry::Context;
use shared::event::{Event, EventId, Tenant};
use shared::failpoint;
use shared::schedule::{self, Scheduled};
use shared::subject::{EVENTS, Lane, RETRY_DUE, Service, headers as names};
use shared::telemetry::propagation;
use shared::wire;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::error::{Code, Refusal};
use crate::metrics::{Metrics, ServiceMetrics};
use crate::trace;
use large::Body;
use outcome::Outcome;

/// How long an event waits for a free place before its sender is told to come back.
const PLACE_WITHIN: Duration = Duration::from_millis(250);
/// How long one try waits for its acknowledgement. A try that a dying leader has swallowed is never answered, and a
/// second one with the same id does no harm.
const TRY_WITHIN: Duration = Duration::from_millis(2500);
/// Pause after the first failed try; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// What a sender waits after a 503 because of NATS.
const AWAY: Duration = Duration::from_secs(5);

/// A service that takes events.
#[derive(Debug)]
pub struct Target {
    service: Service,
    span: String,
    /// Its counters.
    pub metrics: ServiceMetrics,
}

impl Target {
    /// A service and its counters.
    pub fn new(service: Service, metrics: &Metrics) -> Self {
        let (span, metrics) = (format!("send {EVENTS}.{service}"), metrics.service(&service));
        Self {
            service,
            span,
            metrics,
        }
    }

    /// The service.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// An event ready to be sent.
#[derive(Debug)]
pub struct Outgoing {
    id: EventId,
    lane: Lane,
    tenant: Option<Tenant>,
    subject: String,
    deliver_at: Option<SystemTime>,
    payload: Bytes,
    compressed: bool,
}

impl Outgoing {
    /// Encodes an event, and compresses it where that pays: the costly part, all of it CPU.
    pub fn new(event: Event, service: &Service, deliver_at: Option<SystemTime>) -> Self {
        let (payload, compressed) = wire::compress(wire::encode(&event));
        let Event {
            id, priority, tenant, ..
        } = event;
        let lane = priority.lane();
        let subject = if deliver_at.is_some() {
            let (_, due) = service.retry(lane, tenant.as_ref().map(Tenant::as_str), "");
            format!("{EVENTS}{}", due.trim_start_matches(RETRY_DUE))
        } else {
            service.subject(lane, tenant.as_ref())
        };
        Self {
            id,
            lane,
            tenant,
            subject,
            deliver_at,
            payload,
            compressed,
        }
    }

    /// The event's id.
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// The subject that workers get it on.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// Sends events to NATS, a bounded number at once.
#[derive(Debug)]
pub struct Publisher {
    client: async_nats::Client,
    js: jetstream::Context,
    places: Arc<Semaphore>,
    patience: Duration,
    away_since: std::sync::Mutex<Option<Instant>>,
    /// Told when a subject had no stream.
    missing: Arc<Notify>,
    metrics: Metrics,
}

/// The event is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// It was kept already.
    pub duplicate: bool,
}

impl Publisher {
    /// A publisher with `places` for events that wait at once, each for at most `patience`. `missing` is notified
    /// when a subject turns out to have no stream.
    pub fn new(
        client: async_nats::Client,
        js: jetstream::Context,
        places: usize,
        patience: Duration,
        missing: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self {
            client,
            js,
            places,
            patience,
            away_since: std::sync::Mutex::default(),
            missing,
            metrics,
        }
    }

    /// Publishes one event and waits until the server has it.
    pub async fn publish(&self, event: &Outgoing, target: &Target) -> Result<Kept, Refusal> {
        let _place = self.place().await?;
        self.metrics.in_flight.inc();
        let _guard = InFlight(&self.metrics);
        failpoint::hit("ingest.accepted");
        let span = trace::producer(
            &target.span,
            &event.subject,
            event.id.as_str(),
            event.payload.len(),
        );
        let context = span.context();
        let start = Instant::now();
        let result = self.tries(event, target, &context).instrument(span.clone()).await;
        match &result {
            Ok(kept) => {
                failpoint::hit("ingest.published");
                self.metrics.publish.observe(start.elapsed().as_secs_f64());
                if kept.duplicate {
                    target.metrics.duplicates.inc();
                }
            }
            Err(_) => {
                span.record("otel.status_code", "ERROR");
            }
        }
        result
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let wait = tokio::time::timeout(PLACE_WITHIN, Arc::clone(&self.places).acquire_owned());
        if let Ok(Ok(place)) = wait.await {
            return Ok(place);
        }
        let detail = "as many events wait for NATS as WEIR_INGEST_MAX_IN_FLIGHT allows";
        Err(Refusal::new(Code::Busy, detail).after(Duration::from_secs(1)))
    }

    async fn tries(&self, event: &Outgoing, target: &Target, context: &Context) -> Result<Kept, Refusal> {
        let give_up = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        let mut last = "NATS is not connected".to_owned();
        let mut body = Body::default();
        loop {
            if self.is_connected(give_up)? {
                let outcome = match self.store(event, target, &mut body, give_up).await {
                    Ok(()) => self.once(event, target, &mut body, context, give_up).await,
                    Err(outcome) => outcome,
                };
                match outcome {
                    Outcome::Kept { duplicate } => {
                        if duplicate {
                            self.unstore(&body).await;
                        }
                        return Ok(Kept { duplicate });
                    }
                    Outcome::Refused(refusal) => {
                        self.unstore(&body).await;
                        return Err(refusal);
                    }
                    Outcome::NoStream => {
                        self.missing.notify_one();
                        last = format!("nobody takes {}: no stream, or it has no leader", event.subject);
                    }
                    Outcome::Again(why) => last = why,
                }
            }
            tokio::time::sleep_until(give_up.min(Instant::now() + pause)).await;
            if Instant::now() >= give_up {
                self.unstore(&body).await;
                let detail = format!("not kept within {} ms: {last}", self.patience.as_millis());
                return Err(Refusal::new(Code::Unavailable, detail).after(AWAY));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One try, its message small enough by now.
    async fn once(
        &self,
        event: &Outgoing,
        target: &Target,
        body: &mut Body,
        context: &Context,
        give_up: Instant,
    ) -> Outcome {
        let until = give_up.min(Instant::now() + TRY_WITHIN);
        let sent = tokio::time::timeout_at(until, self.send(event, target, body, context)).await;
        let outcome = sent.map_or_else(
            |_| Outcome::Again("no acknowledgement came in time".into()),
            Outcome::of,
        );
        if matches!(outcome, Outcome::Again(_)) {
            body.sent_without_answer();
        }
        outcome
    }

    /// Whether the server can be asked now. Refuses at once when it has been away for longer than the patience:
    /// then waiting would only pile up requests. Nothing is sent while it is away, because the client would keep it
    /// and send it after its sender was told that it is lost.
    fn is_connected(&self, give_up: Instant) -> Result<bool, Refusal> {
        let mut away_since = self
            .away_since
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.client.connection_state() == State::Connected {
            *away_since = None;
            return Ok(true);
        }
        let began = give_up - self.patience;
        let since = *away_since.get_or_insert(began);
        if began.duration_since(since) > self.patience {
            let detail = format!("NATS has been away for {} s", since.elapsed().as_secs());
            return Err(Refusal::new(Code::Unavailable, detail).after(AWAY));
        }
        Ok(false)
    }

    async fn send(
        &self,
        event: &Outgoing,
        target: &Target,
        body: &Body,
        context: &Context,
    ) -> Result<bool, PublishError> {
        let mut headers = async_nats::HeaderMap::new();
        let mut payload = event.payload.clone();
        if let Some(name) = body.name() {
            headers.insert(names::CLAIM, name.as_str());
            payload = Bytes::new();
        }
        if event.compressed {
            headers.insert(names::CONTENT_ENCODING, wire::ZSTD);
        }
        propagation::inject(context, &mut headers);
        if let Some(at) = event.deliver_at {
            let accepted = propagation::millis(SystemTime::now());
            headers.insert(names::ACCEPTED, accepted.to_string());
            let message = Scheduled {
                service: &target.service,
                lane: event.lane,
                tenant: event.tenant.as_ref().map(Tenant::as_str),
                id: &event.id,
                turn: "deliver-at",
                at,
                headers,
                payload,
            };
            return schedule::publish_at(&self.js, message).await;
        }
        headers.insert(names::MESSAGE_ID, event.id.as_str());
        let ack = self
            .js
            .publish_with_headers(event.subject.clone(), headers, payload)
            .await?
            .await?;
        Ok(ack.duplicate)
    }
}

/// Counts down however the publishing ends.
struct InFlight<'m>(&'m Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}
