//! The msgpack form: a walk over the bytes that checks them and cuts them into fields, and the writer.

use bytes::Bytes;
use rmp::Marker;

use super::{Field, Fields, MAX_DEPTH, MAX_EXTRA, OCTETS, Scalar, VERSION, WireError};
use crate::event::{Data, Event};

pub(super) fn read(payload: &Bytes) -> Result<Fields, WireError> {
    let mut walk = Walk {
        bytes: payload,
        at: 0,
    };
    let Head::Map(entries) = walk.head()? else {
        return Err(WireError::NotAMap { first: payload[0] });
    };
    let mut fields = Fields::default();
    let mut seen: Vec<&str> = Vec::with_capacity(16);
    for _ in 0..entries {
        let entry = walk.at;
        let name = walk.key()?;
        if seen.contains(&name) {
            return Err(WireError::Duplicate {
                field: name.chars().take(64).collect(),
            });
        }
        seen.push(name);
        let value = walk.at;
        match Field::named(name) {
            Some(Field::Data) => fields.data = Some(walk.data(payload)?),
            Some(field) => {
                let scalar = walk.scalar()?;
                fields.set(field, &scalar)?;
            }
            None => {
                walk.skip(value, 1)?;
                fields.extra.count += 1;
                fields.extra.pairs.extend_from_slice(&payload[entry..walk.at]);
                // Also bounds `seen`: an unknown field takes at least two bytes here.
                if fields.extra.pairs.len() > MAX_EXTRA || fields.extra.count > 1024 {
                    return Err(WireError::ExtraTooLarge);
                }
            }
        }
    }
    if walk.at == payload.len() {
        Ok(fields)
    } else {
        Err(WireError::Trailing { at: walk.at })
    }
}

/// Checks one value that is to stand in an event's map.
pub(super) fn check_value(bytes: &[u8]) -> Result<(), WireError> {
    Walk { bytes, at: 0 }.skip(0, 1)
}

/// The beginning of a value: what it is and how much follows.
enum Head {
    Nil,
    Uint(u64),
    /// Bytes that follow as text.
    Text(usize),
    /// Bytes that follow as binary.
    Binary(usize),
    /// Values that follow.
    Array(u64),
    /// Pairs of values that follow.
    Map(u64),
    /// Bytes of anything else.
    Other(usize),
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, n: usize, from: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(WireError::Truncated { at: from })?;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    /// A big-endian number of `n` bytes.
    fn number(&mut self, n: usize, from: usize) -> Result<u64, WireError> {
        Ok(self
            .take(n, from)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A signed number of `n` bytes; negative ones fit no field of the format.
    fn signed(&mut self, n: usize, from: usize) -> Result<Head, WireError> {
        let number = self.number(n, from)?;
        let negative = number >> (8 * n - 1) & 1 == 1;
        Ok(if negative {
            Head::Other(0)
        } else {
            Head::Uint(number)
        })
    }

    fn head(&mut self) -> Result<Head, WireError> {
        let from = self.at;
        let marker = Marker::from_u8(self.take(1, from)?[0]);
        let length = |walk: &mut Self, n: usize| walk.number(n, from).map(|n| n as usize);
        Ok(match marker {
            Marker::Reserved => return Err(WireError::Malformed { at: from }),
            Marker::Null => Head::Nil,
            Marker::True | Marker::False | Marker::FixNeg(_) => Head::Other(0),
            Marker::FixPos(n) => Head::Uint(n.into()),
            Marker::U8 => Head::Uint(self.number(1, from)?),
            Marker::U16 => Head::Uint(self.number(2, from)?),
            Marker::U32 => Head::Uint(self.number(4, from)?),
            Marker::U64 => Head::Uint(self.number(8, from)?),
            Marker::I8 => self.signed(1, from)?,
            Marker::I16 => self.signed(2, from)?,
            Marker::I32 => self.signed(4, from)?,
            Marker::I64 => self.signed(8, from)?,
            Marker::F32 => Head::Other(4),
            Marker::F64 => Head::Other(8),
            Marker::FixStr(n) => Head::Text(n.into()),
            Marker::Str8 => Head::Text(length(self, 1)?),
            Marker::Str16 => Head::Text(length(self, 2)?),
            Marker::Str32 => Head::Text(length(self, 4)?),
            Marker::Bin8 => Head::Binary(length(self, 1)?),
            Marker::Bin16 => Head::Binary(length(self, 2)?),
            Marker::Bin32 => Head::Binary(length(self, 4)?),
            Marker::FixArray(n) => Head::Array(n.into()),
            Marker::Array16 => Head::Array(self.number(2, from)?),
            Marker::Array32 => Head::Array(self.number(4, from)?),
            Marker::FixMap(n) => Head::Map(n.into()),
            Marker::Map16 => Head::Map(self.number(2, from)?),
            Marker::Map32 => Head::Map(self.number(4, from)?),
            Marker::FixExt1 => Head::Other(2),
            Marker::FixExt2 => Head::Other(3),
            Marker::FixExt4 => Head::Other(5),
            Marker::FixExt8 => Head::Other(9),
            Marker::FixExt16 => Head::Other(17),
            Marker::Ext8 => Head::Other(1 + length(self, 1)?),
            Marker::Ext16 => Head::Other(1 + length(self, 2)?),
            Marker::Ext32 => Head::Other(1 + length(self, 4)?),
        })
    }

    fn key(&mut self) -> Result<&'a str, WireError> {
        let from = self.at;
        match self.head()? {
            Head::Text(n) => {
                std::str::from_utf8(self.take(n, from)?).map_err(|_| WireError::KeyNotText { at: from })
            }
            _ => Err(WireError::KeyNotText { at: from }),
        }
    }

    fn scalar(&mut self) -> Result<Scalar<'a>, WireError> {
        let from = self.at;
        Ok(match self.head()? {
            Head::Nil => Scalar::Nil,
            Head::Uint(n) => Scalar::Uint(n),
            Head::Text(n) => std::str::from_utf8(self.take(n, from)?).map_or(Scalar::Other, Scalar::Text),
            _ => {
                self.skip(from, 1)?;
                Scalar::Other
            }
        })
    }

