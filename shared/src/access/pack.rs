//! Accesses in few bytes: a column each for times, keys, actors, repositories, levels and fetches, compressed where that pays.
//!
//! Form 1 is the columns as they are, form 2 the same compressed with zstd. The columns, in LEB128 numbers where nothing else
//! is said: how many accesses, keys, actors and repositories; the first time; the keys, actors and repositories, 8 bytes
//! each; and then for each access, in order of time: what has passed since the one before; which key; which actor and which
//! repository, 0 for none; a byte for the level; the fetch in ms and 1, 0 for none.

use std::collections::HashMap;

use super::{Access, Found};

/// Most accesses of one row.
pub const MOST: usize = 8_192;
/// The columns as they are, and compressed.
const PLAIN: u8 = 1;
const ZSTD: u8 = 2;
/// More costs much more time for little.
const LEVEL: i32 = 3;
/// Shorter columns are mostly keys, which no compression makes shorter.
const COMPRESS_ABOVE: usize = 256;
/// More than the columns of [`MOST`] accesses take: three ids of 8 bytes and six numbers.
const MOST_BYTES: usize = 1 << 20;

/// Bytes that are no packed accesses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no packed accesses: {0}")]
pub struct BadPack(&'static str);

/// Ids by the order in which they come.
#[derive(Default)]
struct Ids {
    order: Vec<u64>,
    places: HashMap<u64, u64>,
}

impl Ids {
    fn place(&mut self, id: u64) -> u64 {
        let next = self.order.len() as u64;
        *self.places.entry(id).or_insert_with(|| {
            self.order.push(id);
            next
        })
    }

    /// 0 for none.
    fn place_or_none(&mut self, id: Option<u64>) -> u64 {
        id.map_or(0, |id| self.place(id) + 1)
    }
}

/// The first [`MOST`] of them, in order of time; and how many keys they have.
pub fn pack(accesses: &[Access]) -> (Vec<u8>, usize) {
    let mut sorted: Vec<&Access> = accesses.iter().take(MOST).collect();
    sorted.sort_by_key(|access| access.at_ms);
    let [mut keys, mut actors, mut repositories] = [Ids::default(), Ids::default(), Ids::default()];
    let mut columns: [Vec<u8>; 6] = Default::default();
    let first = sorted.first().map_or(0, |access| access.at_ms);
    let mut before = first;
    for access in &sorted {
        let [times, of_keys, of_actors, of_repositories, levels, fetches] = &mut columns;
        put(times, access.at_ms - before);
        before = access.at_ms;
        put(of_keys, keys.place(access.key));
        put(of_actors, actors.place_or_none(access.actor));
        put(of_repositories, repositories.place_or_none(access.repository));
        levels.push(access.found as u8);
        put(fetches, access.fetch_ms.map_or(0, |ms| u64::from(ms) + 1));
    }
    let ids = [&keys.order, &actors.order, &repositories.order];
    let mut bytes = vec![PLAIN];
    put(&mut bytes, sorted.len() as u64);
    for ids in ids {
        put(&mut bytes, ids.len() as u64);
    }
    put(&mut bytes, first);
    for id in ids.into_iter().flatten() {
        bytes.extend(id.to_le_bytes());
    }
    bytes.extend(columns.into_iter().flatten());
    if bytes.len() > COMPRESS_ABOVE
        && let Ok(mut small) = zstd::bulk::compress(&bytes[1..], LEVEL)
        && small.len() < bytes.len() * 9 / 10
    {
        small.insert(0, ZSTD);
        bytes = small;
    }
    (bytes, keys.order.len())
}

/// What was packed, in order of time.
///
/// # Errors
/// The bytes are not what [`pack`] makes.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Access>, BadPack> {
    let (form, rest) = bytes.split_first().ok_or(BadPack("nothing"))?;
    let plain;
    let mut rest = match *form {
        PLAIN => rest,
        ZSTD => {
            plain = zstd::bulk::decompress(rest, MOST_BYTES).map_err(|_| BadPack("broken zstd"))?;
            &plain[..]
        }
        _ => return Err(BadPack("an unknown form")),
    };
    let many = |n: u64| {
        usize::try_from(n)
            .ok()
            .filter(|n| *n <= MOST)
            .ok_or(BadPack("too many"))
    };
    let count = many(take(&mut rest)?)?;
    let mut sizes = [0; 3];
    for size in &mut sizes {
        *size = many(take(&mut rest)?)?;
    }
    let mut at_ms = take(&mut rest)?;
    let [keys, actors, repositories] = {
        let mut ids = [Vec::new(), Vec::new(), Vec::new()];
        for (ids, size) in ids.iter_mut().zip(sizes) {
            *ids = take_ids(&mut rest, size)?;
        }
        ids
    };
    let mut column = || {
        (0..count)
            .map(|_| take(&mut rest))
            .collect::<Result<Vec<u64>, _>>()
    };
    let (times, of_keys, of_actors, of_repositories) = (column()?, column()?, column()?, column()?);
    let (levels, after) = rest.split_at_checked(count).ok_or(BadPack("cut short"))?;
    rest = after;
    let id = |ids: &[u64], place: u64| {
        let place = usize::try_from(place).ok();
        place
            .and_then(|place| ids.get(place).copied())
            .ok_or(BadPack("an id that is not there"))
    };
    let id_or_none = |ids: &[u64], place: u64| match place.checked_sub(1) {
        None => Ok(None),
        Some(place) => id(ids, place).map(Some),
    };
    let mut accesses = Vec::with_capacity(count);
    for n in 0..count {
        at_ms = at_ms
            .checked_add(times[n])
            .ok_or(BadPack("a time that cannot be"))?;
        let fetch_ms = take(&mut rest)?.checked_sub(1).map(u32::try_from).transpose();
        accesses.push(Access {
            at_ms,
            key: id(&keys, of_keys[n])?,
            actor: id_or_none(&actors, of_actors[n])?,
            repository: id_or_none(&repositories, of_repositories[n])?,
            found: *Found::ALL
                .get(usize::from(levels[n]))
                .ok_or(BadPack("an unknown level"))?,
            fetch_ms: fetch_ms.map_err(|_| BadPack("a fetch that cannot be"))?,
        });
    }
    if rest.is_empty() {
        Ok(accesses)
    } else {
        Err(BadPack("bytes after the end"))
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, BadPack> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(BadPack("cut short"))?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            break;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BadPack("a number that is too large"))
}

