//! Traces and logs. Traces go out by OTLP as the standard `OTEL_*` variables say, and log lines carry their ids. With
//! no endpoint set no spans are made at all: they would cost, and nobody would read them.

mod logs;
pub mod propagation;
mod telling;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use logs::LogFormat;

use telling::Telling;

/// Target of the spans that make up an event's trace. They are recorded whatever `WEIR_LOG` says, and no span of a
/// library is.
pub const TRACE: &str = "weir::trace";

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// An `OTEL_EXPORTER_OTLP_*` variable is wrong.
    #[error("OTEL_EXPORTER_OTLP_*: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A subscriber is there already.
    #[error("{0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// Traces and logs of this process, until [`shutdown`](Self::shutdown).
#[must_use = "spans are lost unless it is shut down"]
pub struct Telemetry {
    /// `None` where traces go nowhere.
    provider: Option<SdkTracerProvider>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Telemetry")
    }
}

/// Whether traces are sent anywhere.
fn exports() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let disabled = std::env::var_os("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let none = std::env::var_os("OTEL_TRACES_EXPORTER").is_some_and(|v| v == "none");
    !disabled && !none && (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
}

/// Sets up traces and logs for the whole process, under a service name such as `weir-worker` (`OTEL_SERVICE_NAME`
/// and `OTEL_RESOURCE_ATTRIBUTES` override and add). Call it inside the runtime, after the TLS provider is set.
pub fn init(service: &'static str, log: &str, format: LogFormat) -> Result<Telemetry, TelemetryError> {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = exports().then(|| provider(service)).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("weir"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_context_activation(false)
            .with_tracked_inactivity(false)
    });
    let only_ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACE);
    let registry = tracing_subscriber::registry();
    // Not an optional layer: one that is none takes every span as wanted, and the registry would keep them all.
    match traces {
        Some(traces) => {
            let traced = registry.with(traces.with_filter(only_ours));
            traced.with(lines(log, format)).try_init()?;
        }
        None => registry.with(lines(log, format)).try_init()?,
    }
    Ok(Telemetry { provider })
}

/// Logged lines. Spans are for traces alone: lines take their ids from there, and formatting fields twice costs.
fn lines<S>(log: &str, format: LogFormat) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::try_new(log).unwrap_or_else(|_| EnvFilter::new("info"));
    let events = filter_fn(|metadata| metadata.is_event() && metadata.target() != TRACE);
    logs::layer(format).with_filter(filter).with_filter(events)
}

fn provider(service: &'static str) -> Result<SdkTracerProvider, TelemetryError> {
    let named = std::env::var_os("OTEL_SERVICE_NAME").and_then(|name| name.into_string().ok());
    let named = named.filter(|name| !name.is_empty());
    let resource = Resource::builder()
        .with_service_name(named.unwrap_or_else(|| service.to_owned()))
        .with_attribute(KeyValue::new("service.namespace", "weir"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let exporter = Telling::new(opentelemetry_otlp::SpanExporter::builder().build()?);
    // Larger and quicker than the SDK's own figures: bursts of thousands of events must not lose spans. The OTEL_BSP_*
    // variables win where they are set.
    let unset = |name: &str| std::env::var_os(name).is_none();
    let mut batch = BatchConfigBuilder::default();
    if unset("OTEL_BSP_MAX_QUEUE_SIZE") {
        batch = batch.with_max_queue_size(16_384);
    }
    if unset("OTEL_BSP_SCHEDULE_DELAY") {
        batch = batch.with_scheduled_delay(Duration::from_secs(1));
    }
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batch.build())
        .build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(processor)
        .build())
}

impl Telemetry {
    /// Sends what is left and stops, within `deadline`. Off the async threads, because the exporter blocks.
    pub async fn shutdown(self, deadline: Duration) {
        let Some(provider) = self.provider else { return };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(deadline));
        match tokio::time::timeout(deadline, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "traces: not all were sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("traces: not all were sent in time"),
        }
    }
}

/// Checks a log filter as `WEIR_LOG` holds it.
pub fn check_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|e| format!("{e}: write a level (info) or targets with levels (info,worker=debug)"))
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(format!("{text:?} is neither json nor pretty")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Pretty => "pretty",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_traces_no_span_is_made() {
        let subscriber = tracing_subscriber::registry().with(lines("debug", LogFormat::Json));
        tracing::subscriber::with_default(subscriber, || {
            assert!(tracing::info_span!(target: TRACE, "process").is_disabled());
            assert!(tracing::info_span!("of a library").is_disabled());
            assert!(
                tracing::event_enabled!(tracing::Level::DEBUG),
                "lines are logged nevertheless"
            );
        });
    }
}
