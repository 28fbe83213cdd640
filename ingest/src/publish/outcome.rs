//! What a try to publish came to.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};

use crate::error::{Code, Refusal};

/// JetStream's error code when a stream cannot store a message.
const STORE_FAILED: u64 = 10_077;
/// What a sender waits when one lane and tenant has too much waiting.
const BACKLOG: Duration = Duration::from_secs(5);
/// What a sender waits when the whole stream is full.
const FULL: Duration = Duration::from_secs(10);

/// What a try to publish came to.
pub(super) enum Outcome {
    /// The server has the event.
    Kept {
        /// It had it before.
        duplicate: bool,
    },
    /// Trying again with the same id makes sense.
    Again(String),
    /// No stream answers for the subject: it is missing, or between two leaders.
    NoStream,
    /// Trying again at once does not.
    Refused(Refusal),
}

impl Outcome {
    pub(super) fn of(result: Result<bool, PublishError>) -> Self {
        let error = match result {
            Ok(duplicate) => return Self::Kept { duplicate },
            Err(error) => error,
        };
        match error.kind() {
            PublishErrorKind::StreamNotFound => Self::NoStream,
            // Too large for a server that we are connected to only now: the next try asks what it takes.
            PublishErrorKind::MaxPayloadExceeded
            | PublishErrorKind::TimedOut
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::MaxAckPending => Self::Again(error.to_string()),
            PublishErrorKind::Other
            | PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::WrongLastSequence => {
                let source = std::error::Error::source(&error);
                match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                    Some(error) => Self::answered(error.error_code().0, error.code(), &error.to_string()),
                    None => Self::Again(error.to_string()),
                }
            }
        }
    }

    /// There is no room for the bytes of an event that is too large for a message.
    pub(super) fn bucket_full() -> Self {
        let detail = "the bucket of large events is full: they are not worked off fast enough";
        Self::Refused(Refusal::new(Code::StreamFull, detail).after(FULL))
    }

    /// An error that JetStream answered: its code, its status and its words. Only the words tell which limit of a
    /// stream is reached.
    fn answered(code: u64, status: usize, words: &str) -> Self {
        if code == STORE_FAILED && words.contains("maximum messages per subject") {
            let detail = "too many events of this service, lane and tenant wait already";
            Self::Refused(Refusal::new(Code::BacklogFull, detail).after(BACKLOG))
        } else if code == STORE_FAILED && words.contains("maximum") {
            let detail = "the service's stream is full: its events are not worked off fast enough";
            Self::Refused(Refusal::new(Code::StreamFull, detail).after(FULL))
        } else if code == jetstream::ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM.0 {
            let detail = "the event is larger than the service's stream takes";
            Self::Refused(Refusal::new(Code::MessageTooLarge, detail))
        } else if status == 400 {
            let detail = format!("JetStream refuses the event: {words}");
            Self::Refused(Refusal::new(Code::Internal, detail))
        } else {
            Self::Again(format!("JetStream answers: {words}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: Outcome) -> Option<Code> {
        match outcome {
            Outcome::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    #[test]
    fn the_words_tell_which_limit_is_reached() {
        let answered = |code, status, words| self::code(Outcome::answered(code, status, words));
        assert_eq!(
            answered(10_077, 503, "maximum messages per subject exceeded"),
            Some(Code::BacklogFull)
        );
        assert_eq!(
            answered(10_077, 503, "maximum messages exceeded"),
            Some(Code::StreamFull)
        );
        assert_eq!(
            answered(10_077, 503, "maximum bytes exceeded"),
            Some(Code::StreamFull)
        );
        assert_eq!(answered(10_077, 503, "no space left on device"), None);
        assert_eq!(answered(10_158, 409, "duplicate message id is in process"), None);
        assert_eq!(
            answered(10_008, 503, "JetStream system temporarily unavailable"),
            None
        );
        assert_eq!(
            answered(10_054, 400, "message size exceeds maximum allowed"),
            Some(Code::MessageTooLarge)
        );
    }
}
