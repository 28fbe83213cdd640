//! GitHub's deliveries: the event's name and `action` are the type, the repository is the key, and the tenant the
//! installation of the App that they come from (hooks of a repository or an organization have none).

use std::sync::LazyLock;

use super::pointer::Pointer;
use super::{Delivery, Fields, Reading, checked_id, joined, kind, required};
use crate::error::Refusal;

const DELIVERY: &str = "x-github-delivery";
const EVENT: &str = "x-github-event";

static WANTED: LazyLock<[Pointer; 3]> =
    LazyLock::new(|| ["/action", "/repository/full_name", "/installation/id"].map(Pointer::of));

pub(super) fn read(delivery: &Delivery<'_>) -> Result<Reading, Refusal> {
    let [action, repository, installation] = delivery.json(&WANTED)?;
    let id = required(delivery.headers, DELIVERY).and_then(|id| checked_id(id, DELIVERY));
    let what = required(delivery.headers, EVENT).map(|name| joined(name.to_owned(), '.', action));
    let what = what.and_then(|what| kind(what, "header x-github-event with the body's action"));
    Ok(Reading::Event(Fields {
        kind: what.map(Some),
        id: id.map(Some),
        tenant: installation,
        key: repository,
        time_ms: None,
    }))
}
