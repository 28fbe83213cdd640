//! What the server says of a stream and of a consumer, as far as it is of use here: with its own clock, by which the age of
//! a message is told.

use async_nats::jetstream;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use shared::subject::Lane;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Why the server's word is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Request(#[from] async_nats::client::RequestError),
    #[error("the answer makes no sense: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("{description} (code {code})")]
    Refused { code: u16, description: String },
}

/// A stream (NATS API schema `stream_info_response`).
#[derive(Debug, Deserialize)]
pub(super) struct Stream {
    /// When it was made, nanoseconds since the Unix epoch.
    #[serde(rename = "created", deserialize_with = "nanos")]
    pub(super) made: i128,
    /// The server's time, milliseconds since the Unix epoch.
    #[serde(rename = "ts", deserialize_with = "millis")]
    pub(super) now: u64,
    pub(super) state: State,
}

/// What lies in it.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) messages: u64,
    #[serde(rename = "last_seq")]
    pub(super) last_sequence: u64,
    /// When the first message was kept, milliseconds since the Unix epoch; 0 where there never was one.
    #[serde(rename = "first_ts", deserialize_with = "millis")]
    pub(super) first_at: u64,
}

/// A consumer (NATS API schema `consumer_info_response`).
#[derive(Debug, Deserialize)]
pub(super) struct Consumer {
    #[serde(rename = "num_pending")]
    pub(super) pending: u64,
    #[serde(rename = "num_ack_pending")]
    pub(super) unacked: u64,
    #[serde(rename = "num_redelivered")]
    pub(super) redelivered: u64,
    pub(super) delivered: Delivered,
}

/// How far it has come.
#[derive(Debug, Deserialize)]
pub(super) struct Delivered {
    /// Deliveries so far.
    #[serde(rename = "consumer_seq")]
    pub(super) sequence: u64,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: u16,
    #[serde(default)]
    description: String,
}

pub(super) async fn stream(js: &jetstream::Context, name: &str) -> Result<Stream, AskError> {
    ask(js, format!("STREAM.INFO.{name}")).await
}

pub(super) async fn consumer(
    js: &jetstream::Context,
    stream: &str,
    lane: Lane,
) -> Result<Consumer, AskError> {
    ask(js, format!("CONSUMER.INFO.{stream}.{lane}")).await
}

async fn ask<T: DeserializeOwned>(js: &jetstream::Context, what: String) -> Result<T, AskError> {
    let answer = js.client().request(format!("$JS.API.{what}"), "".into()).await?;
    if let Some(Said { code, description }) = serde_json::from_slice::<Refusal>(&answer.payload)?.error {
        return Err(AskError::Refused { code, description });
    }
    Ok(serde_json::from_slice(&answer.payload)?)
}

fn nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
    let text = String::deserialize(deserializer)?;
    let at = OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)?;
    Ok(at.unix_timestamp_nanos())
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let nanos = nanos(deserializer)?.max(0);
    u64::try_from(nanos / 1_000_000).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;

    #[test]
    fn times_are_the_servers_and_none_is_made_up() {
        let read = serde_json::from_str::<Stream>;
        let told = read(
            r#"{"created":"2026-11-21T10:00:00.5Z","ts":"2026-11-21T10:00:01.25Z",
                "state":{"messages":0,"last_seq":7,"first_ts":"0001-01-01T00:00:00Z"}}"#,
        )
        .unwrap();
        assert_eq!((told.state.first_at, told.state.last_sequence), (0, 7));
        assert_eq!(told.now, 1_795_255_201_250);
        assert_eq!(told.made, 1_795_255_200_500_000_000);
        for bad in [
            r#"{"created":"2026-11-21T10:00:00Z","state":{"messages":0,"last_seq":7,"first_ts":"0001-01-01T00:00:00Z"}}"#,
            r#"{"created":"now","ts":"2026-11-21T10:00:00Z","state":{"messages":0,"last_seq":7,"first_ts":"0001-01-01T00:00:00Z"}}"#,
            r#"{"created":"2026-11-21T10:00:00Z","ts":"2026-11-21T10:00:00Z","state":{"messages":-1,"last_seq":7,"first_ts":"0001-01-01T00:00:00Z"}}"#,
        ] {
            read(bad).unwrap_err();
        }
    }
}
