//! Wire format v1: one msgpack map with string keys, or the same map as a JSON object. `docs/wire.md` describes it
//! for publishers in any language; `shared/wire-v1/` holds vectors that every client can check.
//!
//! Decoding trusts nothing: sizes, depth and form are checked in one pass without expanding the payload, and an
//! error names the field or the byte where the trouble is.

mod json;
mod msgpack;

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;

use crate::event::{Data, Event, EventId, Extra, Key, MAX_NAME, MAX_SOURCE, Priority, Tenant, is_json};

/// The version that this code writes and the only one it reads.
pub const VERSION: u64 = 1;
/// Most bytes of a decoded (decompressed) event: the largest webhook taken (25 MB from GitHub) and its envelope.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Deepest nesting of maps and arrays in a msgpack event, its own map included.
pub const MAX_DEPTH: usize = 64;
/// Most bytes that unknown fields may take together.
pub const MAX_EXTRA: usize = 64 * 1024;
/// Payloads above this many bytes are compressed when that saves at least a tenth.
pub const COMPRESS_ABOVE: usize = 4096;
/// The one `Content-Encoding` of the format.
pub const ZSTD: &str = "zstd";

/// Why bytes are no event. Every variant is permanent: the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No bytes at all.
    #[error("the message is empty")]
    Empty,
    /// Neither a msgpack map nor a JSON object.
    #[error("the message is neither a msgpack map nor a JSON object (first byte 0x{first:02x})")]
    NotAMap {
        /// The first byte.
        first: u8,
    },
    /// The bytes end inside a value.
    #[error("the message ends inside a value that begins at byte {at}")]
    Truncated {
        /// Where the unfinished value begins.
        at: usize,
    },
    /// A byte that msgpack never uses.
    #[error("byte {at} is no msgpack")]
    Malformed {
        /// Where.
        at: usize,
    },
    /// Maps and arrays nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// Bytes after the map.
    #[error("bytes after the end of the map, from byte {at}")]
    Trailing {
        /// Where the map ends.
        at: usize,
    },
    /// A key of the map that is no text.
    #[error("a key of the map is no text, at byte {at}")]
    KeyNotText {
        /// Where.
        at: usize,
    },
    /// A field twice.
    #[error("field {field:?} stands twice")]
    Duplicate {
        /// Which.
        field: String,
    },
    /// A field that must be there is not.
    #[error("field {field:?} is missing: {expected}")]
    Missing {
        /// Which.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A field with a value that does not fit it.
    #[error("field {field:?} {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A version of the format that this code does not know.
    #[error("field \"v\" is {0}, this server reads version {VERSION}")]
    Version(u64),
    /// More than [`MAX_BYTES`].
    #[error("larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Unknown fields of more than [`MAX_EXTRA`].
    #[error("unknown fields take more than {MAX_EXTRA} bytes")]
    ExtraTooLarge,
    /// Broken JSON; the text names line and column.
    #[error("broken JSON: {0}")]
    Json(String),
    /// A content encoding other than zstd.
    #[error("content encoding {0:?} is unknown: only zstd is read")]
    Encoding(String),
    /// Broken zstd.
    #[error("broken zstd: {0}")]
    Compression(String),
}

/// Fields as they come off the wire, not yet checked against each other. One for both forms.
#[derive(Default)]
struct Fields {
    versioned: bool,
    id: Option<EventId>,
    kind: Option<String>,
    source: Option<String>,
    time_ms: Option<u64>,
    priority: Option<Priority>,
    key: Option<Key>,
    tenant: Option<Tenant>,
    content_type: Option<String>,
    data: Option<Data>,
    extra: Extra,
}

