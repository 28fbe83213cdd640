//! Deliveries of Standard Webhooks and Svix: the id in the header, `type` and `timestamp` of the body where it is JSON.

use std::sync::LazyLock;

use super::pointer::Pointer;
use super::{Delivery, Fields, Reading, header_id, rfc3339};
use crate::error::Refusal;
use crate::verify::standard;

static WANTED: LazyLock<[Pointer; 2]> = LazyLock::new(|| ["/type", "/timestamp"].map(Pointer::of));

#[allow(clippy::unnecessary_wraps, reason = "all kinds of sources have one shape")]
pub(super) fn read(delivery: &Delivery<'_>) -> Result<Reading, Refusal> {
    let [kind, time] = delivery.json(&WANTED).unwrap_or_default();
    Ok(Reading::Event(Fields {
        kind: Ok(kind),
        id: Ok(header_id(
            delivery.headers,
            &[standard::names(delivery.headers).id],
        )),
        tenant: None,
        key: None,
        time_ms: time.as_deref().and_then(rfc3339),
    }))
}
