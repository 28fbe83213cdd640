//! Dead letters: events that no further attempt will help. Bytes and headers stay as they were; what happened is
//! added in `Weir-Dead-*` headers. Workers bury, the scheduler's backstop buries, people list, show and replay.

use std::fmt::Write;
use std::time::SystemTime;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_STREAM;
use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::EventId;
use crate::failure::Reason;
use crate::subject::{EVENTS, Lane, Service, header, headers, without};
use crate::telemetry::propagation::millis;

/// Most attempts that a history tells; older ones are dropped first.
pub const MAX_HISTORY: usize = 20;

/// One failed attempt, as the history of a retry or a dead letter tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it failed, milliseconds since the Unix epoch.
    pub at: u64,
    /// One word.
    pub code: String,
    /// A sentence.
    pub detail: String,
}

impl Attempt {
    /// An attempt that failed just now.
    pub fn now(reason: &Reason) -> Self {
        Self {
            at: millis(SystemTime::now()),
            code: reason.code.to_string(),
            detail: reason.detail.clone(),
        }
    }
}

/// The history that a message's headers carry, bounded as our own are; a broken one counts as none.
pub fn history(message: Option<&HeaderMap>) -> Vec<Attempt> {
    let said: Vec<Attempt> = header(message, headers::HISTORY)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let newest = said.len().saturating_sub(MAX_HISTORY);
    let bounded = |attempt: Attempt| {
        let reason = Reason::new(attempt.code, attempt.detail);
        Attempt {
            at: attempt.at,
            code: reason.code.into_owned(),
            detail: reason.detail,
        }
    };
    said.into_iter().skip(newest).map(bounded).collect()
}

/// A history as a header holds it: newest [`MAX_HISTORY`] attempts, ASCII only.
pub fn history_header(history: &[Attempt]) -> String {
    let newest = &history[history.len().saturating_sub(MAX_HISTORY)..];
    ascii(&serde_json::to_string(newest).unwrap_or_default())
}

/// JSON with everything beyond ASCII escaped, so that any NATS client can read the header.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// A message about to be buried: where it lay, what it was, why it dies.
#[derive(Debug, Clone)]
pub struct Burial<'a> {
    /// Whose event.
    pub service: &'a Service,
    /// Its sequence in the service's stream: burying the same message twice makes one dead letter.
    pub sequence: u64,
    /// The subject it lay on; a replay goes back there.
    pub subject: &'a str,
    /// The event's id; for bytes that did not decode, the message's id or place.
    pub id: &'a EventId,
    /// Headers as they came.
    pub headers: Option<&'a HeaderMap>,
    /// Bytes as they came.
    pub payload: Bytes,
    /// Why.
    pub reason: &'a Reason,
    /// Failed attempts, the last one included.
    pub attempts: u32,
    /// What became of them.
    pub history: &'a [Attempt],
    /// When the event was first kept, milliseconds since the Unix epoch.
    pub accepted: u64,
}

/// Puts a message among the dead letters and waits until the server keeps it. Only then may it be taken off its
/// stream.
pub async fn bury(js: &jetstream::Context, burial: Burial<'_>) -> Result<(), PublishError> {
    let (subject, headers, payload) = letter(burial);
    js.publish_with_headers(subject, headers, payload).await?.await?;
    Ok(())
}

/// The letter that says so: its subject, its headers and its bytes.
pub fn letter(burial: Burial<'_>) -> (String, HeaderMap, Bytes) {
    let stream = burial.service.stream();
    let mut out = without(burial.headers, &[]);
    out.insert(headers::MESSAGE_ID, format!("dead:{stream}:{}", burial.sequence));
    out.insert(headers::ID, burial.id.as_str());
    out.insert(headers::ATTEMPTS, burial.attempts.to_string());
    out.insert(headers::HISTORY, history_header(burial.history));
    out.insert(headers::ACCEPTED, burial.accepted.to_string());
    out.insert(headers::DEAD_CODE, burial.reason.code.as_ref());
    out.insert(headers::DEAD_REASON, burial.reason.detail.as_str());
    out.insert(headers::DEAD_AT, millis(SystemTime::now()).to_string());
    out.insert(headers::DEAD_SUBJECT, burial.subject);
    out.insert(headers::DEAD_STREAM, stream);
    out.insert(headers::DEAD_SEQUENCE, burial.sequence.to_string());
    (burial.service.dead(), out, burial.payload)
}

/// A dead letter as it lies in its stream.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its sequence among the dead letters: how people name it.
    pub sequence: u64,
    /// The event's id.
    pub id: String,
    /// Whose event.
    pub service: Service,
    /// Why, one word.
    pub code: String,
    /// Why, a sentence.
    pub reason: String,
    /// When it died, milliseconds since the Unix epoch.
    pub at: u64,
    /// When the event was first kept, milliseconds since the Unix epoch.
    pub accepted: u64,
    /// The subject it lay on.
    pub subject: String,
    /// Failed attempts.
    pub attempts: u32,
    /// What became of them.
    pub history: Vec<Attempt>,
    /// All headers.
    pub headers: HeaderMap,
    /// Bytes as they came.
    pub payload: Bytes,
}

