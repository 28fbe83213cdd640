//! Slack's deliveries: events (JSON), interactions (a form with JSON in `payload`) and slash commands (a plain form).

use serde::{Deserialize, Serialize};
use shared::event::{Event, Tenant};

use super::{Accepted, blob, content_type, digest_id, event_id, form, json, kind};
use crate::error::{Code, Refusal};
use crate::verify::Verified;

/// Fields of the JSON forms; each kind of delivery has some of them.
#[derive(Default, Deserialize)]
struct Payload {
    r#type: Option<String>,
    challenge: Option<String>,
    event_id: Option<String>,
    event_time: Option<u64>,
    event: Option<Inner>,
    team_id: Option<String>,
    team: Option<Team>,
    trigger_id: Option<String>,
}

#[derive(Deserialize)]
struct Inner {
    r#type: Option<String>,
}

#[derive(Deserialize)]
struct Team {
    id: Option<String>,
}

pub(super) fn accept(source: &str, delivery: &Verified<'_>) -> Result<Accepted, Refusal> {
    let body = delivery.body();
    let media = content_type(delivery.headers(), "application/json")?;
    let payload = if !form::is_form(media) {
        let payload: Payload = json(body, "the body")?;
        if payload.r#type.as_deref() == Some("url_verification") {
            return challenge(payload);
        }
        payload
    } else if let Some(payload) = form::field(body, "payload") {
        json(payload.as_bytes(), "field payload of the form")?
    } else if form::field(body, "command").is_some() {
        let field = |name| form::field(body, name).map(std::borrow::Cow::into_owned);
        Payload {
            r#type: Some("slash_command".into()),
            team_id: field("team_id"),
            trigger_id: field("trigger_id"),
            ..Payload::default()
        }
    } else {
        return Err(Refusal::new(
            Code::Malformed,
            "the form has neither a field payload nor a field command",
        ));
    };
    let id = match payload.event_id.or(payload.trigger_id) {
        Some(id) => event_id(source, &id, "event_id or trigger_id of the body")?,
        // Rate limit notices and dialogs name none.
        None => event_id(source, &digest_id(body), "body")?,
    };
    let what = payload.event.and_then(|event| event.r#type).or(payload.r#type);
    let what = what.ok_or_else(|| Refusal::new(Code::Malformed, "the body has no field type"))?;
    let mut event = Event::new(id, kind(what, "field type of the body")?);
    event.time_ms = payload.event_time.and_then(|seconds| seconds.checked_mul(1000));
    let team = payload.team_id.or_else(|| payload.team.and_then(|team| team.id));
    event.tenant = team.and_then(|team| Tenant::new(team).ok());
    event.data = blob(media, body);
    Ok(Accepted::Event(event))
}

/// Slack asks once, when the URL is entered, for this echo.
fn challenge(payload: Payload) -> Result<Accepted, Refusal> {
    #[derive(Serialize)]
    struct Answer {
        challenge: String,
    }
    let challenge = payload
        .challenge
        .ok_or_else(|| Refusal::new(Code::Malformed, "the body has no field challenge"))?;
    let answer = serde_json::to_vec(&Answer { challenge });
    let answer = answer.map_err(|e| Refusal::new(Code::Internal, e.to_string()))?;
    Ok(Accepted::Answer(answer.into()))
}
