//! Dead letters: events that no further attempt will help. Bytes and headers stay as they were; what happened is
//! added in `Weir-Dead-*` headers. Workers bury, the scheduler's backstop buries, people list, show and replay.

use std::fmt::Write;
use std::time::SystemTime;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::EventId;
use crate::failure::Reason;
use crate::subject::{Service, header, headers, without};
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

/// The history that a message's headers carry; a broken one counts as none.
pub fn history(message: Option<&HeaderMap>) -> Vec<Attempt> {
    header(message, headers::HISTORY)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
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
    js.publish_with_headers(burial.service.dead(), out, burial.payload)
        .await?
        .await?;
    Ok(())
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

    /// Publishes it to where it lay, with its id and history and all its attempts before it again, and waits until
    /// the server keeps it. The letter itself stays; take it off the stream afterwards. A second replay of the same
    /// letter within the deduplication window is dropped by the server, later ones by the worker once one is done.
    pub async fn replay(&self, js: &jetstream::Context) -> Result<(), PublishError> {
        let about_its_death = [
            headers::ATTEMPTS,
            headers::DEAD_CODE,
            headers::DEAD_REASON,
            headers::DEAD_AT,
            headers::DEAD_SUBJECT,
            headers::DEAD_STREAM,
            headers::DEAD_SEQUENCE,
        ];
        let mut out = without(Some(&self.headers), &about_its_death);
        out.insert(headers::MESSAGE_ID, format!("replay:{}", self.sequence));
        js.publish_with_headers(self.subject.clone(), out, self.payload.clone())
            .await?
            .await?;
        Ok(())
    }
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
    }
}
