//! Where the next page begins, in a text that nobody need understand and that is checked when it comes back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::Filter;

/// The first byte of a cursor: another one is of another version.
const VERSION: u8 = 1;
/// Bytes of the sum that ties a cursor to its question.
const SUM: usize = 8;
/// Longest text of a cursor: an id of 256 bytes and a name of 32, in base64.
const LONGEST: usize = 512;

/// A cursor that does not go with the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of this question: take `next` of the page before, with the same filters")]
pub struct BadCursor;

/// A place in the order of all entries: by time, then event, then service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    /// The event.
    pub event_id: String,
    /// Whose event.
    pub service: String,
}

impl Place {
    /// The text that says where a page of this filter goes on.
    pub fn text(&self, filter: &Filter) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.sum(filter));
        bytes.extend_from_slice(&self.at_us.to_be_bytes());
        // A name of at most 32 bytes.
        bytes.push(self.service.len() as u8);
        bytes.extend_from_slice(self.service.as_bytes());
        bytes.extend_from_slice(self.event_id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is not one that was given out for this filter.
    pub fn read(text: &str, filter: &Filter) -> Result<Self, BadCursor> {
        let place = (text.len() <= LONGEST).then(|| Self::parse(text)).flatten();
        let (place, sum) = place.ok_or(BadCursor)?;
        if place.sum(filter) == sum {
            Ok(place)
        } else {
            Err(BadCursor)
        }
    }

    fn parse(text: &str) -> Option<(Self, [u8; SUM])> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        let (sum, rest) = rest.split_first_chunk::<SUM>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first()?;
        let (service, event_id) = rest.split_at_checked(usize::from(*length))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let place = Self {
            at_us: i64::from_be_bytes(*at),
            service: text(service)?,
            event_id: text(event_id)?,
        };
        Some((place, *sum))
    }

    fn sum(&self, filter: &Filter) -> [u8; SUM] {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        hash.update(filter.canonical());
        hash.update([0]);
        hash.update(self.at_us.to_be_bytes());
        hash.update(&self.service);
        hash.update([0]);
        hash.update(&self.event_id);
        let whole: [u8; 32] = hash.finalize().into();
        let mut sum = [0; SUM];
        sum.copy_from_slice(&whole[..SUM]);
        sum
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::store::history::State;

    fn place() -> Place {
        Place {
            at_us: 1_795_248_000_123_456,
            event_id: "github:72d3162e".into(),
            service: "github".into(),
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_and_only_for_its_question() {
        let filter = Filter::default();
        let text = place().text(&filter);
        assert_eq!(Place::read(&text, &filter), Ok(place()));
        let other = Filter {
            state: Some(State::Dead),
            ..Filter::default()
        };
        assert_eq!(Place::read(&text, &other), Err(BadCursor));
    }

    #[test]
    fn whatever_was_changed_is_refused() {
        let filter = Filter::default();
        let text = place().text(&filter);
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(Place::read(&other, &filter), Err(BadCursor), "{other}");
            assert_eq!(Place::read(&text[..at], &filter), Err(BadCursor), "{at}");
        }
        for bad in ["", "=", "'; DROP TABLE outcomes", &"A".repeat(10_000), "ä"] {
            assert_eq!(Place::read(bad, &filter), Err(BadCursor), "{bad}");
        }
    }

    #[test]
    fn the_longest_place_fits() {
        let filter = Filter::default();
        let place = Place {
            at_us: i64::MAX,
            event_id: "x".repeat(256),
            service: "y".repeat(32),
        };
        assert_eq!(Place::read(&place.text(&filter), &filter), Ok(place));
    }
}