fn take_ids(bytes: &mut &[u8], count: usize) -> Result<Vec<u64>, BadPack> {
    let (ids, rest) = bytes.split_at_checked(count * 8).ok_or(BadPack("cut short"))?;
    *bytes = rest;
    let (ids, _) = ids.as_chunks::<8>();
    Ok(ids.iter().map(|id| u64::from_le_bytes(*id)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = u64> {
        prop_oneof![0..5_u64, any::<u64>()]
    }

    fn accesses() -> impl Strategy<Value = Vec<Access>> {
        let times = prop_oneof![1_790_000_000_000..1_790_000_005_000_u64, any::<u64>()];
        let fetch = prop_oneof![0..2_000_u32, any::<u32>()];
        let access = (
            times,
            ids(),
            prop::option::of(ids()),
            prop::option::of(ids()),
            0..Found::ALL.len(),
            prop::option::of(fetch),
        );
        let access = access.prop_map(|(at_ms, key, actor, repository, found, fetch_ms)| Access {
            at_ms,
            key,
            actor,
            repository,
            found: Found::ALL[found],
            fetch_ms,
        });
        prop::collection::vec(access, 0..300)
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back_in_order_of_time(mut accesses in accesses()) {
            let (bytes, keys) = pack(&accesses);
            accesses.sort_by_key(|access| access.at_ms);
            prop_assert_eq!(unpack(&bytes), Ok(accesses.clone()));
            let mut distinct: Vec<u64> = accesses.iter().map(|access| access.key).collect();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(keys, distinct.len());
        }

        #[test]
        fn damaged_bytes_are_told_and_no_more_than_may_be_comes_of_them(
            accesses in accesses(), cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8,
        ) {
            let (mut bytes, _) = pack(&accesses);
            prop_assert!(unpack(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert!(unpack(&bytes).is_err());
            bytes.pop();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = unpack(&bytes);
        }

        #[test]
        fn rubbish_is_told(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for form in [PLAIN, ZSTD] {
                let _ = unpack(&[&[form], &bytes[..]].concat());
            }
        }
    }

    #[test]
    fn what_would_take_much_memory_is_refused() {
        let huge = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        assert!(huge.len() < 10_000);
        assert_eq!(
            unpack(&[&[ZSTD], &huge[..]].concat()),
            Err(BadPack("broken zstd"))
        );
        // More accesses than a row has; as many, and nothing that says which.
        for count in [MOST as u64 + 1, u64::MAX, MOST as u64] {
            let mut bytes = vec![PLAIN];
            put(&mut bytes, count);
            bytes.extend([0; 8]);
            assert!(unpack(&bytes).is_err());
        }
        assert_eq!(unpack(&[]), Err(BadPack("nothing")));
        assert_eq!(unpack(&[3, 0]), Err(BadPack("an unknown form")));
    }
}
