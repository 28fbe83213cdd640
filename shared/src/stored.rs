//! Messages read where they lie, by the stream's leader, headers as bytes: for those who look through streams that
//! anybody can publish to. The client library refuses some headers, and panics on a few when they come with a message.

use std::time::SystemTime;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A message as it lies in a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where it was published.
    pub subject: String,
    /// Its place.
    pub sequence: u64,
    /// When the server kept it.
    pub time: SystemTime,
    /// Its bytes.
    pub payload: Bytes,
    headers: Vec<u8>,
}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// There is no such stream.
    #[error("there is no stream {0}")]
    NoStream(String),
    /// The server did not answer, or not with a message.
    #[error("reading from {stream}: {what}")]
    Away {
        /// The stream.
        stream: String,
        /// What it said.
        what: String,
    },
}

/// The last message of a subject; `None` when there is none.
pub async fn last(js: &jetstream::Context, stream: &str, subject: &str) -> Result<Option<Stored>, Unread> {
    get(js, stream, &json!({ "last_by_subj": subject })).await
}

/// The first message at this sequence or after it whose subject fits, wildcards allowed; `None` behind the last one.
pub async fn next(
    js: &jetstream::Context,
    stream: &str,
    subject: &str,
    from: u64,
) -> Result<Option<Stored>, Unread> {
    get(js, stream, &json!({ "seq": from, "next_by_subj": subject })).await
}

/// The message with this sequence; `None` when it is gone.
pub async fn at(js: &jetstream::Context, stream: &str, sequence: u64) -> Result<Option<Stored>, Unread> {
    get(js, stream, &json!({ "seq": sequence })).await
}

async fn get(
    js: &jetstream::Context,
    stream: &str,
    which: &serde_json::Value,
) -> Result<Option<Stored>, Unread> {
    let away = |what: String| Unread::Away {
        stream: stream.to_owned(),
        what,
    };
    match js.request(format!("STREAM.MSG.GET.{stream}"), which).await {
        Ok(Response::Ok(Answer { message })) => message.read().map(Some).map_err(away),
        Ok(Response::Err { error }) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Ok(Response::Err { error }) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Err(Unread::NoStream(stream.to_owned()))
        }
        Ok(Response::Err { error }) => Err(away(error.to_string())),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            Err(away("nobody answers for JetStream".into()))
        }
        Err(error) => Err(away(error.to_string())),
    }
}

#[derive(Deserialize)]
struct Answer {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    subject: String,
    seq: u64,
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl Message {
    fn read(self) -> Result<Stored, String> {
        let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|e| e.to_string());
        let time = OffsetDateTime::parse(&self.time, &Rfc3339).map_err(|e| e.to_string())?;
        Ok(Stored {
            sequence: self.seq,
            time: time.into(),
            payload: bytes(&self.data)?.into(),
            headers: bytes(&self.hdrs)?,
            subject: self.subject,
        })
    }
}

impl Stored {
    /// A header's value, whatever case its name was written in; `None` where it is not there or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The message as the client library would have given it, without those of its headers that the library refuses.
    pub fn message(self) -> StreamMessage {
        StreamMessage {
            headers: readable(&self.headers),
            subject: self.subject.into(),
            sequence: self.sequence,
            payload: self.payload,
            time: self.time.into(),
        }
    }
}

/// Lines `Name: value` after the first line, which is the protocol's version. Lines that are none are passed over.
fn lines(headers: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    headers.split(|b| *b == b'\n').skip(1).filter_map(|line| {
        let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()?;
        let (name, value) = line.split_once(':')?;
        Some((name, value.trim()))
    })
}

fn find<'a>(headers: &'a [u8], name: &str) -> Option<&'a str> {
    lines(headers)
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn readable(headers: &[u8]) -> HeaderMap {
    // Whoever publishes the map again must be able to, and so must whoever reads it then.
    let within_a_line = |text: &str| !text.contains(['\r', '\0']);
    let mut map = HeaderMap::new();
    for (name, value) in lines(headers).filter(|(name, value)| within_a_line(name) && within_a_line(value)) {
        if let (false, Ok(name), Ok(value)) = (
            name.is_empty(),
            name.parse::<HeaderName>(),
            value.parse::<HeaderValue>(),
        ) {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_among_rubbish() {
        let headers = b"NATS/1.0\r\nX: a\rb: c\r\nno colon\r\n\xff: \xff\r\nWEIR-claim:  http/1 \r\n\r\n";
        assert_eq!(find(headers, "Weir-Claim"), Some("http/1"));
        assert_eq!(find(headers, "b"), None);
        assert_eq!(find(b"", "b"), None);
        let map = readable(
            b"NATS/1.0\r\nA: 1\r\nA: 2\r\nX: a\rb\r\n\xff: x\r\nB:\xff\r\nC:\r\n: d\r\nE F: g\r\n\r\n",
        );
        let values: Vec<&str> = map.get_all("A").map(HeaderValue::as_str).collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(map.get("C").map(HeaderValue::as_str), Some(""));
        let names: Vec<&str> = map.iter().map(|(name, _)| name.as_ref()).collect();
        assert!(
            !names.contains(&"X") && !names.contains(&"B") && !names.contains(&""),
            "{names:?}"
        );
    }
}