/// Decodes an event. `id` is asked for one when the event brings none.
pub fn decode(payload: &Bytes, id: impl FnOnce() -> EventId) -> Result<Event, WireError> {
    if payload.len() > MAX_BYTES {
        return Err(WireError::TooLarge);
    }
    let fields = match payload.first() {
        None => return Err(WireError::Empty),
        Some(0x80..=0x8f | 0xde | 0xdf) => msgpack::read(payload)?,
        Some(b'{' | b' ' | b'\n' | b'\r' | b'\t') => json::read(payload)?,
        Some(&first) => return Err(WireError::NotAMap { first }),
    };
    fields.check(id)
}

/// Encodes an event as msgpack. The same event always gives the same bytes.
pub fn encode(event: &Event) -> Bytes {
    msgpack::write(event)
}

thread_local! {
    /// Making one anew costs more than compressing an ordinary event. `None` where there is no memory for it.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        RefCell::new(zstd::bulk::Compressor::new(1).ok());
}

/// Compresses a payload when it is large and that pays; `true` says that it did.
pub fn compress(payload: Bytes) -> (Bytes, bool) {
    if payload.len() <= COMPRESS_ABOVE {
        return (payload, false);
    }
    match COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut().map(|c| c.compress(&payload))) {
        Some(Ok(small)) if small.len() < payload.len() / 10 * 9 => (small.into(), true),
        _ => (payload, false),
    }
}

/// Most bytes that [`decompress`] makes of a payload, told without decompressing it. One that does not say it, or consists
/// of several frames, counts as [`MAX_BYTES`]; one that says it falsely does not decompress.
pub fn plain_size(payload: &[u8], encoding: Option<&str>) -> usize {
    if encoding.is_none() {
        return payload.len();
    }
    let said = zstd::zstd_safe::get_frame_content_size(payload).ok().flatten();
    let single = zstd::zstd_safe::find_frame_compressed_size(payload) == Ok(payload.len());
    let said = said
        .filter(|_| single)
        .and_then(|size| usize::try_from(size).ok());
    said.unwrap_or(MAX_BYTES).min(MAX_BYTES)
}

/// Undoes the content encoding of a message, at most [`MAX_BYTES`] of it.
pub fn decompress(payload: Bytes, encoding: Option<&str>) -> Result<Bytes, WireError> {
    match encoding {
        None => Ok(payload),
        Some(name) if name.eq_ignore_ascii_case(ZSTD) => {
            let broken = |e: std::io::Error| WireError::Compression(e.to_string());
            let mut decoder = zstd::stream::read::Decoder::new(&payload[..]).map_err(broken)?;
            // 8 MiB, what RFC 8878 asks every decoder to bear; frames may ask for gigabytes.
            decoder.window_log_max(23).map_err(broken)?;
            let expected = plain_size(&payload, encoding);
            // What is not known is grown into.
            let room = if expected < MAX_BYTES { expected } else { 1 << 20 };
            let mut plain = Vec::with_capacity(room);
            decoder
                .take(MAX_BYTES as u64 + 1)
                .read_to_end(&mut plain)
                .map_err(broken)?;
            if plain.len() > MAX_BYTES {
                Err(WireError::TooLarge)
            } else {
                Ok(plain.into())
            }
        }
        Some(other) => Err(WireError::Encoding(other.chars().take(32).collect())),
    }
}

impl Fields {
    fn check(self, id: impl FnOnce() -> EventId) -> Result<Event, WireError> {
        if !self.versioned {
            return Err(WireError::Missing {
                field: "v",
                expected: "the version of the format, 1",
            });
        }
        let kind = self.kind.ok_or(WireError::Missing {
            field: "type",
            expected: "what happened, as text",
        })?;
        let data = match (self.data.unwrap_or_default(), self.content_type) {
            (data, None) => data,
            // What JSON spells out under `data` is JSON; only bytes may be of any type.
            (
                Data::Blob {
                    bytes,
                    content_type: own,
                },
                Some(content_type),
            ) if own == OCTETS || is_json(&content_type) => Data::Blob { bytes, content_type },
            (_, Some(_)) => {
                let expected = "goes with data that is bytes (in JSON: data_base64)";
                return Err(WireError::Field {
                    field: "content_type",
                    expected,
                });
            }
        };
        Ok(Event {
            id: self.id.unwrap_or_else(id),
            kind,
            source: self.source,
            time_ms: self.time_ms,
            priority: self.priority.unwrap_or_default(),
            key: self.key,
            tenant: self.tenant,
            data,
            extra: self.extra,
        })
    }
}

