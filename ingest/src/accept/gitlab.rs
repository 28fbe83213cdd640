//! GitLab's deliveries: what the hook is about and its `action` are the type, the project (or group) is the key, and the
//! tenant the top-level group that it lies in.

use std::sync::LazyLock;

use super::pointer::Pointer;
use super::{Delivery, Fields, Reading, first_header, header_id, joined};
use crate::error::Refusal;

/// The same on every try of a delivery. The first is the second where GitLab signs, and is signed too; versions before
/// 17.4 send only the last.
const DELIVERY: [&str; 3] = ["webhook-id", "idempotency-key", "x-gitlab-event-uuid"];
const EVENT: &str = "x-gitlab-event";

static WANTED: LazyLock<[Pointer; 9]> = LazyLock::new(|| {
    [
        "/object_kind",
        "/event_name",
        "/object_attributes/action",
        "/action",
        "/project/path_with_namespace",
        "/path_with_namespace",
        "/group/full_path",
        "/group_path",
        "/full_path",
    ]
    .map(Pointer::of)
});

pub(super) fn read(delivery: &Delivery<'_>) -> Result<Reading, Refusal> {
    let [kind, name, inner, outer, project, path, group, group_path, full] = delivery.json(&WANTED)?;
    let event = || first_header(delivery.headers, &[EVENT]).map(str::to_owned);
    let kind = kind.or(name).map(|kind| joined(kind, '.', inner.or(outer)));
    let key = project.or(path).or(group).or(group_path).or(full);
    let top = |path: &String| path.split('/').find(|name| !name.is_empty()).map(str::to_owned);
    Ok(Reading::Event(Fields {
        kind: Ok(kind.or_else(event)),
        id: Ok(header_id(delivery.headers, &DELIVERY)),
        tenant: key.as_ref().and_then(top),
        key,
        time_ms: None,
    }))
}
