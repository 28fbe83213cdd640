//! Cuts a batch into its events, without copying and without looking into them.

use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Code, Refusal};

/// Most events of one batch.
pub const MOST: usize = 1000;

/// How a batch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON array of events.
    Json,
    /// One JSON event a line.
    Lines,
    /// A msgpack array of events.
    Msgpack,
}

/// The events of a batch, each still encoded. An event that is broken inside is found later, by itself; a batch whose
/// events cannot be told apart is refused as a whole.
pub fn split(form: Form, body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    match form {
        Form::Json => json(body),
        Form::Lines => lines(body),
        Form::Msgpack => msgpack(body),
    }
}

fn too_many() -> Refusal {
    Refusal::new(
        Code::BatchTooLarge,
        format!("a batch holds at most {MOST} events"),
    )
}

fn malformed(detail: String) -> Refusal {
    Refusal::new(Code::Malformed, detail)
}

fn json(body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    struct Array<'a> {
        body: &'a Bytes,
        too_many: &'a mut bool,
    }
    impl<'de> Visitor<'de> for Array<'_> {
        type Value = Vec<Bytes>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON array of events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut events = Vec::new();
            while let Some(raw) = seq.next_element::<&'de RawValue>()? {
                if events.len() == MOST {
                    *self.too_many = true;
                    return Err(A::Error::custom("too many"));
                }
                events.push(self.body.slice_ref(raw.get().as_bytes()));
            }
            Ok(events)
        }
    }
    let text = std::str::from_utf8(body)
        .map_err(|e| malformed(format!("the batch is not UTF-8 from byte {}", e.valid_up_to())))?;
    let mut excess = false;
    let mut parser = serde_json::Deserializer::from_str(text);
    let events = parser
        .deserialize_seq(Array {
            body,
            too_many: &mut excess,
        })
        .and_then(|events| {
            parser.end()?;
            Ok(events)
        });
    events.map_err(|e| {
        if excess {
            too_many()
        } else {
            malformed(format!("the batch is broken JSON: {e}"))
        }
    })
}

fn lines(body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    let lines = body
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let events: Vec<Bytes> = lines.take(MOST + 1).map(|line| body.slice_ref(line)).collect();
    if events.len() > MOST {
        Err(too_many())
    } else {
        Ok(events)
    }
}

fn msgpack(body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    let mut walk = Walk { bytes: body, at: 0 };
    let (true, count) = walk.values()? else {
        return Err(malformed("the batch is no msgpack array".into()));
    };
    if count > MOST as u64 {
        return Err(too_many());
    }
    let mut events = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = walk.at;
        let mut open: u64 = 1;
        while open > 0 {
            open = (open - 1).saturating_add(walk.values()?.1);
        }
        events.push(body.slice(start..walk.at));
    }
    if walk.at == body.len() {
        Ok(events)
    } else {
        Err(malformed(format!(
            "bytes after the end of the batch, from byte {}",
            walk.at
        )))
    }
}

