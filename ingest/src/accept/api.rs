//! Events that publishers send themselves: wire events, and the headers that go before their fields.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use shared::event::{Event, EventId, Key, Priority, Tenant};
use shared::wire::{self, WireError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::text;
use crate::error::{Code, Refusal};
use crate::tokens::Token;

/// How far ahead a delivery may be ordered.
pub const MOST_AHEAD: Duration = Duration::from_hours(365 * 24);
/// Longest `Idempotency-Key`.
pub const MAX_KEY: usize = 200;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const PRIORITY: &str = "weir-priority";
const KEY: &str = "weir-key";
const TENANT: &str = "weir-tenant";
const DELIVER_AT: &str = "weir-deliver-at";

/// What the headers of a request say about its events.
#[derive(Debug, Default)]
pub struct Wishes {
    priority: Option<Priority>,
    key: Option<Key>,
    tenant: Option<Tenant>,
    /// When to deliver; `None` is now.
    pub deliver_at: Option<SystemTime>,
    /// `key:<token>:<Idempotency-Key>`.
    idempotency: Option<String>,
}

impl Wishes {
    /// Reads the headers of a request by the bearer of `token`.
    pub fn read(headers: &HeaderMap, token: &Token, now: SystemTime) -> Result<Self, Refusal> {
        let visible = |t: &str| (1..=MAX_KEY).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic());
        Ok(Self {
            priority: wish(headers, PRIORITY, "must be a whole number from 1 to 10", |t| {
                Priority::new(t.parse().ok()?).ok()
            })?,
            key: wish(
                headers,
                KEY,
                "must be 1 to 256 bytes without control characters",
                |t| Key::new(t).ok(),
            )?,
            tenant: wish(headers, TENANT, "must be 1 to 64 of A-Z a-z 0-9 _ -", |t| {
                Tenant::new(t).ok()
            })?,
            deliver_at: text(headers, DELIVER_AT)?
                .map(|t| deliver_at(t, now))
                .transpose()?
                .flatten(),
            idempotency: wish(
                headers,
                IDEMPOTENCY_KEY,
                "must be 1 to 200 visible ASCII characters",
                |t| visible(t).then(|| format!("key:{}:{t}", token.name())),
            )?,
        })
    }

    /// The one event of a request.
    pub fn event(&self, body: &Bytes) -> Result<Event, Refusal> {
        let wished = self.idempotency.as_deref().map(checked_id).transpose()?;
        let event = self.decode(body, || wished.clone().unwrap_or_else(EventId::generate))?;
        match wished {
            Some(wished) if wished != event.id => {
                let detail = "field \"id\" and header idempotency-key both name the event, differently: send one of them";
                Err(Refusal::new(Code::Malformed, detail))
            }
            _ => Ok(event),
        }
    }

    /// The event at a place of a batch. An id of its own goes before the batch's `Idempotency-Key`.
    pub fn batch_event(&self, body: &Bytes, at: usize) -> Result<Event, Refusal> {
        let wished = self
            .idempotency
            .as_ref()
            .map(|id| checked_id(&format!("{id}:{at}")))
            .transpose()?;
        self.decode(body, || wished.unwrap_or_else(EventId::generate))
    }

    fn decode(&self, body: &Bytes, id: impl FnOnce() -> EventId) -> Result<Event, Refusal> {
        let mut event = wire::decode(body, id).map_err(|error| {
            let code = if error == WireError::TooLarge {
                Code::BodyTooLarge
            } else {
                Code::Malformed
            };
            Refusal::new(code, error.to_string())
        })?;
        event.priority = self.priority.unwrap_or(event.priority);
        event.key = self.key.clone().or(event.key);
        event.tenant = self.tenant.clone().or(event.tenant);
        Ok(event)
    }
}

/// A header read by `parse`, which it must satisfy when it is there.
fn wish<T>(
    headers: &HeaderMap,
    name: &str,
    must: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let value = std::str::from_utf8(value.as_bytes()).ok().and_then(parse);
    value.map(Some).ok_or_else(|| Refusal::header(name, must))
}

/// The lengths of a token's name and a key are bounded so that this never fails.
fn checked_id(id: &str) -> Result<EventId, Refusal> {
    EventId::new(id).map_err(|e| Refusal::header(IDEMPOTENCY_KEY, e.0))
}

/// `None` when the time has come already.
fn deliver_at(text: &str, now: SystemTime) -> Result<Option<SystemTime>, Refusal> {
    let millis = text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    let at = match millis {
        Some(millis) => UNIX_EPOCH.checked_add(Duration::from_millis(millis)),
        None => OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from),
    };
    let wrong = "must be RFC 3339 (2030-01-31T09:00:00Z) or milliseconds since 1970";
    let at = at.ok_or_else(|| Refusal::header(DELIVER_AT, wrong))?;
    match at.duration_since(now) {
        Ok(ahead) if ahead > MOST_AHEAD => Err(Refusal::header(DELIVER_AT, "must be at most 365 days ahead")),
        Ok(ahead) if !ahead.is_zero() => Ok(Some(at)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
