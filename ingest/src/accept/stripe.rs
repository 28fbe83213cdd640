//! Stripe's deliveries: the event's own id and type; the object that it is about (or the account) is the key, the
//! connected account the tenant.

use std::sync::LazyLock;

use super::pointer::Pointer;
use super::{Delivery, Fields, Reading, rfc3339, usable_id};
use crate::error::Refusal;

static WANTED: LazyLock<[Pointer; 7]> = LazyLock::new(|| {
    [
        "/type",
        "/id",
        "/created",
        "/account",
        "/context",
        "/data/object/id",
        "/related_object/id",
    ]
    .map(Pointer::of)
});

pub(super) fn read(delivery: &Delivery<'_>) -> Result<Reading, Refusal> {
    let [kind, id, created, account, context, object, related] = delivery.json(&WANTED)?;
    let account = account.or(context);
    // Seconds in events of version 1, a date in those of version 2.
    let time = |text: &str| match text.parse::<u64>() {
        Ok(seconds) => seconds.checked_mul(1000),
        Err(_) => rfc3339(text),
    };
    Ok(Reading::Event(Fields {
        kind: Ok(kind),
        id: Ok(id.filter(|id| usable_id(id))),
        key: object.or(related).or_else(|| account.clone()),
        tenant: account,
        time_ms: created.as_deref().and_then(time),
    }))
}
