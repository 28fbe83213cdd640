//! Dead letters as the server hands them out.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use shared::dead_letter::DeadLetter;
use shared::subject::{DEAD_STREAM, header};

use crate::args::Selection;
use crate::failure::Failure;

/// Letters whose headers are in memory at once; a header block is at most 64 KiB.
const BATCH: usize = 100;
/// How long the server keeps the position of a reader that has gone away without a word.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);

/// The stream of dead letters.
pub(super) async fn stream(js: &jetstream::Context) -> Result<Stream, Failure> {
    js.get_stream(DEAD_STREAM).await.map_err(|error| {
        Failure::Failed(format!(
            "stream {DEAD_STREAM}: {error}: has this fleet ever been started?"
        ))
    })
}

/// One letter with its payload, `None` when there is none with this sequence.
pub(super) async fn one(stream: &Stream, sequence: u64) -> Result<Option<DeadLetter>, Failure> {
    match stream.get_raw_message(sequence).await {
        Ok(message) => match DeadLetter::read(&message) {
            Some(letter) => Ok(Some(letter)),
            None => Err(Failure::Failed(format!(
                "message {sequence} of {DEAD_STREAM} is no dead letter of Weir"
            ))),
        },
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(Failure::Failed(format!(
            "reading dead letter {sequence}: {error}"
        ))),
    }
}

/// A letter without its payload.
pub(super) struct Headed {
    pub(super) letter: DeadLetter,
    /// Bytes of the payload.
    pub(super) size: u64,
}

/// Reads the letters that are there when it is opened, oldest first, headers only.
pub(super) struct Letters {
    stream: Stream,
    consumer: Consumer<pull::Config>,
    code: Option<String>,
    /// Sequence of the last letter at the start: what dies while this reads is not read.
    last: u64,
    /// How many fit the selection's service.
    pub(super) total: u64,
    done: bool,
}

impl Letters {
    pub(super) async fn open(stream: Stream, selection: &Selection) -> Result<Self, Failure> {
        let last = stream.cached_info().state.last_sequence;
        let config = pull::Config {
            filter_subject: selection
                .service
                .as_ref()
                .map(shared::subject::Service::dead)
                .unwrap_or_default(),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN_AFTER,
            ..Default::default()
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(Failure::at("reading the dead letters"))?;
        let total = consumer.cached_info().num_pending;
        Ok(Self {
            stream,
            consumer,
            code: selection.code.clone(),
            last,
            total,
            done: total == 0,
        })
    }

    /// The next letters that fit the selection, and how many were looked at; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Headed>, u64)>, Failure> {
        if self.done {
            return Ok(None);
        }
        let mut batch = self
            .consumer
            .fetch()
            .max_messages(BATCH)
            .messages()
            .await
            .map_err(Failure::at("reading the dead letters"))?;
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some(message) = batch.next().await {
            let message = message.map_err(Failure::at("reading the dead letters"))?;
            let info = message.info().map_err(Failure::at("reading the dead letters"))?;
            if info.stream_sequence > self.last {
                self.done = true;
                break;
            }
            looked_at += 1;
            self.done = info.pending == 0;
            let size = header(message.headers.as_ref(), "Nats-Msg-Size").and_then(|text| text.parse().ok());
            let stored = StreamMessage {
                subject: message.subject.clone(),
                sequence: info.stream_sequence,
                headers: message.headers.clone().unwrap_or_default(),
                payload: Bytes::new(),
                time: info.published,
            };
            let fits = |letter: &DeadLetter| self.code.as_ref().is_none_or(|code| *code == letter.code);
            if let Some(letter) = DeadLetter::read(&stored).filter(fits) {
                found.push(Headed {
                    letter,
                    size: size.unwrap_or(0),
                });
            }
        }
        // Letters can be removed while this reads, so an empty batch is an end as well.
        self.done |= looked_at == 0;
        Ok(Some((found, looked_at)))
    }

    /// Lets the server forget the position.
    pub(super) async fn close(self) {
        let _ = self
            .stream
            .delete_consumer(&self.consumer.cached_info().name)
            .await;
    }
}
