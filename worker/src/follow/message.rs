//! A message that an event owes, as it is published and as the table keeps it.

use std::collections::BTreeMap;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use rules::FollowUp;
use shared::event::EventId;
use shared::subject::{EVENTS, Service, header, headers};
use shared::wire;

/// Room that a message leaves below the server's largest, for the headers that a retry or a dead letter of it adds.
pub(super) const HEADROOM: usize = 16 * 1024;

/// A message that an event owes: an event that a rule emits, or the dead letter of rules that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The rules that it is about.
    pub rule: String,
    /// Where to.
    pub subject: String,
    /// Its headers, the message id among them, by which the server keeps it once.
    pub headers: HeaderMap,
    /// Its bytes.
    pub payload: Bytes,
}

impl Message {
    /// The event that follows from the event `parent` of `service`, in the trace that `trace` names.
    ///
    /// # Errors
    /// It is larger than a server takes whose largest message is `most` bytes; 0 says that nobody knows.
    pub fn event(
        follow_up: FollowUp,
        service: &Service,
        parent: &EventId,
        trace: &HeaderMap,
        most: usize,
    ) -> Result<Self, String> {
        let event = follow_up.event;
        let subject = follow_up
            .service
            .subject(event.priority.lane(), event.tenant.as_ref());
        let (payload, compressed) = wire::compress(wire::encode(&event));
        if most > 0 && payload.len() + HEADROOM > most {
            let bytes = payload.len();
            return Err(format!(
                "the event takes {bytes} bytes, and a message has room for {}",
                most.saturating_sub(HEADROOM)
            ));
        }
        let mut map = trace.clone();
        map.insert(headers::MESSAGE_ID, event.id.as_str());
        map.insert(headers::PARENT, format!("{service}/{parent}"));
        map.insert(headers::CHAIN, follow_up.chain.to_string());
        if compressed {
            map.insert(headers::CONTENT_ENCODING, wire::ZSTD);
        }
        Ok(Self {
            rule: follow_up.rule,
            subject,
            headers: map,
            payload,
        })
    }

    /// Whether it is a dead letter.
    pub fn is_letter(&self) -> bool {
        self.headers.get(headers::DEAD_CODE).is_some()
    }

    /// Service and id of the event that it is; `None` for a dead letter.
    pub fn child(&self) -> Option<(&str, &str)> {
        let id = header(Some(&self.headers), headers::MESSAGE_ID)?;
        let service = self.subject.strip_prefix(EVENTS)?.split('.').nth(1)?;
        Some((service, id))
    }

    /// Its headers as the table keeps them.
    pub fn headers_json(&self) -> String {
        let all: BTreeMap<&str, Vec<&str>> = self
            .headers
            .iter()
            .map(|(name, values)| (name.as_ref(), values.iter().map(HeaderValue::as_str).collect()))
            .collect();
        // Text alone: nothing of it can fail.
        serde_json::to_string(&all).unwrap_or_default()
    }

    /// Takes one from the table. Headers that are none are left out: nobody but us writes there.
    pub fn kept(rule: String, subject: String, headers: &str, payload: Vec<u8>) -> Self {
        let all: BTreeMap<String, Vec<String>> = serde_json::from_str(headers).unwrap_or_default();
        let mut map = HeaderMap::new();
        for (name, values) in all {
            for value in values {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                    map.append(name, value);
                }
            }
        }
        Self {
            rule,
            subject,
            headers: map,
            payload: payload.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_keeps_is_what_is_published() {
        let mut headers = HeaderMap::new();
        headers.insert(headers::MESSAGE_ID, "tell:1");
        headers.append("X", "a \"quoted\" ü");
        headers.append("X", "b");
        let message = Message {
            rule: "tell".into(),
            subject: "events.slack".into(),
            headers,
            payload: Bytes::from_static(b"\x81\0"),
        };
        let kept = Message::kept(
            message.rule.clone(),
            message.subject.clone(),
            &message.headers_json(),
            message.payload.to_vec(),
        );
        assert_eq!(kept, message);
        assert!(!kept.is_letter());
    }
}
