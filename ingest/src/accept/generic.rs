//! Deliveries of a configured HMAC source: nothing of the body is read.

use http::{HeaderMap, HeaderName};
use shared::event::Event;

use super::{blob, content_type, digest_id, event_id, kind, text};
use crate::error::Refusal;
use crate::verify::Verified;
use crate::verify::hmac::Generic;

/// The type of an event whose source does not say what happened.
const KIND: &str = "webhook";

pub(super) fn accept(source: &str, scheme: &Generic, delivery: &Verified<'_>) -> Result<Event, Refusal> {
    let (headers, body) = (delivery.headers(), delivery.body());
    let id = match named(headers, scheme.id.as_ref())? {
        Some((header, id)) => event_id(source, id, header)?,
        None => event_id(source, &digest_id(body), "body")?,
    };
    let what = match named(headers, scheme.kind.as_ref())? {
        Some((header, value)) => kind(value.to_owned(), &format!("header {header}"))?,
        None => KIND.to_owned(),
    };
    let mut event = Event::new(id, what);
    event.data = blob(content_type(headers, "application/octet-stream")?, body);
    Ok(event)
}

/// The name and value of a configured header, where the delivery has it.
fn named<'h>(
    headers: &'h HeaderMap,
    name: Option<&'h HeaderName>,
) -> Result<Option<(&'h str, &'h str)>, Refusal> {
    let Some(name) = name.map(HeaderName::as_str) else {
        return Ok(None);
    };
    Ok(text(headers, name)?.map(|value| (name, value)))
}
