//! Events to the HTTP API.

use bytes::Bytes;
use reqwest::Client;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Target, conclude};
use crate::generator::tally::Sent;

/// How an event's bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WireFormat {
    /// A msgpack map.
    #[default]
    Msgpack,
    /// A JSON object.
    Json,
}

/// An event that is sent again and again, each time with an id of its own.
#[derive(Clone, Debug)]
pub struct Template {
    fields: Map<String, Value>,
    run: Uuid,
    repeats: u64,
    format: WireFormat,
}

/// The template is no JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the event template must be a JSON object such as {{\"type\": \"load.test\", \"data\": {{}}}}")]
pub struct BadTemplate;

impl Template {
    /// From an object of wire fields; `v` and `type` are added where they are missing. Each id is sent `repeats`
    /// times in a row (at least once).
    pub fn new(fields: Value, format: WireFormat, repeats: u64) -> Result<Self, BadTemplate> {
        let Value::Object(mut fields) = fields else {
            return Err(BadTemplate);
        };
        fields.entry("v").or_insert_with(|| 1.into());
        fields.entry("type").or_insert_with(|| "load.test".into());
        Ok(Self {
            fields,
            run: Uuid::now_v7(),
            repeats: repeats.max(1),
            format,
        })
    }

    /// Id of the event of request `number`.
    pub fn id(&self, number: u64) -> String {
        format!("load:{}:{}", self.run.simple(), number / self.repeats)
    }

    /// Bytes of that event.
    pub fn bytes(&self, id: &str) -> Bytes {
        let mut fields = self.fields.clone();
        fields.insert("id".into(), id.into());
        match self.format {
            WireFormat::Json => Value::Object(fields).to_string().into(),
            // A map of JSON values always has a msgpack form.
            WireFormat::Msgpack => rmp_serde::to_vec(&fields).unwrap_or_default().into(),
        }
    }

    fn media_type(&self) -> &'static str {
        match self.format {
            WireFormat::Json => "application/json",
            WireFormat::Msgpack => "application/msgpack",
        }
    }
}

/// Sends events to `POST {base}/v1/events/{service}`.
pub struct Events {
    client: Client,
    url: String,
    token: String,
    template: Template,
}

impl Events {
    /// `token` is sent as the bearer.
    pub fn new(client: Client, base: &str, service: &str, token: String, template: Template) -> Self {
        let url = format!("{}/v1/events/{service}", base.trim_end_matches('/'));
        Self {
            client,
            url,
            token,
            template,
        }
    }
}

impl Target for Events {
    async fn send(&self, number: u64) -> Sent {
        let id = self.template.id(number);
        let request = self
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .header("content-type", self.template.media_type())
            .body(self.template.bytes(&id));
        conclude(request.send().await, id).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;
    use shared::{event::EventId, wire};

    #[test]
    fn both_formats_are_events_on_the_wire() {
        for format in [WireFormat::Msgpack, WireFormat::Json] {
            let fields = serde_json::json!({"type": "issues.opened", "data": {"n": [1, 2.5, null]}});
            let template = Template::new(fields, format, 2).unwrap();
            assert_eq!(template.id(2), template.id(3));
            assert_ne!(template.id(1), template.id(2));
            let id = template.id(7);
            let event = wire::decode(&template.bytes(&id), EventId::generate).unwrap();
            assert_eq!(event.id.as_str(), id);
            assert_eq!(event.kind, "issues.opened");
        }
        assert!(Template::new(serde_json::json!([]), WireFormat::Json, 1).is_err());
    }
}
