//! Answers that are read as they come, bit by bit.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use reqwest::Request;
use shared::failure::Failure;
use shared::telemetry::TRACE;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::{Answer, MAX_ANSWER, Outbound, broken, egress, redacted};

/// An answer of which only the head is read. Dropped, the rest is not waited for.
#[derive(Debug)]
pub struct Flow {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    response: reqwest::Response,
    read: usize,
    span: Span,
}

impl Outbound {
    /// Makes a call and reads the head of its answer. `route` names the kind of call in the trace, without ids; the trace
    /// context is not sent along.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn open(&self, request: Request, route: &str) -> Result<Flow, Failure> {
        let span = tracing::info_span!(
            target: TRACE,
            "call",
            otel.name = %format_args!("{} {route}", request.method()),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = %request.method(),
            url.full = %redacted(request.url()),
            server.address = request.url().host_str(),
            server.port = request.url().port_or_known_default(),
            http.response.status_code = Empty,
            error.type = Empty,
        );
        let opened = self.begin(request).instrument(span.clone()).await;
        match opened {
            Ok(response) => {
                span.record("http.response.status_code", response.status().as_u16());
                if !response.status().is_success() {
                    span.record("otel.status_code", "ERROR");
                }
                Ok(Flow {
                    status: response.status(),
                    headers: response.headers().clone(),
                    response,
                    read: 0,
                    span,
                })
            }
            Err(failure) => {
                told(&span, &failure);
                Err(failure)
            }
        }
    }

    async fn begin(&self, request: Request) -> Result<reqwest::Response, Failure> {
        self.egress
            .check(request.url())
            .map_err(|refused| Failure::permanent(egress::REFUSED, refused))?;
        self.client.execute(request).await.map_err(|e| broken(&e))
    }
}

impl Flow {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// Transient: the connection broke. Permanent: the answer has more than [`MAX_ANSWER`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let chunk = self.response.chunk().instrument(self.span.clone()).await;
        let chunk = chunk.map_err(|e| broken(&e));
        if let Ok(Some(chunk)) = &chunk {
            self.read = self.read.saturating_add(chunk.len());
        }
        let chunk = if self.read > MAX_ANSWER {
            let detail = format!("the answer has more than {MAX_ANSWER} bytes");
            Err(Failure::permanent("oversized", detail))
        } else {
            chunk
        };
        chunk.inspect_err(|failure| told(&self.span, failure))
    }

    /// The answer, read to its end.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn whole(mut self) -> Result<Answer, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.next().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body: body.into(),
        })
    }
}

fn told(span: &Span, failure: &Failure) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", &*failure.reason().code);
}
