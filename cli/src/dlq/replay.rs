//! `weir dlq replay`: a letter goes back to where it lay, and is removed once the server has kept it there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use shared::dead_letter::{DeadLetter, ReplayError};

use super::chosen::{Work, letters_of};
use super::letters::{Depth, one};
use super::pace::Pace;
use super::patience::{Halt, Patience, Refused};
use super::pipeline::Done;
use super::remove::remove;
use crate::args::DlqReplay;
use crate::failure::Failure;
use crate::terminal;

pub(super) async fn run(replay: DlqReplay) -> Result<(), Failure> {
    let chosen = &replay.chosen;
    chosen.check()?;
    let work = Work::start(&replay.fleet, replay.insisting.patience).await?;
    if chosen.dry_run {
        let count = work.count(chosen).await?;
        terminal::out(format_args!("would replay {}", letters_of(count)));
        return Ok(());
    }
    let sender = Arc::new(Sender {
        js: work.js.clone(),
        patience: work.patience.clone(),
        left: AtomicU64::new(0),
    });
    let one = |sequence, letter| {
        let sender = Arc::clone(&sender);
        async move { sender.replay(sequence, letter).await }
    };
    let pace = replay.rate.map(Pace::new);
    let tally = work.each(chosen, Depth::Payload, pace, one).await;
    let left = sender.left.load(Ordering::Relaxed);
    if left > 0 {
        terminal::note(format_args!(
            "{} more are back in their streams but could not be removed here: a second replay of them is dropped by \
             the server within its deduplication window",
            letters_of(left)
        ));
    }
    work.conclude(chosen, "replayed", tally)
}

struct Sender {
    js: jetstream::Context,
    patience: Patience,
    /// Letters that were sent and not removed.
    left: AtomicU64,
}

impl Sender {
    /// Replays a letter, which is read first where it is not at hand.
    async fn replay(&self, sequence: u64, letter: Option<DeadLetter>) -> Result<Done, Halt> {
        let letter = match letter {
            Some(letter) => letter,
            None => match self.patience.insist(|| one(&self.js, sequence)).await? {
                Some(letter) => letter,
                None => return Ok(Done::Missing),
            },
        };
        self.patience.insist(|| self.send(&letter)).await?;
        let removed = self.patience.insist(|| remove(&self.js, sequence));
        match removed.await {
            // Missing: somebody else replays the same, and the server has kept one of both.
            Ok(Done::Yes | Done::Missing) => Ok(Done::Yes),
            Err(halt) => {
                self.left.fetch_add(1, Ordering::Relaxed);
                Err(halt)
            }
        }
    }

    async fn send(&self, letter: &DeadLetter) -> Result<(), Refused> {
        let about = |refused| match refused {
            Refused::Later(why) => Refused::Later(format!("{}: {why}", letter.service)),
            Refused::Never(why) => Refused::Never(why),
        };
        match letter.replay(&self.js).await {
            Ok(_) => Ok(()),
            Err(error @ ReplayError::Homeless) => Err(Refused::Never(error.to_string())),
            Err(ReplayError::Publish(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
                Err(about(self.without_stream(letter).await))
            }
            Err(ReplayError::Publish(error)) => Err(about(refused(&error))),
        }
    }

    /// Nobody has answered for the service's stream: it is about to elect a leader, or there is none.
    async fn without_stream(&self, letter: &DeadLetter) -> Refused {
        let name = letter.service.stream();
        match self.js.get_stream(&name).await {
            Err(error) if is_not_found(&error) => Refused::Never(format!(
                "cannot go back: there is no stream {name}, no worker serves its service"
            )),
            Ok(_) | Err(_) => Refused::Later("no stream takes its events".into()),
        }
    }
}

fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether the server may keep later what it does not keep now.
fn refused(error: &PublishError) -> Refused {
    match error.kind() {
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => Refused::Later(error.to_string()),
        PublishErrorKind::MaxPayloadExceeded => Refused::Never(format!("is refused: {error}")),
        PublishErrorKind::Other
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence => {
            let source = std::error::Error::source(error);
            match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                Some(answer) if answer.error_code() == ErrorCode::STREAM_STORE_FAILED => {
                    Refused::Later(format!("its stream has no room: {answer}"))
                }
                Some(answer) if answer.code() < 500 => Refused::Never(format!("is refused: {answer}")),
                _ => Refused::Later(error.to_string()),
            }
        }
    }
}
