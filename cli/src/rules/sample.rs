//! A sample: an event that is done, and how it ended.

use std::path::Path;

use ::rules::{Chain, HOPS, Input};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::event::{Event, EventId};
use shared::subject::Service;
use shared::wire;

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
