//! Dead letters as the server hands them out.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Message};
use futures_util::StreamExt;
use shared::config::Fleet;
use shared::dead_letter::DeadLetter;
use shared::stored::{self, Stored};
use shared::subject::{DEAD, DEAD_STREAM, Service, header};
use time::OffsetDateTime;

use super::patience::{Halt, Patience, Refused};
use crate::args::Selection;
use crate::failure::Failure;
use crate::fleet;

/// Letters whose headers are in memory at once.
const BATCH: usize = 256;
/// Bytes that one question may bring; headers can be as large as the server lets a message be.
const BYTES: usize = 8 << 20;
/// Header by which the server tells the bytes of a payload that it leaves out.
const SIZE: &str = "Nats-Msg-Size";
/// How long the server waits for letters that it has counted and that are gone by then.
const WAIT: Duration = Duration::from_secs(2);
/// How long the server keeps the position of a reader that has gone away without a word. One that comes back later
/// than that, because its pace is slow, takes a new one.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(5);

/// The stream of dead letters.
pub(super) async fn stream(js: &jetstream::Context) -> Result<Stream, Failure> {
    js.get_stream(DEAD_STREAM).await.map_err(|error| {
        Failure::Failed(format!(
            "stream {DEAD_STREAM}: {error}: has this fleet ever been started?"
        ))
    })
}

/// One letter with its payload, `None` when there is none with this sequence. Asked of the leader: that there is none
/// is believed of nobody else.
pub(super) async fn one(js: &jetstream::Context, sequence: u64) -> Result<Option<DeadLetter>, Refused> {
    let found = stored::at(js, DEAD_STREAM, sequence).await;
    let found = found.map_err(|error| Refused::Later(format!("reading dead letter {sequence}: {error}")))?;
    let foreign = || Refused::Never(format!("is a message of {DEAD_STREAM} that is none of Weir's"));
    let letter = |found: Stored| DeadLetter::read(&found.message()).ok_or_else(foreign);
    found.map(letter).transpose()
}

/// A position at a sequence, which the server forgets by itself when nobody reads on.
fn from(sequence: u64) -> pull::Config {
    pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: sequence,
        },
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: FORGOTTEN_AFTER,
        ..Default::default()
    }
}

fn stored(message: Message, sequence: u64, time: OffsetDateTime) -> StreamMessage {
    let Message { message, .. } = message;
    StreamMessage {
        subject: message.subject,
        sequence,
        headers: message.headers.unwrap_or_default(),
        payload: message.payload,
        time,
    }
}

/// A letter, with its payload where that is read too.
pub(super) struct Found {
    pub(super) letter: DeadLetter,
    /// Bytes of the payload.
    pub(super) size: u64,
}

/// How much of each letter to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Headers only.
    Headers,
    /// The payload too, fewer letters at a time where they are large.
    Payload,
}

/// Reads the letters that are there when it is opened, oldest first.
pub(super) struct Letters {
    fleet: Fleet,
    js: jetstream::Context,
    stream: Stream,
    selection: Selection,
    depth: Depth,
    patience: Patience,
    /// Bytes that one question may bring.
    bytes: usize,
    position: Option<Position>,
    /// Where to read on.
    next: u64,
    /// Sequence of the last letter at the start: what dies while this reads is not read.
    last: u64,
    /// How many fit the selection's service.
    pub(super) total: u64,
    done: bool,
}

/// A position that the server keeps.
struct Position {
    consumer: Consumer<pull::Config>,
    /// Letters that it has handed out, lost ones included.
    delivered: u64,
    /// Letters that it has still to hand out.
    pending: u64,
}

impl Letters {
    /// `largest` is the most bytes that a message of this server may have.
    pub(super) async fn open(
        fleet: Fleet,
        js: jetstream::Context,
        stream: Stream,
        selection: &Selection,
        depth: Depth,
        patience: &Patience,
        largest: usize,
    ) -> Result<Self, Halt> {
        let mut letters = Self {
            last: stream.cached_info().state.last_sequence,
            fleet,
            js,
            stream,
            selection: selection.clone(),
            depth,
            patience: patience.clone(),
            bytes: BYTES.max(2 * largest),
            position: None,
            next: 1,
            total: 0,
            done: false,
        };
        let position = patience.insist(|| letters.find()).await?;
        letters.total = position.pending;
        letters.position = Some(position);
        Ok(letters)
    }

