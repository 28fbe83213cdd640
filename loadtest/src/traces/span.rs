//! A span as it came in, in a form that can be shown and asked for.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span as WireSpan,
};
use serde::{Deserialize, Serialize};

/// Longest text kept of a name or value, in bytes.
const MAX_TEXT: usize = 1024;
/// Most attributes or links kept of a span; OpenTelemetry's own default is 128.
const MAX_PARTS: usize = 128;

/// What part of a conversation a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Work inside a process.
    Internal,
    /// A request being answered.
    Server,
    /// A request being made.
    Client,
    /// A message being sent.
    Producer,
    /// A message being worked.
    Consumer,
}

impl Kind {
    /// The kind in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    fn from_wire(kind: i32) -> Self {
        match kind {
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Internal,
        }
    }
}

/// A span of another trace, or of this one, that a span points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
}

/// One finished span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// 16 hex digits; `None` for a root.
    pub parent_id: Option<String>,
    /// `service.name` of the process.
    pub service: String,
    /// Span name.
    pub name: String,
    /// What part of a conversation it is.
    pub kind: Kind,
    /// Start, nanoseconds since the epoch.
    pub start_ns: u64,
    /// End, nanoseconds since the epoch; never before the start.
    pub end_ns: u64,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Spans it points to.
    pub links: Vec<Link>,
    /// What went wrong when its status is an error; may be empty.
    pub error: Option<String>,
}

impl Span {
    /// Duration in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// The spans of one export; those without valid ids are dropped.
pub(super) fn from_export(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let attributes = group
            .resource
            .map(|resource| resource.attributes)
            .unwrap_or_default();
        let service = attributes
            .iter()
            .find(|pair| pair.key == "service.name")
            .map_or_else(|| "unknown".to_owned(), |pair| text_of(pair.value.as_ref()));
        let wire = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(wire.filter_map(|span| from_wire(&service, span)));
    }
    spans
}

fn from_wire(service: &str, span: WireSpan) -> Option<Span> {
    let error = span
        .status
        .filter(|status| status.code == 2)
        .map(|status| cut(status.message));
    Some(Span {
        trace_id: hex_id(&span.trace_id, 16)?,
        span_id: hex_id(&span.span_id, 8)?,
        parent_id: hex_id(&span.parent_span_id, 8),
        service: service.to_owned(),
        name: cut(span.name),
        kind: Kind::from_wire(span.kind),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano.max(span.start_time_unix_nano),
        attributes: attributes(span.attributes),
        links: span
            .links
            .iter()
            .take(MAX_PARTS)
            .filter_map(|link| {
                Some(Link {
                    trace_id: hex_id(&link.trace_id, 16)?,
                    span_id: hex_id(&link.span_id, 8)?,
                })
            })
            .collect(),
        error,
    })
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .take(MAX_PARTS)
        .map(|pair| (cut(pair.key), text_of(pair.value.as_ref())))
        .collect()
}

fn text_of(value: Option<&AnyValue>) -> String {
    let Some(value) = value.and_then(|value| value.value.as_ref()) else {
        return String::new();
    };
    match value {
        Value::StringValue(text) => cut(text.clone()),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(array) => {
            let parts: Vec<String> = array
                .values
                .iter()
                .take(MAX_PARTS)
                .map(|one| text_of(Some(one)))
                .collect();
            cut(format!("[{}]", parts.join(", ")))
        }
        Value::BytesValue(bytes) => format!("{} bytes", bytes.len()),
        // Maps and whatever the protocol adds: told to be there, not shown.
        _ => "{...}".to_owned(),
    }
}

/// An id of the right length that is not all zeroes, in hex.
fn hex_id(bytes: &[u8], length: usize) -> Option<String> {
    let valid = bytes.len() == length && bytes.iter().any(|byte| *byte != 0);
    valid.then(|| hex::encode(bytes))
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    text
}
