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

#[test]
fn the_size_of_what_is_compressed_is_known_before_or_taken_for_the_largest() {
    let plain = vec![b' '; 300_000];
    let (payload, compressed) = compress(plain.clone().into());
    assert!(compressed);
    assert_eq!(plain_size(&payload, Some(ZSTD)), plain.len());
    assert_eq!(plain_size(&payload, None), payload.len());
    assert_eq!(
        decompress(payload.clone(), Some(ZSTD)).unwrap().len(),
        plain.len()
    );
    // Two frames, of which only the first says how long it is; no frame; one that does not say.
    let twice = [&payload[..], &payload[..]].concat();
    assert_eq!(plain_size(&twice, Some(ZSTD)), MAX_BYTES);
    assert_eq!(
        decompress(twice.into(), Some(ZSTD)).unwrap().len(),
        2 * plain.len()
    );
    assert_eq!(plain_size(b"rubbish", Some(ZSTD)), MAX_BYTES);
    let silent = zstd::stream::encode_all(&plain[..], 1).unwrap();
    assert_eq!(plain_size(&silent, Some(ZSTD)), MAX_BYTES);

    // A frame that says 10 bytes and holds 300,000: the size stands behind magic number and descriptor, in 4 bytes.
    let mut lie = payload.to_vec();
    assert_eq!(lie[5..9], 300_000_u32.to_le_bytes());
    lie[5..9].copy_from_slice(&10_u32.to_le_bytes());
    assert_eq!(plain_size(&lie, Some(ZSTD)), 10);
    assert!(matches!(
        decompress(lie.into(), Some(ZSTD)),
        Err(WireError::Compression(_))
    ));
}
