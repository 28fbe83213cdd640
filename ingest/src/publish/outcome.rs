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

/// The refusal of an event that this server does not take.
pub(super) fn too_large(client: &async_nats::Client) -> Refusal {
    let most = client.max_payload();
    let detail = format!("the event is too large for this NATS server (max_payload is {most} bytes)");
    Refusal::new(Code::MessageTooLarge, detail)
}

impl Outcome {
    pub(super) fn of(result: Result<bool, PublishError>, client: &async_nats::Client) -> Self {
        let error = match result {
            Ok(duplicate) => return Self::Kept { duplicate },
            Err(error) => error,
        };
        match error.kind() {
            PublishErrorKind::StreamNotFound => Self::NoStream,
            PublishErrorKind::MaxPayloadExceeded => Self::Refused(too_large(client)),
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
                Self::Again(error.to_string())
            }
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
