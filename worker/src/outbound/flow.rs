//! Answers that are read as they come, bit by bit.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use reqwest::Request;
use shared::failure::Failure;
use tracing::{Instrument, Span};

use super::{Answer, MAX_ANSWER, Outbound, answered, broken, call_span, failed, oversized};

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
        let span = call_span(&request, route);
        let response = self.begin(request).instrument(span.clone()).await;
        let response = response.inspect_err(|failure| failed(&span, failure))?;
        answered(&span, response.status());
        Ok(Flow {
            status: response.status(),
            headers: response.headers().clone(),
            response,
            read: 0,
            span,
        })
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
            Err(oversized())
        } else {
            chunk
        };
        chunk.inspect_err(|failure| failed(&self.span, failure))
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
            cut: false,
        })
    }
}
