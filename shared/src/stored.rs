//! Messages read where they lie, by the stream's leader, headers as bytes: for those who look through streams that
//! anybody can publish to. The client library refuses some headers, and panics on a few when they come with a message.

use std::time::SystemTime;

use async_nats::jetstream::context::RequestErrorKind;
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
}

/// Lines `Name: value` after the first line, which is the protocol's version. Lines that are none are passed over.
fn find<'a>(headers: &'a [u8], name: &str) -> Option<&'a str> {
    headers.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|b| *b == b':')?;
        if !line[..colon].eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        Some(std::str::from_utf8(&line[colon + 1..]).ok()?.trim())
    })
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
    }
}