impl DeadLetter {
    /// Reads a message of the dead-letter stream; `None` when it is none of ours.
    pub fn read(message: &StreamMessage) -> Option<Self> {
        let service = Service::new(message.subject.strip_prefix("dead.")?).ok()?;
        let text = |name| {
            header(Some(&message.headers), name)
                .unwrap_or_default()
                .to_owned()
        };
        let number = |name| {
            header(Some(&message.headers), name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        Some(Self {
            sequence: message.sequence,
            id: text(headers::ID),
            code: text(headers::DEAD_CODE),
            reason: text(headers::DEAD_REASON),
            at: number(headers::DEAD_AT),
            accepted: number(headers::ACCEPTED),
            subject: text(headers::DEAD_SUBJECT),
            attempts: number(headers::ATTEMPTS) as u32,
            history: history(Some(&message.headers)),
            headers: message.headers.clone(),
            payload: message.payload.clone(),
            service,
        })
    }

    /// The subject it lay on, to which a replay goes; `None` where the letter names none or one that is not its
    /// service's. Whoever may publish to `dead.>` writes that header, so nothing else is ever published to.
    pub fn home(&self) -> Option<&str> {
        let below = self.subject.strip_prefix(EVENTS)?.strip_prefix('.')?;
        let mut tokens = below.strip_prefix(self.service.as_str())?.split('.');
        let (start, lane, tenant, more) = (tokens.next()?, tokens.next(), tokens.next(), tokens.next());
        let a_lane = |token: &str| Lane::ALL.iter().any(|lane| lane.as_str() == token);
        let a_token = |token: &str| {
            !token.is_empty()
                && !token.contains(|c: char| matches!(c, '*' | '>') || c.is_whitespace() || c.is_control())
        };
        let fits =
            start.is_empty() && lane.is_none_or(a_lane) && tenant.is_none_or(a_token) && more.is_none();
        fits.then_some(self.subject.as_str())
    }

    /// Publishes it to its [home](Self::home), with its id and history and all its attempts before it again, and waits
    /// until the server keeps it. The letter itself stays; take it off the stream afterwards.
    ///
    /// A second replay of the same letter within the deduplication window is dropped by the server, which says so in
    /// its answer; one after it is found done by the worker if the first has been done by then.
    ///
    /// # Errors
    /// The letter has no home, or the server does not keep it.
    pub async fn replay(&self, js: &jetstream::Context) -> Result<PublishAck, ReplayError> {
        // What was said of its death and of the waits before it.
        let over = [
            headers::ATTEMPTS,
            headers::PUT_OFF,
            headers::PLANNED,
            headers::DEAD_CODE,
            headers::DEAD_REASON,
            headers::DEAD_AT,
            headers::DEAD_SUBJECT,
            headers::DEAD_STREAM,
            headers::DEAD_SEQUENCE,
        ];
        let home = self.home().ok_or(ReplayError::Homeless)?;
        let mut out = without(Some(&self.headers), &over);
        // The time tells it from a letter of the same sequence in a stream that was made anew.
        out.insert(
            headers::MESSAGE_ID,
            format!("replay:{}:{}", self.sequence, self.at),
        );
        out.insert(NATS_EXPECTED_STREAM, self.service.stream());
        out.insert(headers::REPLAYED, self.sequence.to_string());
        let kept = js.publish_with_headers(home.to_owned(), out, self.payload.clone());
        Ok(kept.await?.await?)
    }
}

/// A dead letter that was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It does not say where it lay.
    #[error("does not say where in its service it lay")]
    Homeless,
    /// The server does not keep it, or does not answer.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_survive_headers_and_stay_bounded() {
        let attempts: Vec<_> = (0..30)
            .map(|n| Attempt {
                at: n,
                code: "http_500".into(),
                detail: "Müller said 💥".into(),
            })
            .collect();
        let text = history_header(&attempts);
        assert!(text.is_ascii());
        let mut map = HeaderMap::new();
        map.insert(headers::HISTORY, text);
        assert_eq!(history(Some(&map)), attempts[10..]);
        map.insert(headers::HISTORY, "garbage");
        assert!(history(Some(&map)).is_empty());
        // The worst that a publisher can put there comes out no larger than the worst of our own.
        let foreign: Vec<_> = (0..40)
            .map(|at| Attempt {
                at,
                code: "é".repeat(900),
                detail: "é".repeat(9_000),
            })
            .collect();
        map.insert(headers::HISTORY, serde_json::to_string(&foreign).unwrap());
        let worst = history_header(&history(Some(&map)));
        assert!(
            worst.len() < crate::subject::MAX_HISTORY_BYTES - 100,
            "{}",
            worst.len()
        );
    }

    #[test]
    fn a_letter_goes_back_to_its_own_service_and_nowhere_else() {
        let letter = |subject: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(headers::DEAD_SUBJECT, subject);
            let message = StreamMessage {
                subject: "dead.github".into(),
                sequence: 1,
                headers,
                payload: Bytes::new(),
                time: SystemTime::now().into(),
            };
            DeadLetter::read(&message).unwrap()
        };
        for home in [
            "events.github",
            "events.github.high",
            "events.github.normal.acme",
            "events.github.low.a-b~c",
        ] {
            assert_eq!(letter(home).home(), Some(home));
        }
        for bad in [
            "",
            "events",
            "events.",
            "events.github.",
            "events.githubs",
            "events.git",
            "events.http.high",
            "events.github.urgent",
            "events.github.high.",
            "events.github.high.*",
            "events.github.high.>",
            "events.github.high.a b",
            "events.github.high.acme.more",
            "$JS.API.STREAM.DELETE.WEIR_github",
        ] {
            assert_eq!(letter(bad).home(), None, "{bad}");
        }
    }
}
