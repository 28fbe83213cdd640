//! Slack's deliveries: events (JSON), interactions (a form with JSON in `payload`) and slash commands (a plain form).
//! The workspace is the tenant, workspace and channel are the key.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use serde::Serialize;

use super::pointer::Pointer;
use super::{Delivery, Fields, Reading, form, joined, kind, usable_id};
use crate::error::{Code, Refusal};

static WANTED: LazyLock<[Pointer; 17]> = LazyLock::new(|| {
    [
        "/type",
        "/challenge",
        "/event/type",
        "/event_id",
        "/trigger_id",
        "/event_time",
        // The workspace; for an app that an organization has installed, the organization.
        "/team_id",
        "/team/id",
        "/enterprise_id",
        "/enterprise/id",
        // The channel, which each kind of event and interaction has elsewhere.
        "/event/channel",
        "/event/channel/id",
        "/event/channel_id",
        "/event/item/channel",
        "/event/assistant_thread/channel_id",
        "/channel/id",
        "/container/channel_id",
    ]
    .map(Pointer::of)
});

pub(super) fn read(delivery: &Delivery<'_>) -> Result<Reading, Refusal> {
    if delivery.is_form && form::field(delivery.body, "payload").is_none() {
        return command(delivery.body);
    }
    let [
        outer,
        challenge,
        inner,
        event_id,
        trigger_id,
        time,
        team,
        its_team,
        organization,
        its_organization,
        channels @ ..,
    ] = delivery.json(&WANTED)?;
    if outer.as_deref() == Some("url_verification") && !delivery.is_form {
        return echo(challenge);
    }
    let what = inner.or(outer);
    let what = what.ok_or_else(|| Refusal::new(Code::Malformed, "the body has no field type"));
    let team = team.or(its_team).or(organization).or(its_organization);
    let channel = channels.into_iter().flatten().next();
    Ok(Reading::Event(Fields {
        kind: what
            .and_then(|what| kind(what, "field type of the body"))
            .map(Some),
        // Rate limit notices and dialogs name none.
        id: Ok(event_id.or(trigger_id).filter(|id| usable_id(id))),
        key: place(team.clone(), channel),
        tenant: team,
        time_ms: time.and_then(|seconds| seconds.parse::<u64>().ok()?.checked_mul(1000)),
    }))
}

fn place(team: Option<String>, channel: Option<String>) -> Option<String> {
    match team {
        Some(team) => Some(joined(team, '/', channel)),
        None => channel,
    }
}

fn command(body: &[u8]) -> Result<Reading, Refusal> {
    let field = |name| {
        let value = form::field(body, name).filter(|value| !value.is_empty());
        value.map(Cow::into_owned)
    };
    if field("command").is_none() {
        // Slack looks at the certificate from time to time.
        return if field("ssl_check").as_deref() == Some("1") {
            Ok(Reading::Answer(Bytes::from_static(b"{}")))
        } else {
            Err(Refusal::new(
                Code::Malformed,
                "the form has neither a field payload nor a field command",
            ))
        };
    }
    let team = field("team_id").or_else(|| field("enterprise_id"));
    Ok(Reading::Event(Fields {
        kind: Ok(Some("slash_command".into())),
        id: Ok(field("trigger_id").filter(|id| usable_id(id))),
        key: place(team.clone(), field("channel_id")),
        tenant: team,
        time_ms: None,
    }))
}

/// Slack asks once, when the URL is entered, for this echo.
fn echo(challenge: Option<String>) -> Result<Reading, Refusal> {
    #[derive(Serialize)]
    struct Answer {
        challenge: String,
    }
    let challenge =
        challenge.ok_or_else(|| Refusal::new(Code::Malformed, "the body has no field challenge"))?;
    let answer = serde_json::to_vec(&Answer { challenge });
    let answer = answer.map_err(|e| Refusal::new(Code::Internal, e.to_string()))?;
    Ok(Reading::Answer(answer.into()))
}
