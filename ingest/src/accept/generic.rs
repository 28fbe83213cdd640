//! Deliveries of a configured HMAC source: nothing of the body is read.

use http::HeaderName;

use super::{Delivery, Fields, Reading, checked_id, kind, text};
use crate::error::Refusal;
use crate::verify::hmac::Generic;

#[allow(clippy::unnecessary_wraps, reason = "all kinds of sources have one shape")]
pub(super) fn read(scheme: &Generic, delivery: &Delivery<'_>) -> Result<Reading, Refusal> {
    type Check = fn(&str, &str) -> Result<String, Refusal>;
    let named = |name: Option<&HeaderName>, check: Check| {
        let Some(name) = name.map(HeaderName::as_str) else {
            return Ok(None);
        };
        text(delivery.headers, name)?
            .map(|value| check(value, name))
            .transpose()
    };
    let what: Check = |value, name| kind(value.to_owned(), &format!("header {name}"));
    Ok(Reading::Event(Fields {
        kind: named(scheme.kind.as_ref(), what),
        id: named(scheme.id.as_ref(), checked_id),
        tenant: None,
        key: None,
        time_ms: None,
    }))
}