/// Media type of bytes whose publisher named none.
const OCTETS: &str = "application/octet-stream";

/// The known fields, and what a value that does not fit is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Version,
    Id,
    Kind,
    Source,
    Time,
    Priority,
    Key,
    Tenant,
    ContentType,
    Data,
}

impl Field {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "v" => Self::Version,
            "id" => Self::Id,
            "type" => Self::Kind,
            "source" => Self::Source,
            "time" => Self::Time,
            "priority" => Self::Priority,
            "key" => Self::Key,
            "tenant" => Self::Tenant,
            "content_type" => Self::ContentType,
            "data" => Self::Data,
            _ => return None,
        })
    }

    fn misfit(self) -> WireError {
        let (field, expected) = match self {
            Self::Version => ("v", "must be a whole number"),
            Self::Id => ("id", "must be 1 to 256 visible ASCII characters"),
            Self::Kind => (
                "type",
                "must be text of 1 to 128 bytes without control characters",
            ),
            Self::Source => (
                "source",
                "must be text of 1 to 64 bytes without control characters",
            ),
            Self::Time => ("time", "must be milliseconds since 1970, a whole number"),
            Self::Priority => ("priority", "must be a whole number from 1 to 10"),
            Self::Key => ("key", "must be text of 1 to 256 bytes without control characters"),
            Self::Tenant => ("tenant", "must be 1 to 64 of A-Z a-z 0-9 _ -"),
            Self::ContentType => (
                "content_type",
                "must be text of 1 to 128 bytes without control characters",
            ),
            Self::Data => ("data", "does not decode"),
        };
        WireError::Field { field, expected }
    }
}

/// A scalar in either form.
enum Scalar<'a> {
    Nil,
    Uint(u64),
    Text(&'a str),
    Other,
}

impl Fields {
    /// Takes one scalar field; nil is the same as leaving the field out.
    fn set(&mut self, field: Field, value: &Scalar<'_>) -> Result<(), WireError> {
        let misfit = || field.misfit();
        match (field, value) {
            (_, Scalar::Nil) => {}
            // At once: what stands behind another version's number may mean anything.
            (Field::Version, Scalar::Uint(n)) if *n != VERSION => return Err(WireError::Version(*n)),
            (Field::Version, Scalar::Uint(_)) => self.versioned = true,
            (Field::Time, Scalar::Uint(n)) => self.time_ms = Some(*n),
            (Field::Priority, Scalar::Uint(n)) => {
                self.priority = Some(Priority::new(*n).map_err(|_| misfit())?);
            }
            (Field::Id, Scalar::Text(t)) => self.id = Some(EventId::new(*t).map_err(|_| misfit())?),
            (Field::Key, Scalar::Text(t)) => self.key = Some(Key::new(*t).map_err(|_| misfit())?),
            (Field::Tenant, Scalar::Text(t)) => self.tenant = Some(Tenant::new(*t).map_err(|_| misfit())?),
            (Field::Kind, Scalar::Text(t)) => self.kind = Some(text(t, MAX_NAME).ok_or_else(misfit)?),
            (Field::Source, Scalar::Text(t)) => self.source = Some(text(t, MAX_SOURCE).ok_or_else(misfit)?),
            (Field::ContentType, Scalar::Text(t)) => {
                self.content_type = Some(text(t, MAX_NAME).ok_or_else(misfit)?);
            }
            _ => return Err(misfit()),
        }
        Ok(())
    }
}

fn text(value: &str, most: usize) -> Option<String> {
    ((1..=most).contains(&value.len()) && !value.chars().any(char::is_control)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
