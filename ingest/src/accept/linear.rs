//! Linear's deliveries: `type` and `action` are the type, the team (or the organization) is the key, the organization
//! the tenant. `webhookId` names the hook, not the delivery.

use std::sync::LazyLock;

use super::pointer::Pointer;
use super::{Delivery, Fields, Reading, header_id, joined, rfc3339};
use crate::error::Refusal;

const DELIVERY: &str = "linear-delivery";

static WANTED: LazyLock<[Pointer; 8]> = LazyLock::new(|| {
    [
        "/type",
        "/action",
        "/organizationId",
        "/createdAt",
        "/data/teamId",
        "/data/team/id",
        "/data/issue/teamId",
        "/data/issue/team/id",
    ]
    .map(Pointer::of)
});

pub(super) fn read(delivery: &Delivery<'_>) -> Result<Reading, Refusal> {
    let [
        kind,
        action,
        organization,
        created,
        team,
        its_team,
        of_issue,
        of_its_issue,
    ] = delivery.json(&WANTED)?;
    let team = team.or(its_team).or(of_issue).or(of_its_issue);
    Ok(Reading::Event(Fields {
        kind: Ok(kind.map(|kind| joined(kind, '.', action))),
        id: Ok(header_id(delivery.headers, &[DELIVERY])),
        key: team.or_else(|| organization.clone()),
        tenant: organization,
        time_ms: created.as_deref().and_then(rfc3339),
    }))
}