    fn data(&mut self, payload: &Bytes) -> Result<Data, WireError> {
        let from = self.at;
        Ok(match self.head()? {
            Head::Nil => Data::None,
            Head::Binary(n) => {
                self.take(n, from)?;
                Data::Blob {
                    content_type: OCTETS.into(),
                    bytes: payload.slice(self.at - n..self.at),
                }
            }
            _ => {
                self.skip(from, 1)?;
                Data::Inline(payload.slice(from..self.at))
            }
        })
    }

    /// Walks over one value that begins at `from`, `depth` levels down, without recursion.
    fn skip(&mut self, from: usize, depth: usize) -> Result<(), WireError> {
        self.at = from;
        // How many values each open container still holds; claims of billions cost nothing until bytes back them.
        let mut open = [0_u64; MAX_DEPTH];
        let mut level = 0;
        open[0] = 1;
        loop {
            while open[level] == 0 {
                if level == 0 {
                    return Ok(());
                }
                level -= 1;
            }
            open[level] -= 1;
            let at = self.at;
            let inside = match self.head()? {
                Head::Nil | Head::Uint(_) => continue,
                Head::Text(n) | Head::Binary(n) | Head::Other(n) => {
                    self.take(n, at)?;
                    continue;
                }
                Head::Array(n) => n,
                Head::Map(n) => n * 2,
            };
            level += 1;
            if level + depth > MAX_DEPTH {
                return Err(WireError::TooDeep { at });
            }
            open[level] = inside;
        }
    }
}

pub(super) fn write(event: &Event) -> Bytes {
    let data_len = match &event.data {
        Data::None => 0,
        Data::Inline(bytes) | Data::Blob { bytes, .. } => bytes.len(),
    };
    let mut out = Out(Vec::with_capacity(data_len + event.extra.pairs.len() + 256));
    let blob = matches!(event.data, Data::Blob { .. });
    let optional = [
        event.source.is_some(),
        event.time_ms.is_some(),
        event.key.is_some(),
        event.tenant.is_some(),
        blob,
        event.data != Data::None,
    ];
    let known = 4 + optional.iter().filter(|there| **there).count() as u32;
    out.map(known + event.extra.count);
    out.uint_field("v", VERSION);
    out.text_field("id", event.id.as_str());
    out.text_field("type", &event.kind);
    if let Some(source) = &event.source {
        out.text_field("source", source);
    }
    if let Some(time) = event.time_ms {
        out.uint_field("time", time);
    }
    out.uint_field("priority", event.priority.get().into());
    if let Some(key) = &event.key {
        out.text_field("key", key.as_str());
    }
    if let Some(tenant) = &event.tenant {
        out.text_field("tenant", tenant.as_str());
    }
    match &event.data {
        Data::None => {}
        Data::Inline(value) => {
            out.text("data");
            out.0.extend_from_slice(value);
        }
        Data::Blob { content_type, bytes } => {
            out.text_field("content_type", content_type);
            out.text("data");
            out.binary(bytes);
        }
    }
    out.0.extend_from_slice(&event.extra.pairs);
    out.0.into()
}

/// Writes msgpack into memory, where writing cannot fail.
struct Out(Vec<u8>);

impl Out {
    fn map(&mut self, entries: u32) {
        let _ = rmp::encode::write_map_len(&mut self.0, entries);
    }

    fn text(&mut self, text: &str) {
        let _ = rmp::encode::write_str(&mut self.0, text);
    }

    fn binary(&mut self, bytes: &[u8]) {
        let _ = rmp::encode::write_bin(&mut self.0, bytes);
    }

    fn text_field(&mut self, name: &str, value: &str) {
        self.text(name);
        self.text(value);
    }

    fn uint_field(&mut self, name: &str, value: u64) {
        self.text(name);
        let _ = rmp::encode::write_uint(&mut self.0, value);
    }
}
