//! GraphQL, as far as whoever calls such an API has to know it: whether a document reads or writes, what it will cost,
//! how several become one request, and what of an answer belongs to which.

mod answer;
mod cost;
mod document;
mod group;
mod merge;
mod tokens;

use serde::Deserialize;
use serde_json::{Map, Value};
use shared::event::Event;
use shared::failure::Failure;

pub(super) use answer::{Part, judge, parts};
pub(super) use cost::Cost;
pub(super) use document::{Document, Operation};
pub(super) use group::Group;
pub(super) use merge::merge;

/// A request, as an event's data holds it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) query: String,
    #[serde(default)]
    pub(super) variables: Map<String, Value>,
}

/// A request that was read: it holds one operation, and nothing but it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) document: Document,
    pub(super) variables: Map<String, Value>,
}

impl Call {
    /// A request of this program's own.
    pub(super) fn own(query: &str, variables: Value) -> Result<Self, Failure> {
        let document = Document::read(query).map_err(|what| Failure::permanent("call", what))?;
        let variables = match variables {
            Value::Object(variables) => variables,
            _ => Map::new(),
        };
        Ok(Self { document, variables })
    }

    /// The request in an event's data.
    pub(super) fn of(event: &Event) -> Result<Self, Failure> {
        let bad =
            |what: String| Failure::permanent("call", format!("data does not describe a request: {what}"));
        let data = event.data.to_json().map_err(bad)?;
        let data = data.ok_or_else(|| bad("it is empty or no JSON".into()))?;
        let request: Request = serde_json::from_value(data).map_err(|e| bad(e.to_string()))?;
        let document = Document::read(&request.query).map_err(|what| bad(what.into()))?;
        Ok(Self {
            document,
            variables: request.variables,
        })
    }

    /// What goes over the wire.
    pub(super) fn body(&self) -> Value {
        serde_json::json!({"query": self.document.text(), "variables": self.variables})
    }

    /// Whether it only reads.
    pub(super) fn reads(&self) -> bool {
        self.document.operation() == Operation::Query
    }

    /// What it will cost, as far as that can be told beforehand.
    pub(super) fn cost(&self) -> Cost {
        cost::of(&self.document, &self.variables)
    }
}