/// A walk over msgpack that only finds where values end.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn skip(&mut self, n: u64, from: usize) -> Result<&[u8], Refusal> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| {
            malformed(format!(
                "the batch ends inside a value that begins at byte {from}"
            ))
        })?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn number(&mut self, n: u64, from: usize) -> Result<u64, Refusal> {
        Ok(self
            .skip(n, from)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Steps over one head and its bytes: whether it is an array, and how many values belong to it.
    fn values(&mut self) -> Result<(bool, u64), Refusal> {
        let from = self.at;
        let marker = Marker::from_u8(self.number(1, from)? as u8);
        let (bytes, values) = match marker {
            Marker::Reserved => return Err(malformed(format!("byte {from} is no msgpack"))),
            Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 | Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::FixExt4 => (5, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(n) => (n.into(), 0),
            Marker::Str8 | Marker::Bin8 => (self.number(1, from)?, 0),
            Marker::Str16 | Marker::Bin16 => (self.number(2, from)?, 0),
            Marker::Str32 | Marker::Bin32 => (self.number(4, from)?, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (self.number(1, from)? + 1, 0),
            Marker::Ext16 => (self.number(2, from)? + 1, 0),
            Marker::Ext32 => (self.number(4, from)? + 1, 0),
            Marker::FixArray(n) => (0, n.into()),
            Marker::Array16 => (0, self.number(2, from)?),
            Marker::Array32 => (0, self.number(4, from)?),
            Marker::FixMap(n) => (0, 2 * u64::from(n)),
            Marker::Map16 => (0, 2 * self.number(2, from)?),
            Marker::Map32 => (0, 2 * self.number(4, from)?),
        };
        self.skip(bytes, from)?;
        let array = matches!(marker, Marker::FixArray(_) | Marker::Array16 | Marker::Array32);
        Ok((array, values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_arrays_and_lines_are_cut_at_their_events() {
        let events = split(Form::Json, &Bytes::from_static(b" [ {\"a\":[1,{}]} , 5,\"x\" ] ")).unwrap();
        assert_eq!(events, [&b"{\"a\":[1,{}]}"[..], b"5", b"\"x\""]);
        let events = split(Form::Lines, &Bytes::from_static(b"{\"a\":1}\r\n\n  broken\n{}")).unwrap();
        assert_eq!(events, [&b"{\"a\":1}"[..], b"broken", b"{}"]);
        assert!(split(Form::Json, &Bytes::from_static(b"[]")).unwrap().is_empty());
    }

    #[test]
    fn msgpack_arrays_are_cut_at_their_events() {
        // [{"a": [1, nil]}, "xy", bin(1), 300]
        let body = Bytes::from_static(b"\x94\x81\xa1a\x92\x01\xc0\xa2xy\xc4\x01\xff\xcd\x01\x2c");
        let events = split(Form::Msgpack, &body).unwrap();
        assert_eq!(
            events,
            [
                &b"\x81\xa1a\x92\x01\xc0"[..],
                b"\xa2xy",
                b"\xc4\x01\xff",
                b"\xcd\x01\x2c"
            ]
        );
    }

    #[test]
    fn what_cannot_be_cut_is_refused_with_its_place() {
        for (form, body, detail) in [
            (Form::Json, &b"[{\"a\":1},\n oops]"[..], "line 2 column"),
            (Form::Json, b"{}", "a JSON array of events"),
            (Form::Json, b"[{}] x", "trailing characters"),
            (Form::Json, b"[\"\xff\"]", "not UTF-8 from byte 2"),
            (Form::Msgpack, b"\x81\x01\x01", "no msgpack array"),
            (
                Form::Msgpack,
                b"\x92\x01",
                "ends inside a value that begins at byte 2",
            ),
            (Form::Msgpack, b"\x91\xc1", "byte 1 is no msgpack"),
            (Form::Msgpack, b"\x91\x01\x01", "from byte 2"),
            (Form::Msgpack, b"\x91\xdf\xff\xff\xff\xff", "ends inside"),
            (Form::Msgpack, b"", "ends inside"),
        ] {
            let refusal = split(form, &Bytes::from_static(body)).unwrap_err();
            assert_eq!(refusal.code, Code::Malformed);
            assert!(refusal.detail.contains(detail), "{}", refusal.detail);
        }
    }

    #[test]
    fn a_thousand_and_one_are_too_many() {
        let json = |n: usize| Bytes::from(format!("[{}]", vec!["{}"; n].join(",")));
        let lines = |n: usize| Bytes::from("{}\n".repeat(n));
        let msgpack = |n: usize| Bytes::from([&[0xdc, (n >> 8) as u8, n as u8][..], &vec![0x80; n]].concat());
        for (form, body) in [
            (Form::Json, &json as &dyn Fn(usize) -> Bytes),
            (Form::Lines, &lines),
            (Form::Msgpack, &msgpack),
        ] {
            assert_eq!(split(form, &body(MOST)).unwrap().len(), MOST);
            assert_eq!(
                split(form, &body(MOST + 1)).unwrap_err().code,
                Code::BatchTooLarge
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(body);
            for form in [Form::Json, Form::Lines, Form::Msgpack] {
                let _ = split(form, &body);
            }
        }
    }
}
