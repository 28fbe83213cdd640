//! Log lines: one JSON object each, or one readable line each; both with the trace they belong to.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Pretty,
}

pub(super) fn layer<S>(format: LogFormat) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .event_format(Lines(format))
        .with_writer(std::io::stderr)
}

struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let trace = trace_ids();
        let now = super::propagation::rfc3339(SystemTime::now());
        let _ = ctx;
        match self.0 {
            LogFormat::Json => {
                let mut line = Map::new();
                line.insert("time".into(), now.into());
                line.insert("level".into(), meta.level().as_str().into());
                line.insert("target".into(), meta.target().into());
                line.insert("message".into(), fields.message.into());
                if let Some((trace_id, span_id)) = trace {
                    line.insert("trace_id".into(), trace_id.into());
                    line.insert("span_id".into(), span_id.into());
                }
                line.extend(fields.others);
                writeln!(w, "{}", Value::Object(line))
            }
            LogFormat::Pretty => {
                let clock = now.get(11..23).unwrap_or(&now);
                write!(w, "{clock} {:>5} {}", meta.level(), fields.message)?;
                for (name, value) in &fields.others {
                    match value {
                        Value::String(text) => write!(w, " {name}={text}")?,
                        other => write!(w, " {name}={other}")?,
                    }
                }
                match trace {
                    Some((trace_id, _)) => writeln!(w, " trace={trace_id}"),
                    None => writeln!(w),
                }
            }
        }
    }
}

/// The ids of the span that the event was logged in.
fn trace_ids() -> Option<(String, String)> {
    let span = tracing::Span::current();
    let id = span.id()?;
    let context =
        tracing::dispatcher::get_default(|dispatch| tracing_opentelemetry::get_otel_context(&id, dispatch))?;
    let span_context = context.span().span_context().clone();
    span_context.is_valid().then(|| {
        (
            span_context.trace_id().to_string(),
            span_context.span_id().to_string(),
        )
    })
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.put(field, format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.put(field, value.into());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}
