//! From a request that may be believed to an event. Pure: time comes in as an argument, nothing is sent.

pub mod api;
pub(crate) mod form;
mod generic;
mod github;
mod gitlab;
mod linear;
pub mod place;
pub mod pointer;
mod slack;
mod standard;
mod stripe;

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use shared::event::{Data, Event, EventId, Key, MAX_NAME, Tenant, is_json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::Source;
use crate::error::{Code, Refusal};
use crate::verify::{Scheme, Verified};
use place::{Field, Wish};
use pointer::{Pointer, pick_each};

/// The type of an event whose delivery does not say what happened.
pub const KIND: &str = "webhook";
/// The media type of most deliveries.
const JSON: &str = "application/json";
/// Longest id of a delivery: with its source before it, it is the event's.
const MAX_DELIVERY: usize = 220;

/// What a verified delivery asks for.
#[derive(Debug)]
pub enum Accepted {
    /// Keep this event.
    Event(Event),
    /// Answer with this JSON and keep nothing.
    Answer(Bytes),
}

/// A verified delivery, as the kinds of sources read it.
struct Delivery<'d> {
    headers: &'d HeaderMap,
    body: &'d Bytes,
    /// Whether the body is a form, by its bytes: most have JSON in their field `payload`.
    is_form: bool,
}

/// What a kind of source makes of a delivery.
enum Reading {
    Event(Fields),
    /// Nothing to keep, and this JSON to answer with.
    Answer(Bytes),
}

/// An event's fields by the rule of its kind of source. Those that are overridden are not looked at.
struct Fields {
    /// Missing or unusable: [`KIND`].
    kind: Result<Option<String>, Refusal>,
    /// Missing: the SHA-256 of the body.
    id: Result<Option<String>, Refusal>,
    tenant: Option<String>,
    key: Option<String>,
    time_ms: Option<u64>,
}

/// Reads a verified delivery of a source.
pub fn webhook(source: &Source, verified: &Verified<'_>) -> Result<Accepted, Refusal> {
    let (headers, body) = (verified.headers(), verified.body());
    let binary = matches!(source.scheme, Scheme::Hmac(_));
    let default = if binary { "application/octet-stream" } else { JSON };
    // It is not signed: what the bytes say of themselves comes first, here and for all who read the event.
    let said = content_type(headers, default)?;
    // GitLab, Linear and Stripe send no forms.
    let forms = !matches!(
        source.scheme,
        Scheme::Gitlab(_) | Scheme::Linear(_) | Scheme::Stripe(_)
    );
    let is_form = forms && form::looks_so(body);
    let media = media(said, body, is_form, source);
    let delivery = Delivery {
        headers,
        body,
        is_form,
    };
    let reading = match &source.scheme {
        Scheme::Github(_) => github::read(&delivery),
        Scheme::Gitlab(_) => gitlab::read(&delivery),
        Scheme::Linear(_) => linear::read(&delivery),
        Scheme::Slack(_) => slack::read(&delivery),
        Scheme::Stripe(_) => stripe::read(&delivery),
        Scheme::Standard(_) => standard::read(&delivery),
        Scheme::Hmac(generic) => generic::read(generic, &delivery),
    }?;
    let fields = match reading {
        Reading::Event(fields) => fields,
        Reading::Answer(answer) => return Ok(Accepted::Answer(answer)),
    };
    let lookup = source.overrides.of(headers, body, is_form);
    let text = |text: &str| Some(text.to_owned());
    let id = match lookup.find(Field::Id, |id| usable_id(id).then(|| id.to_owned())) {
        Wish::Value(id) => Some(id),
        Wish::Own => fields.id?,
        Wish::Nothing => None,
    };
    let what = match lookup.find(Field::Type, |kind| place::is_kind(kind).then(|| kind.to_owned())) {
        Wish::Value(what) => what,
        Wish::Own | Wish::Nothing => {
            let own = fields.kind?.filter(|kind| place::is_kind(kind));
            own.unwrap_or_else(|| KIND.to_owned())
        }
    };
    let id = id.unwrap_or_else(|| digest_id(body));
    let mut event = Event::new(event_id(&source.name, &id)?, what);
    event.source = Some(source.name.clone());
    event.time_ms = fields.time_ms;
    let whose = lookup.find(Field::Tenant, text).or(fields.tenant);
    event.tenant = whose.and_then(|name| Tenant::new(tenant(name)).ok());
    let of = lookup.find(Field::Key, text).or(fields.key);
    event.key = of.and_then(|text| Key::new(key(text)).ok());
    if let Wish::Value(priority) = lookup.find(Field::Priority, place::priority) {
        event.priority = priority;
    }
    event.data = blob(media, body);
    Ok(Accepted::Event(event))
}

