//! The golden vectors of `shared/wire-v1/`, and properties over arbitrary events and bytes.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

mod properties;
mod vectors;

use super::*;

/// The id that a test's server would give to an event that brings none.
fn fallback() -> EventId {
    EventId::new("given-by-the-server").unwrap()
}

fn read(payload: &[u8]) -> Result<Event, WireError> {
    decode(&Bytes::copy_from_slice(payload), fallback)
}

/// Unknown fields as one JSON object.
fn extra_json(extra: &Extra) -> serde_json::Value {
    let mut map = Vec::new();
    rmp::encode::write_map_len(&mut map, extra.count).unwrap();
    map.extend_from_slice(&extra.pairs);
    rmp_serde::from_slice(&map).unwrap()
}
