//! The event: what came in, what a worker acts on, what every stage names in its logs.

use std::fmt;

use bytes::Bytes;

use crate::form::is_form;
use crate::subject::Lane;

/// Longest event id in bytes.
pub const MAX_ID: usize = 256;
/// Longest ordering key in bytes.
pub const MAX_KEY: usize = 256;
/// Longest `type` or `content_type` in bytes.
pub const MAX_NAME: usize = 128;
/// Longest `source` or tenant in bytes.
pub const MAX_SOURCE: usize = 64;

/// One event, decoded. [`crate::wire`] says how it looks in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Names the event for good: the same id twice is the same event.
    pub id: EventId,
    /// What happened, in the source's words, for example `issues.opened`.
    pub kind: String,
    /// Who says so, for example `github`.
    pub source: Option<String>,
    /// When it happened, in milliseconds since the Unix epoch; `None` where the publisher did not say.
    pub time_ms: Option<u64>,
    /// How urgent it is.
    pub priority: Priority,
    /// What it belongs to, for example a repository.
    pub key: Option<Key>,
    /// Whose it is.
    pub tenant: Option<Tenant>,
    /// The payload.
    pub data: Data,
    /// Fields that this version does not know, kept as they came.
    pub extra: Extra,
}

impl Event {
    /// An event with an id and a type and nothing else.
    pub fn new(id: EventId, kind: impl Into<String>) -> Self {
        Self {
            id,
            kind: kind.into(),
            source: None,
            time_ms: None,
            priority: Priority::default(),
            key: None,
            tenant: None,
            data: Data::None,
            extra: Extra::default(),
        }
    }
}

/// A value that does not fit its field, told in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// The id of an event: 1 to [`MAX_ID`] visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Box<str>);

impl EventId {
    /// Checks and takes an id.
    pub fn new(id: impl Into<Box<str>>) -> Result<Self, Invalid> {
        let id = id.into();
        if (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(id))
        } else {
            Err(Invalid("must be 1 to 256 visible ASCII characters"))
        }
    }

    /// A fresh id that sorts by time (UUID version 7).
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// The id of a message that names none: its place in its stream, the same at every delivery.
    pub fn from_position(stream: &str, sequence: u64) -> Self {
        Self(format!("{stream}:{sequence}").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// How urgent an event is: 1 to 10, 10 the most urgent, 5 where nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// Checks and takes a priority.
    pub fn new(priority: u64) -> Result<Self, Invalid> {
        match u8::try_from(priority) {
            Ok(p @ 1..=10) => Ok(Self(p)),
            _ => Err(Invalid("must be a whole number from 1 to 10")),
        }
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }

    /// The lane that events of this priority travel in.
    pub fn lane(self) -> Lane {
        match self.0 {
            8.. => Lane::High,
            4..=7 => Lane::Normal,
            _ => Lane::Low,
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

/// What an event belongs to: 1 to [`MAX_KEY`] bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// Checks and takes a key.
    pub fn new(key: impl Into<Box<str>>) -> Result<Self, Invalid> {
        let key = key.into();
        if (1..=MAX_KEY).contains(&key.len()) && !key.chars().any(char::is_control) {
            Ok(Self(key))
        } else {
            Err(Invalid("must be 1 to 256 bytes without control characters"))
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose event it is: 1 to [`MAX_SOURCE`] of `A-Z a-z 0-9 _ -`, so that it fits a subject token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Box<str>);

impl Tenant {
    /// Checks and takes a tenant.
    pub fn new(tenant: impl Into<Box<str>>) -> Result<Self, Invalid> {
        let tenant = tenant.into();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if (1..=MAX_SOURCE).contains(&tenant.len()) && tenant.bytes().all(fits) {
            Ok(Self(tenant))
        } else {
            Err(Invalid("must be 1 to 64 of A-Z a-z 0-9 _ -"))
        }
    }

    /// The tenant as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The payload, never expanded: a megabyte of it costs a megabyte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Data {
    /// Nothing beyond the event's other fields.
    #[default]
    None,
    /// One msgpack value, checked for form, not looked into.
    Inline(Bytes),
    /// Bytes of a media type, for example the body of a webhook exactly as it was signed.
    Blob {
        /// The media type, for example `application/json`.
        content_type: String,
        /// The bytes.
        bytes: Bytes,
    },
}

impl Data {
    /// JSON bytes.
    pub fn json(bytes: impl Into<Bytes>) -> Self {
        Self::Blob {
            content_type: "application/json".into(),
            bytes: bytes.into(),
        }
    }

    /// The payload as JSON: an inline value transcoded, bytes parsed when their media type is JSON (or ends in
    /// `+json`), a form's field `payload` where that holds JSON (so GitHub and Slack send it), else its fields.
    /// `Ok(None)` where there is no payload or its bytes are of another type.
    ///
    /// # Errors
    /// What makes it no JSON: broken text, binary inside a structured value, deeper than 128.
    pub fn to_json(&self) -> Result<Option<serde_json::Value>, String> {
        match self {
            Self::Inline(raw) => {
                let mut decoder = rmp_serde::Deserializer::from_read_ref(&raw[..]);
                decoder.set_max_depth(crate::wire::MAX_DEPTH + 1);
                serde::Deserialize::deserialize(&mut decoder)
                    .map(Some)
                    .map_err(|e| e.to_string())
            }
            Self::Blob { content_type, bytes } if is_json(content_type) => {
                serde_json::from_slice(bytes).map(Some).map_err(|e| e.to_string())
            }
            Self::Blob { content_type, bytes } if is_form(content_type) => Ok(Some(form(bytes))),
            Self::None | Self::Blob { .. } => Ok(None),
        }
    }
}

/// A form's content; of a field that stands there twice the last.
fn form(bytes: &[u8]) -> serde_json::Value {
    let fields = form_urlencoded::parse(bytes);
    let fields: serde_json::Map<_, _> = fields
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    let payload = fields.get("payload").and_then(serde_json::Value::as_str);
    let payload = payload.and_then(|payload| serde_json::from_str(payload).ok());
    payload.unwrap_or(serde_json::Value::Object(fields))
}

/// Whether a media type is JSON, parameters ignored.
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// Unknown fields as raw msgpack key-value pairs, in the order they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    pub(crate) count: u32,
    pub(crate) pairs: Vec<u8>,
}

impl Extra {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;

    #[test]
    fn a_form_is_what_it_carries() {
        let json = |body: &str| {
            Data::Blob {
                content_type: "application/x-www-form-urlencoded; charset=utf-8".into(),
                bytes: body.to_owned().into(),
            }
            .to_json()
            .unwrap()
            .unwrap()
        };
        let carried = json("payload=%7B%22action%22%3A%22opened%22%7D&x=1");
        assert_eq!(carried, serde_json::json!({"action": "opened"}));
        assert_eq!(
            json("command=%2Fweir&text=a+b&text=c"),
            serde_json::json!({"command": "/weir", "text": "c"})
        );
        assert_eq!(json("payload=%7B"), serde_json::json!({"payload": "{"}));
        assert_eq!(json(""), serde_json::json!({}));
    }
}
