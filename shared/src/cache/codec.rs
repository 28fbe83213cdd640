//! An entry in bytes, as it lies in Redis and Postgres.
//!
//! | bytes | |
//! |---|---|
//! | 1 | [`VERSION`] |
//! | 8 | when it was asked for, milliseconds since the Unix epoch, most significant byte first: of two entries the later one stays |
//! | 1 | 1 when the rest is zstd, else 0 |
//! | 4 | bytes of the rest before it was compressed, most significant byte first |
//! | the rest | [`Meta`] and, if there is one, the value, both msgpack |

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};

use super::early::Times;
use super::entry::{Entry, Stamp, Value};
use super::key::Key;

/// Changed when the form changes: entries of another version are not read.
const VERSION: u8 = 1;
/// Bytes before what may be compressed.
const HEADER: usize = 14;
/// What is smaller is not compressed.
const COMPRESS_FROM: usize = 1024;
/// Deepest value.
const MAX_DEPTH: usize = 64;
/// Most bytes of what is not the value: names, tags and `etag` at their longest, with room.
const MAX_META: usize = 8 * 1024;

thread_local! {
    // Making one takes longer than using it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(1).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

/// All but the value.
#[derive(Serialize, Deserialize)]
struct Meta<'a> {
    /// The version of the space's values.
    version: u8,
    #[serde(borrow)]
    key: &'a str,
    #[serde(borrow)]
    tags: Vec<&'a str>,
    #[serde(borrow)]
    etag: Option<&'a str>,
    seen: u64,
    epoch: u64,
    fresh: u64,
    stale: u64,
    kept: u64,
    took: u64,
    there: bool,
}

/// Why a value has no bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// More bytes than are kept.
    #[error("it is too large")]
    Large,
    /// The value's type cannot be written.
    #[error("it cannot be written: {0}")]
    Odd(rmp_serde::encode::Error),
}