    /// The next letters that fit the selection, and how many were looked at; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Found>, u64)>, Halt> {
        if self.done {
            return Ok(None);
        }
        if self.patience.stop().is_cancelled() {
            return Err(Halt::Stopped);
        }
        let position = match self.position.take() {
            Some(position) => position,
            None => self.patience.insist(|| self.find()).await?,
        };
        if position.pending == 0 {
            self.done = true;
            return Ok(None);
        }
        let messages = self.fetch(position).await;
        if messages.is_empty() {
            // Lost, gone by now, or nothing that the client library reads.
            if let Some(position) = self.position.take() {
                self.forget(position).await;
            }
            return self.next_by_itself().await;
        }
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for message in messages {
            let Ok(info) = message.info() else { continue };
            let (sequence, time) = (info.stream_sequence, info.published);
            if sequence > self.last {
                self.done = true;
                break;
            }
            looked_at += 1;
            let size = match self.depth {
                Depth::Payload => message.payload.len() as u64,
                Depth::Headers => header(message.headers.as_ref(), SIZE)
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0),
            };
            found.extend(self.fitting(&stored(message, sequence, time), size));
        }
        Ok(Some((found, looked_at)))
    }

    /// The next letter alone, its headers past those that the client library refuses: it drops its connection over
    /// one that is handed out, each time anew.
    async fn next_by_itself(&mut self) -> Result<Option<(Vec<Found>, u64)>, Halt> {
        let service = self.selection.service.as_ref();
        let subject = service.map_or_else(|| format!("{DEAD}.>"), Service::dead);
        let read = async || {
            let next = stored::next(&self.js, DEAD_STREAM, &subject, self.next).await;
            next.map_err(|e| Refused::Later(format!("reading the dead letters: {e}")))
        };
        let next = self.patience.insist(read).await?;
        let Some(next) = next.filter(|next| next.sequence <= self.last) else {
            self.done = true;
            return Ok(None);
        };
        self.next = next.sequence + 1;
        let size = next.payload.len() as u64;
        let found = self.fitting(&next.message(), size);
        Ok(Some((found.into_iter().collect(), 1)))
    }

    fn fitting(&self, message: &StreamMessage, size: u64) -> Option<Found> {
        let letter = DeadLetter::read(message).filter(|letter| self.selection.fits(letter));
        letter.map(|letter| Found { letter, size })
    }

    /// Lets the server forget the position.
    pub(super) async fn close(mut self) {
        if let Some(position) = self.position.take() {
            self.forget(position).await;
        }
    }

    async fn forget(&self, position: Position) {
        let name = &position.consumer.cached_info().name;
        let _ = self.stream.delete_consumer(name).await;
    }

    /// Takes a position at the letter that is to be read next, over a connection of its own: a letter whose headers the
    /// client library refuses ends it, and must not end what else is under way.
    async fn find(&self) -> Result<Position, Refused> {
        let later = |what: &dyn Display| Refused::Later(format!("reading the dead letters: {what}"));
        let (_, js) = fleet::connect(&self.fleet).await.map_err(|e| later(&e))?;
        let stream = js.get_stream_no_info(DEAD_STREAM).await.map_err(|e| later(&e))?;
        let service = self.selection.service.as_ref();
        let config = pull::Config {
            filter_subject: service.map(Service::dead).unwrap_or_default(),
            headers_only: self.depth == Depth::Headers,
            ..from(self.next)
        };
        let consumer = stream.create_consumer(config).await;
        let consumer = consumer.map_err(|e| later(&e))?;
        Ok(Position {
            delivered: 0,
            pending: consumer.cached_info().num_pending,
            consumer,
        })
    }

    /// What the server hands out from a position, without a gap; keeps the position unless there was one.
    async fn fetch(&mut self, mut position: Position) -> Vec<Message> {
        let wanted = BATCH.min(position.pending as usize);
        let mut messages = Vec::with_capacity(wanted);
        let batch = position.consumer.batch().max_messages(wanted).expires(WAIT);
        let Ok(mut batch) = batch.max_bytes(self.bytes).messages().await else {
            return messages;
        };
        // An error ends what this question brings; whether something was lost, the next one's first letter tells.
        while let Some(Ok(message)) = batch.next().await {
            let Ok(info) = message.info() else { break };
            if info.consumer_sequence != position.delivered + 1 {
                self.forget(position).await;
                return messages;
            }
            position.delivered += 1;
            position.pending = info.pending;
            self.next = info.stream_sequence + 1;
            messages.push(message);
        }
        self.position = Some(position);
        messages
    }
}
