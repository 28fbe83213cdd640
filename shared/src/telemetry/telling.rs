//! Tells when traces cannot be sent, and when they can again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// An exporter that logs once when it begins to fail, and once when it works again. The library itself is silent.
#[derive(Debug)]
pub(super) struct Telling<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E> Telling<E> {
    pub(super) fn new(inner: E) -> Self {
        Self {
            inner,
            failing: AtomicBool::new(false),
        }
    }

    fn tell(&self, sent: &OTelSdkResult) {
        let failing = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Err(error) if !failing => {
                tracing::warn!(%error, "traces cannot be sent (OTEL_EXPORTER_OTLP_*); what is not sent is lost");
            }
            Ok(()) if failing => tracing::info!("traces are sent again"),
            Err(_) | Ok(()) => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.inner.export(batch).await;
        self.tell(&sent);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
