//! The mark by which a thing that we made is found again: a hash of the event's id, because an id may hold anything.

use sha2::{Digest, Sha256};
use shared::event::Event;

/// 32 hexadecimal digits.
pub(super) fn marker(event: &Event) -> String {
    let hash = Sha256::digest(event.id.as_str());
    hex::encode(&hash[..16])
}
