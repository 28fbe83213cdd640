//! The wire decoder: msgpack, JSON and zstd.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::event::EventId;
use shared::wire::{MAX_BYTES, WireError, ZSTD, decode, decompress, plain_size};

use crate::{bits, events};

const MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// Bytes are an event or a short error. An event keeps its bounds, is the same when it is written and read again, and
/// other parsers agree that its bytes are msgpack or JSON.
pub fn check(bytes: &[u8]) {
    let sent = Bytes::copy_from_slice(bytes);
    let payload = if bytes.starts_with(MAGIC) {
        let most = plain_size(&sent, Some(ZSTD));
        match decompress(sent, Some(ZSTD)) {
            Ok(plain) => {
                assert!(
                    plain.len() <= most,
                    "{} bytes where {most} are promised",
                    plain.len()
                );
                plain
            }
            Err(error) => return refused(&error),
        }
    } else {
        sent
    };
    assert!(payload.len() <= MAX_BYTES);
    let given = "given:1";
    let read = decode(&payload, || EventId::from_position("given", 1));
    let event = match read {
        Ok(event) => event,
        Err(error) => return refused(&error),
    };
    assert!(is_one_value(&payload), "other parsers refuse what is taken here");
    events::check(&event);
    if event.id.as_str() != given {
        let again = decode(&payload, || unreachable!("the event brings its id"));
        assert_eq!(again, Ok(event));
    }
}

fn refused(error: &WireError) {
    bits::told(&error.to_string(), 600);
}

/// Whether other parsers find exactly one value.
fn is_one_value(payload: &[u8]) -> bool {
    if payload.first().is_some_and(|first| *first >= 0x80) {
        let mut rest = payload;
        let mut other = rmp_serde::Deserializer::new(&mut rest);
        IgnoredAny::deserialize(&mut other).is_ok() && rest.is_empty()
    } else {
        serde_json::from_slice::<IgnoredAny>(payload).is_ok()
    }
}