/// A value's bytes.
pub(super) fn write_value<V: Serialize>(value: &V, most: usize) -> Result<Vec<u8>, Unwritten> {
    let mut bounded = Bounded {
        bytes: Vec::new(),
        most,
        over: false,
    };
    match rmp_serde::encode::write_named(&mut bounded, value) {
        Ok(()) => Ok(bounded.bytes),
        Err(_) if bounded.over => Err(Unwritten::Large),
        Err(error) => Err(Unwritten::Odd(error)),
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            self.over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An entry's bytes; `value` are those of its value.
pub(super) fn write(entry: &Entry, value: &[u8], version: u8) -> Result<Vec<u8>, Unwritten> {
    let meta = Meta {
        version,
        key: entry.key.as_str(),
        tags: entry.tags.iter().map(|tag| &**tag).collect(),
        etag: entry.etag.as_deref(),
        seen: entry.stamp.seen,
        epoch: entry.stamp.epoch,
        fresh: entry.times.fresh,
        stale: entry.times.stale,
        kept: entry.times.kept,
        took: entry.times.took,
        there: entry.value.is_some(),
    };
    let mut bytes = vec![0; HEADER];
    rmp_serde::encode::write(&mut bytes, &meta).map_err(Unwritten::Odd)?;
    bytes.extend_from_slice(value);
    let plain = u32::try_from(bytes.len() - HEADER).map_err(|_| Unwritten::Large)?;
    let small = (bytes.len() > COMPRESS_FROM)
        .then(|| {
            COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(&bytes[HEADER..]).ok())
        })
        .flatten()
        // Less than a quarter saved does not pay for the time of every reader.
        .filter(|small| small.len() < bytes.len() - bytes.len() / 4);
    if let Some(small) = &small {
        bytes.truncate(HEADER);
        bytes.extend_from_slice(small);
    }
    bytes[0] = VERSION;
    bytes[1..9].copy_from_slice(&entry.stamp.asked_at.to_be_bytes());
    bytes[9] = u8::from(small.is_some());
    bytes[10..HEADER].copy_from_slice(&plain.to_be_bytes());
    Ok(bytes)
}

/// Reads an entry. `None` for whatever is none of this key, this version, this type, or has a value of more than `most`
/// bytes.
pub(super) fn read<V: DeserializeOwned + Send + Sync + 'static>(
    bytes: &[u8],
    key: &Key,
    version: u8,
    most: usize,
    weigh: impl FnOnce(&V, usize) -> usize,
) -> Option<Entry> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    if header[0] != VERSION {
        return None;
    }
    let asked_at = u64::from_be_bytes(header[1..9].try_into().ok()?);
    let plain = u32::from_be_bytes(header[10..HEADER].try_into().ok()?) as usize;
    if plain > most.saturating_add(MAX_META) {
        return None;
    }
    let decompressed;
    let rest = match header[9] {
        0 => rest,
        1 => {
            decompressed = DECOMPRESSOR.with_borrow_mut(|decompressor| {
                let decompressor = decompressor.as_mut()?;
                decompressor.decompress(rest, plain).ok()
            })?;
            &decompressed[..]
        }
        _ => return None,
    };
    if rest.len() != plain {
        return None;
    }
    let mut decoder = rmp_serde::Deserializer::from_read_ref(rest);
    decoder.set_max_depth(MAX_DEPTH);
    let meta = Meta::deserialize(&mut decoder).ok()?;
    if meta.version != version || meta.key != key.as_str() {
        return None;
    }
    let (value, size) = if meta.there {
        let value = V::deserialize(&mut decoder).ok()?;
        // What is not the value is little, and what somebody else's bytes say of themselves is not believed.
        let size = weigh(&value, plain);
        (Some(Arc::new(value) as Value), size)
    } else {
        (None, 0)
    };
    let end = IgnoredAny::deserialize(&mut decoder);
    if !matches!(end, Err(rmp_serde::decode::Error::InvalidMarkerRead(_))) {
        return None;
    }
    let tags: Box<[Box<str>]> = meta.tags.into_iter().map(Box::from).collect();
    Some(Entry {
        weight: Entry::weight(key, &tags, meta.etag, size),
        key: key.clone(),
        stamp: Stamp {
            asked_at,
            seen: meta.seen,
            epoch: meta.epoch,
        },
        times: Times {
            fresh: meta.fresh,
            stale: meta.stale,
            kept: meta.kept,
            took: meta.took,
        },
        tags,
        etag: meta.etag.map(Box::from),
        value,
        valid_at: AtomicU64::new(0),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::new("s", None, "x").unwrap()
    }

    fn entry(there: bool) -> Entry {
        Entry {
            key: key(),
            stamp: Stamp {
                asked_at: 1_700_000_000_123,
                seen: 7,
                epoch: 9,
            },
            times: Times {
                fresh: 1,
                stale: 2,
                kept: 3,
                took: 4,
            },
            tags: Box::new(["a".into(), "b".into()]),
            etag: Some("W/\"1\"".into()),
            value: there.then(|| Arc::new(String::new()) as Value),
            weight: 0,
            valid_at: AtomicU64::new(0),
        }
    }

    fn bytes_of(text: &str) -> Vec<u8> {
        let value = write_value(&text, 1 << 20).unwrap();
        write(&entry(true), &value, 1).unwrap()
    }

    fn text(bytes: &[u8], key: &Key, version: u8, most: usize) -> Option<String> {
        let entry = read::<String>(bytes, key, version, most, |_, size| size)?;
        entry.value?.downcast_ref::<String>().cloned()
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        for value in ["", "short", &"long ".repeat(10_000)] {
            let bytes = bytes_of(value);
            assert!(bytes.len() < 1_200, "{} bytes for {}", bytes.len(), value.len());
            let read = read::<String>(&bytes, &key(), 1, 1 << 20, |_, size| size).unwrap();
            let wrote = entry(true);
            assert_eq!((read.stamp, read.times), (wrote.stamp, wrote.times));
            assert_eq!((&read.tags, &read.etag), (&wrote.tags, &wrote.etag));
            assert!(read.weight as usize >= value.len());
            assert_eq!(text(&bytes, &key(), 1, 1 << 20).unwrap(), value);
        }
        let nothing = write(&entry(false), &[], 1).unwrap();
        assert!(
            read::<String>(&nothing, &key(), 1, 100, |_, size| size)
                .unwrap()
                .value
                .is_none()
        );
    }

    #[test]
    fn what_is_not_what_was_asked_for_is_not_read() {
        let bytes = bytes_of("value");
        assert!(text(&bytes, &key(), 1, 100).is_some());
        assert!(text(&bytes, &Key::new("s", None, "y").unwrap(), 1, 100).is_none());
        assert!(text(&bytes, &key(), 2, 100).is_none());
        assert!(read::<u64>(&bytes, &key(), 1, 100, |_, size| size).is_none());
        let mut other = bytes.clone();
        other[0] = VERSION + 1;
        assert!(text(&other, &key(), 1, 100).is_none());
        let mut more = bytes.clone();
        more.push(0);
        assert!(text(&more, &key(), 1, 100).is_none());
        assert!((0..bytes.len()).all(|end| text(&bytes[..end], &key(), 1, 100).is_none()));
    }

    #[test]
    fn what_is_huge_is_neither_written_nor_read() {
        assert!(matches!(
            write_value(&"x".repeat(101), 100),
            Err(Unwritten::Large)
        ));
        let huge = bytes_of(&"x".repeat(100_000));
        assert!(text(&huge, &key(), 1, 10_000).is_none());
        // A header that promises more than there may be reserves nothing.
        let mut lie = huge.clone();
        lie[10..14].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(text(&lie, &key(), 1, 200_000).is_none());
        // And one that promises less gets no more.
        lie[10..14].copy_from_slice(&100_u32.to_be_bytes());
        assert!(text(&lie, &key(), 1, 200_000).is_none());
    }

    proptest! {
        /// Bytes of anybody are read or not, and nothing else happens.
        #[test]
        fn garbage_is_not_read(garbage in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..60, flip in 1_u8..) {
            let _ = text(&garbage, &key(), 1, 1000);
            let mut bytes = bytes_of("value");
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = text(&bytes, &key(), 1, 1000);
            let mut large = bytes_of(&"large ".repeat(500));
            let at = at % large.len();
            large[at] ^= flip;
            let _ = text(&large, &key(), 1, 10_000);
        }
    }
}