impl Delivery<'_> {
    /// The texts and numbers at these places of the JSON that the delivery is.
    fn json<const N: usize>(&self, wanted: &[Pointer; N]) -> Result<[Option<String>; N], Refusal> {
        let (json, place) = if self.is_form {
            let payload = form::field(self.body, "payload");
            let missing = || Refusal::new(Code::Malformed, "the form has no field payload");
            (payload.ok_or_else(missing)?, "field payload of the form")
        } else {
            // Text that is skipped is not checked by the parser, and must not fail later.
            let text = std::str::from_utf8(self.body).map_err(|e| {
                let detail = format!("the body is not UTF-8 from byte {}", e.valid_up_to());
                Refusal::new(Code::Malformed, detail)
            })?;
            (Cow::Borrowed(text), "the body")
        };
        pick_each(&json, wanted)
            .map_err(|e| Refusal::new(Code::Malformed, format!("{place} is broken JSON: {e}")))
    }
}

/// A header as text, `None` when it is missing.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let refused = |_| Refusal::header(name, "must be visible ASCII");
    value.to_str().map(Some).map_err(refused)
}

/// The media type of a body, `default` where the sender names none.
fn content_type<'h>(headers: &'h HeaderMap, default: &'h str) -> Result<&'h str, Refusal> {
    match text(headers, header::CONTENT_TYPE.as_str())? {
        None => Ok(default),
        Some(name) if (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control) => Ok(name),
        Some(_) => Err(Refusal::header("content-type", "must be 1 to 128 characters")),
    }
}

/// The media type of a body: JSON and forms by the bytes, whatever was said; for the rest what was said of it.
fn media<'m>(said: &'m str, body: &[u8], is_form: bool, source: &Source) -> &'m str {
    let first = body.trim_ascii_start().first();
    // Whose bodies are JSON or forms, and who signs whatever there is.
    let (holds_json, else_it_is) = match source.scheme {
        Scheme::Standard(_) | Scheme::Hmac(_) => {
            let holds_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
            (holds_json, "application/octet-stream")
        }
        _ => (matches!(first, Some(b'{' | b'[')), JSON),
    };
    match (is_form, holds_json) {
        (true, _) => form::FORM,
        (_, true) if is_json(said) => said,
        (_, true) => JSON,
        _ if is_json(said) || form::is_form(said) => else_it_is,
        _ => said,
    }
}

/// The body exactly as it was signed.
fn blob(content_type: &str, body: &Bytes) -> Data {
    Data::Blob {
        content_type: content_type.to_owned(),
        bytes: body.clone(),
    }
}

/// `<source>:<delivery>`.
fn event_id(source: &str, delivery: &str) -> Result<EventId, Refusal> {
    let refused = |e: shared::event::Invalid| Refusal::new(Code::Internal, e.to_string());
    EventId::new(format!("{source}:{delivery}")).map_err(refused)
}

/// The id of a delivery that brings none: the same body is the same event.
fn digest_id(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// A delivery's id, where `header` is where it stood.
fn checked_id(id: &str, header: &str) -> Result<String, Refusal> {
    if usable_id(id) {
        Ok(id.to_owned())
    } else {
        Err(Refusal::header(
            header,
            "must be an id of at most 220 visible ASCII characters",
        ))
    }
}

/// Whether a text can be a delivery's id.
fn usable_id(text: &str) -> bool {
    (1..=MAX_DELIVERY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The first of these headers with text in it.
fn first_header<'h>(headers: &'h HeaderMap, names: &[&str]) -> Option<&'h str> {
    let mut values = names.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
    values.find(|value| !value.is_empty())
}

/// The first of these headers that can be a delivery's id.
fn header_id(headers: &HeaderMap, names: &[&str]) -> Option<String> {
    let mut ids = names.iter().filter_map(|name| first_header(headers, &[name]));
    ids.find(|id| usable_id(id)).map(str::to_owned)
}

/// A header that every delivery has.
fn required<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Refusal> {
    text(headers, name)?.ok_or_else(|| Refusal::header(name, "is missing"))
}

/// Two words, or the first alone.
fn joined(mut first: String, between: char, second: Option<String>) -> String {
    if let Some(second) = second {
        first.push(between);
        first.push_str(&second);
    }
    first
}

/// The time that a date says, in milliseconds since 1970.
fn rfc3339(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Text for the event's `type`, where `place` is where it stood.
fn kind(text: String, place: &str) -> Result<String, Refusal> {
    if place::is_kind(&text) {
        Ok(text)
    } else {
        Err(Refusal::new(
            Code::Malformed,
            format!("{place} must be 1 to 128 characters"),
        ))
    }
}

/// A tenant's name as it fits a subject: other characters become `_`, and what tells it from others that become the
/// same follows, 16 digits of its SHA-256.
fn tenant(name: String) -> String {
    if Tenant::new(&*name).is_ok() {
        return name;
    }
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            c
        } else {
            '_'
        }
    };
    let readable: String = name.chars().take(MAX_READABLE).map(fits).collect();
    format!("{readable}-{}", &hex::encode(Sha256::digest(name))[..16])
}

/// Characters of a tenant's name that stay in what is made of it.
const MAX_READABLE: usize = 47;

/// A key as it stands, or the SHA-256 of one that is too long or holds control characters.
fn key(text: String) -> String {
    if Key::new(&*text).is_ok() {
        text
    } else {
        hex::encode(Sha256::digest(text))
    }
}

#[cfg(test)]
mod tests;
