//! GitHub's deliveries: the delivery's id is the event's, the event's name and `action` its type, the repository its key.

use serde::Deserialize;
use shared::event::{Event, Key};

use super::{blob, content_type, event_id, form, json, kind, text};
use crate::error::{Code, Refusal};
use crate::verify::Verified;

const DELIVERY: &str = "x-github-delivery";
const EVENT: &str = "x-github-event";

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
}

pub(super) fn accept(source: &str, delivery: &Verified<'_>) -> Result<Event, Refusal> {
    let (headers, body) = (delivery.headers(), delivery.body());
    let id = text(headers, DELIVERY)?.ok_or_else(|| Refusal::header(DELIVERY, "is missing"))?;
    let id = event_id(source, id, DELIVERY)?;
    let name = text(headers, EVENT)?.ok_or_else(|| Refusal::header(EVENT, "is missing"))?;
    let media = content_type(headers, "application/json")?;
    let payload: Payload = if form::is_form(media) {
        let payload = form::field(body, "payload")
            .ok_or_else(|| Refusal::new(Code::Malformed, "the form has no field payload"))?;
        json(payload.as_bytes(), "field payload of the form")?
    } else {
        json(body, "the body")?
    };
    let what = match payload.action {
        Some(action) => format!("{name}.{action}"),
        None => name.to_owned(),
    };
    let mut event = Event::new(id, kind(what, "header x-github-event with the body's action")?);
    event.key = payload
        .repository
        .and_then(|r| r.full_name)
        .and_then(|name| Key::new(name).ok());
    event.data = blob(media, body);
    Ok(event)
}
