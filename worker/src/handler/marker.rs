//! The mark by which a thing that we made is found again: made of the event's id, and with the credential, so that nobody
//! else can make it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::event::Event;

/// 32 hexadecimal digits.
pub(super) fn marker(event: &Event, token: Option<&str>) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.unwrap_or_default().as_bytes()) else {
        return String::new();
    };
    mac.update(event.id.as_str().as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}
