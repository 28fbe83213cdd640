//! From a request that may be believed to an event. Pure: time comes in as an argument, nothing is sent.

pub mod api;
mod form;
mod generic;
mod github;
mod slack;

use bytes::Bytes;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use shared::event::{Data, Event, EventId, MAX_NAME};

use crate::config::Source;
use crate::error::{Code, Refusal};
use crate::verify::{Scheme, Verified};

/// What a verified delivery asks for.
#[derive(Debug)]
pub enum Accepted {
    /// Keep this event.
    Event(Event),
    /// Answer with this JSON and keep nothing.
    Answer(Bytes),
}

/// Reads a verified delivery of a source.
pub fn webhook(source: &Source, delivery: &Verified<'_>) -> Result<Accepted, Refusal> {
    let mut accepted = match &source.scheme {
        Scheme::Github(_) => github::accept(&source.name, delivery).map(Accepted::Event),
        Scheme::Slack(_) => slack::accept(&source.name, delivery),
        Scheme::Hmac(generic) => generic::accept(&source.name, generic, delivery).map(Accepted::Event),
    }?;
    if let Accepted::Event(event) = &mut accepted {
        event.source = Some(source.name.clone());
        event.priority = source.priority;
    }
    Ok(accepted)
}

/// A header as text, `None` when it is missing.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let refused = |_| Refusal::header(name, "must be visible ASCII");
    value.to_str().map(Some).map_err(refused)
}

/// The media type of a body, `default` where the sender names none.
fn content_type<'h>(headers: &'h HeaderMap, default: &'h str) -> Result<&'h str, Refusal> {
    match text(headers, header::CONTENT_TYPE.as_str())? {
        None => Ok(default),
        Some(name) if (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control) => Ok(name),
        Some(_) => Err(Refusal::header("content-type", "must be 1 to 128 characters")),
    }
}

/// The body exactly as it was signed.
fn blob(content_type: &str, body: &Bytes) -> Data {
    Data::Blob {
        content_type: content_type.to_owned(),
        bytes: body.clone(),
    }
}

/// `<source>:<delivery>`, where `header` is where the delivery's id stood.
fn event_id(source: &str, delivery: &str, header: &str) -> Result<EventId, Refusal> {
    let refused = |_| Refusal::header(header, "must be an id of at most 220 visible ASCII characters");
    EventId::new(format!("{source}:{delivery}")).map_err(refused)
}

/// The id of a delivery that brings none: the same body is the same event.
fn digest_id(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// Text for the event's `type`, where `place` is where it stood.
fn kind(text: String, place: &str) -> Result<String, Refusal> {
    if (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(text)
    } else {
        Err(Refusal::new(
            Code::Malformed,
            format!("{place} must be 1 to 128 characters"),
        ))
    }
}

/// Reads the few fields that are needed, and checks that the rest is JSON.
fn json<'b, T: serde::Deserialize<'b>>(body: &'b [u8], place: &str) -> Result<T, Refusal> {
    // Text that is skipped is not checked by the parser, and must not fail later.
    let body = std::str::from_utf8(body).map_err(|e| {
        Refusal::new(
            Code::Malformed,
            format!("{place} is not UTF-8 from byte {}", e.valid_up_to()),
        )
    })?;
    serde_json::from_str(body)
        .map_err(|e| Refusal::new(Code::Malformed, format!("{place} is broken JSON: {e}")))
}

#[cfg(test)]
mod tests;
