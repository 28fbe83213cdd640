//! Where events can be: the results in Postgres and the messages in JetStream, read without taking anything away.

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    message::StreamMessage,
    stream::{RawMessageErrorKind, Stream},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use shared::{
    event::EventId,
    subject::{DEAD_STREAM, RETRY_STREAM, Service, header, headers},
    wire,
};
use sqlx::PgPool;

use super::Place;

/// Ids asked for in one statement.
pub(super) const BATCH: usize = 10_000;
/// Parts of a stream that are walked at the same time.
const WALKERS: u64 = 16;
/// How often the streams are looked at while waiting for them to be empty.
const LOOK: Duration = Duration::from_millis(100);

/// What could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Postgres.
    #[error("reading the results: {0}")]
    Postgres(#[from] sqlx::Error),
    /// A stream.
    #[error("reading stream {stream}: {why}")]
    Stream {
        /// Which.
        stream: String,
        /// Why.
        why: String,
    },
    /// A row of `results` whose state is neither `done` nor `dead`.
    #[error("result of {id} has the unknown state {state:?}")]
    State {
        /// The event.
        id: String,
        /// Its state.
        state: String,
    },
}

impl ReadError {
    fn stream(stream: &str, why: &impl Display) -> Self {
        Self::Stream {
            stream: stream.to_owned(),
            why: why.to_string(),
        }
    }
}

/// Everything seen of the accepted ids in Postgres and of all messages in the streams.
///
/// Postgres is read last: an event that is finished meanwhile is then seen in both, never in neither.
pub async fn sightings(
    accepted: &BTreeSet<String>,
    js: &jetstream::Context,
    pool: &PgPool,
    services: &[Service],
) -> Result<Vec<(String, Place)>, ReadError> {
    let mut seen = Vec::new();
    for service in services {
        walk(js, &service.stream(), Place::Waiting, &mut seen).await?;
    }
    walk(js, RETRY_STREAM, Place::Waiting, &mut seen).await?;
    walk(js, DEAD_STREAM, Place::DeadLetter, &mut seen).await?;
    seen.extend(postgres(accepted, pool, services).await?);
    Ok(seen)
}

/// Rows of `results` for the accepted ids.
pub async fn postgres(
    accepted: &BTreeSet<String>,
    pool: &PgPool,
    services: &[Service],
) -> Result<Vec<(String, Place)>, ReadError> {
    let services: Vec<String> = services.iter().map(ToString::to_string).collect();
    let ids: Vec<&str> = accepted.iter().map(String::as_str).collect();
    let mut seen = Vec::with_capacity(ids.len());
    for batch in ids.chunks(BATCH) {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT event_id, state::text FROM results WHERE service = ANY($1) AND event_id = ANY($2)",
        )
        .bind(&services)
        .bind(batch)
        .fetch_all(pool)
        .await?;
        for (id, state) in rows {
            let place = match state.as_str() {
                "done" => Place::Done,
                "dead" => Place::Dead,
                _ => return Err(ReadError::State { id, state }),
            };
            seen.push((id, place));
        }
    }
    Ok(seen)
}

/// Waits until the services' streams and the retries are empty, at most `deadline`; `progress` hears how many
/// messages are left. True when they are empty.
pub async fn idle(
    js: &jetstream::Context,
    services: &[Service],
    deadline: Duration,
    mut progress: impl FnMut(u64),
) -> Result<bool, ReadError> {
    let streams: Vec<String> = services
        .iter()
        .map(Service::stream)
        .chain([RETRY_STREAM.to_owned()])
        .collect();
    let end = tokio::time::Instant::now() + deadline;
    loop {
        let mut left = 0;
        for name in &streams {
            if let Some(stream) = open(js, name).await? {
                left += stream.cached_info().state.messages;
            }
        }
        progress(left);
        if left == 0 {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A stream that is not there holds nothing.
async fn open(js: &jetstream::Context, name: &str) -> Result<Option<Stream>, ReadError> {
    match js.get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            jetstream::context::GetStreamErrorKind::JetStream(inner)
                if inner.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(ReadError::stream(name, &error)),
        },
    }
}

async fn walk(
    js: &jetstream::Context,
    name: &str,
    place: Place,
    seen: &mut Vec<(String, Place)>,
) -> Result<(), ReadError> {
    let Some(stream) = open(js, name).await? else {
        return Ok(());
    };
    let state = &stream.cached_info().state;
    if state.messages == 0 {
        return Ok(());
    }
    let (from, to) = (state.first_sequence, state.last_sequence);
    let step = (to - from) / WALKERS + 1;
    let parts = (0..WALKERS).map(|part| {
        let begin = from + part * step;
        walk_part(&stream, name, begin, (begin + step - 1).min(to))
    });
    let found: Vec<Vec<String>> = stream::iter(parts)
        .buffer_unordered(WALKERS as usize)
        .try_collect()
        .await?;
    seen.extend(found.into_iter().flatten().map(|id| (id, place)));
    Ok(())
}

/// Ids of the messages from one sequence to another, both included; gaps are jumped over.
async fn walk_part(stream: &Stream, name: &str, from: u64, to: u64) -> Result<Vec<String>, ReadError> {
    let mut ids = Vec::new();
    let mut next = from;
    while next <= to {
        let asked = stream
            .raw_message_builder()
            .sequence(next)
            .next_by_subject(">")
            .send()
            .await;
        let message = match asked {
            Ok(message) => message,
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => break,
            Err(error) => return Err(ReadError::stream(name, &error)),
        };
        if message.sequence > to {
            break;
        }
        next = message.sequence + 1;
        ids.push(id_of(name, message));
    }
    Ok(ids)
}

/// The event's id as a worker would find it: told by Weir, in the event, the message id, else its place.
fn id_of(stream: &str, message: StreamMessage) -> String {
    if let Some(id) = header(Some(&message.headers), headers::ID) {
        return id.to_owned();
    }
    let message_id = header(Some(&message.headers), headers::MESSAGE_ID).map(str::to_owned);
    let fallback = message_id.unwrap_or_else(|| format!("{stream}:{}", message.sequence));
    let encoding = header(Some(&message.headers), headers::CONTENT_ENCODING);
    let unknown = || EventId::new(fallback.as_str()).unwrap_or_else(|_| EventId::generate());
    let event =
        wire::decompress(message.payload, encoding).and_then(|plain: Bytes| wire::decode(&plain, unknown));
    event.map_or(fallback, |event| event.id.as_str().to_owned())
}
