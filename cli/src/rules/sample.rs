//! A sample: an event that is done, and how it ended.

use std::path::Path;

use ::rules::{Chain, HOPS, Input};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::event::{Data, Event, EventId};
use shared::form::{self, FORM};
use shared::subject::Service;
use shared::wire;

use crate::args::Check;
use crate::failure::Failure;

/// The id of a sample that names none: what follows from it has the same ids each time.
const ID: &str = "sample";

/// An event that is done.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) service: Service,
    pub(crate) event: Event,
    code: Option<String>,
    result: Option<Value>,
    chain: Chain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    service: String,
    event: Map<String, Value>,
    code: Option<String>,
    result: Option<Value>,
    #[serde(default)]
    after: Vec<String>,
}

impl Sample {
    /// Reads one.
    pub(crate) fn read(text: &str, path: &Path) -> Result<Self, Failure> {
        let wrong = |what: &dyn std::fmt::Display| Failure::Usage(format!("{}: {what}", path.display()));
        let mut raw: Raw = serde_json::from_str(text).map_err(|error| wrong(&error))?;
        raw.event.entry("v").or_insert_with(|| wire::VERSION.into());
        raw.event.entry("id").or_insert_with(|| ID.into());
        let bytes = Value::Object(raw.event).to_string().into_bytes();
        let event = wire::decode(&bytes.into(), EventId::generate);
        Ok(Self {
            service: Service::new(raw.service).map_err(|error| wrong(&format_args!("service {error}")))?,
            event: event.map_err(|error| wrong(&format_args!("event: {error}")))?,
            code: raw.code,
            result: raw.result,
            chain: Chain::parse(Some(&raw.after.join(","))),
        })
    }

    /// An event as ingest makes it of the body of a webhook. How it ended is not known.
    pub(crate) fn of_payload(body: String, path: &Path, check: &Check) -> Result<Self, Failure> {
        let wrong = |what: &dyn std::fmt::Display| Failure::Usage(format!("{}: {what}", path.display()));
        let missing = || Failure::Usage("--payload needs --service and --type".to_owned());
        let (Some(service), Some(kind)) = (&check.service, &check.kind) else {
            return Err(missing());
        };
        let content_type = if form::looks_so(body.as_bytes()) {
            FORM
        } else {
            "application/json"
        };
        let data = Data::Blob {
            content_type: content_type.to_owned(),
            bytes: body.into(),
        };
        data.to_json()
            .map_err(|error| wrong(&format_args!("is no JSON: {error}")))?;
        let id = EventId::new(ID).map_err(|error| wrong(&error))?;
        let event = Event {
            source: Some(check.source.clone().unwrap_or_else(|| service.to_string())),
            key: check.key.clone(),
            tenant: check.tenant.clone(),
            data,
            ..Event::new(id, kind.as_str())
        };
        // What the fleet would not read is refused here, with the same words.
        wire::decode(&wire::encode(&event), EventId::generate).map_err(Failure::usage)?;
        Ok(Self {
            service: service.clone(),
            event,
            code: None,
            result: None,
            chain: Chain::default(),
        })
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            service: &self.service,
            event: &self.event,
            code: self.code.as_deref(),
            result: self.result.as_ref(),
            chain: &self.chain,
            hops: HOPS,
        }
    }
}
