//! Why a request was refused, and the problem document (RFC 9457) that says so: the only place where a failure
//! becomes an HTTP status.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// Media type of every refusal.
pub const PROBLEM: &str = "application/problem+json";

/// Longest detail of a refusal, in bytes.
pub const MAX_DETAIL: usize = 600;

/// Every reason for which a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No such route.
    NotFound,
    /// The route has other methods.
    MethodNotAllowed,
    /// No webhook source of this name is configured.
    UnknownSource,
    /// No service of this name belongs to the fleet.
    UnknownService,
    /// The request brings no bearer token.
    TokenMissing,
    /// The bearer token is none of ours.
    TokenUnknown,
    /// The bearer token is not for this service.
    ServiceNotAllowed,
    /// The delivery brings no signature.
    SignatureMissing,
    /// The signature is not that of the body under any secret.
    SignatureWrong,
    /// The signed time is missing, or no time.
    TimestampInvalid,
    /// The signed time is too far from now: a replay, or a clock that is wrong.
    TimestampStale,
    /// A header is missing or does not fit.
    HeaderInvalid,
    /// The body's media type or encoding is not read here.
    MediaType,
    /// The body does not say what it should.
    Malformed,
    /// The body is larger than `WEIR_INGEST_MAX_BODY`.
    BodyTooLarge,
    /// A batch of too many events.
    BatchTooLarge,
    /// The event is larger than the NATS server takes.
    MessageTooLarge,
    /// The body did not arrive in time.
    ReadTimeout,
    /// The body broke off.
    BodyBroken,
    /// The source's own limit is reached.
    SourceLimited,
    /// The backlog of this lane and tenant is full.
    BacklogFull,
    /// The service's stream is full.
    StreamFull,
    /// More work at once than this process takes.
    Busy,
    /// NATS did not keep the event in time.
    Unavailable,
    /// A fault in this program.
    Internal,
}

impl Code {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 25] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UnknownSource,
        Self::UnknownService,
        Self::TokenMissing,
        Self::TokenUnknown,
        Self::ServiceNotAllowed,
        Self::SignatureMissing,
        Self::SignatureWrong,
        Self::TimestampInvalid,
        Self::TimestampStale,
        Self::HeaderInvalid,
        Self::MediaType,
        Self::Malformed,
        Self::BodyTooLarge,
        Self::BatchTooLarge,
        Self::MessageTooLarge,
        Self::ReadTimeout,
        Self::BodyBroken,
        Self::SourceLimited,
        Self::BacklogFull,
        Self::StreamFull,
        Self::Busy,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Status, the word in `code` and in the metrics, and the title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::NotFound => (S::NOT_FOUND, "not_found", "No such route"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::UnknownSource => (S::NOT_FOUND, "unknown_source", "Unknown webhook source"),
            Self::UnknownService => (S::NOT_FOUND, "unknown_service", "Unknown service"),
            Self::TokenMissing => (S::UNAUTHORIZED, "token_missing", "Bearer token missing"),
            Self::TokenUnknown => (S::UNAUTHORIZED, "token_unknown", "Bearer token unknown"),
            Self::ServiceNotAllowed => (S::FORBIDDEN, "service_not_allowed", "Token not for this service"),
            Self::SignatureMissing => (S::UNAUTHORIZED, "signature_missing", "Signature missing"),
            Self::SignatureWrong => (S::UNAUTHORIZED, "signature_wrong", "Signature wrong"),
            Self::TimestampInvalid => (
                S::UNAUTHORIZED,
                "timestamp_invalid",
                "Timestamp missing or unreadable",
            ),
            Self::TimestampStale => (S::UNAUTHORIZED, "timestamp_stale", "Timestamp stale"),
            Self::HeaderInvalid => (S::BAD_REQUEST, "header_invalid", "Header missing or wrong"),
            Self::MediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                "Media type not read here",
            ),
            Self::Malformed => (S::BAD_REQUEST, "malformed", "Body malformed"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::BatchTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "batch_too_large",
                "Too many events in one batch",
            ),
            Self::MessageTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "message_too_large",
                "Event too large for NATS",
            ),
            Self::ReadTimeout => (S::REQUEST_TIMEOUT, "read_timeout", "Body too slow"),
            Self::BodyBroken => (S::BAD_REQUEST, "body_broken", "Body incomplete"),
            Self::SourceLimited => (
                S::TOO_MANY_REQUESTS,
                "source_limited",
                "Limit of this source reached",
            ),
            Self::BacklogFull => (S::TOO_MANY_REQUESTS, "backlog_full", "Backlog full"),
            Self::StreamFull => (S::SERVICE_UNAVAILABLE, "stream_full", "Stream full"),
            Self::Busy => (S::SERVICE_UNAVAILABLE, "busy", "Too busy"),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable", "NATS unavailable"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// The word in a problem's `code` and in the metrics' `reason`.
    pub fn word(self) -> &'static str {
        self.parts().1
    }

    /// Whether the same request may succeed later, through nobody's fault but ours.
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::BacklogFull | Self::StreamFull | Self::Busy | Self::Unavailable
        )
    }
}

/// One refused request or event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// What exactly, for the person who sent it. Holds no secret.
    pub detail: Cow<'static, str>,
    /// When it makes sense to try again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that trying again does not mend. The detail is cut to [`MAX_DETAIL`]: parsers quote what they refuse,
    /// and that may be a whole body.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut detail = detail.into();
        if detail.len() > MAX_DETAIL {
            let end = detail.floor_char_boundary(MAX_DETAIL - '…'.len_utf8());
            detail = format!("{}…", &detail[..end]).into();
        }
        Self {
            code,
            detail,
            retry_after: None,
        }
    }

    /// The same with a time after which to try again.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// A header that is missing or does not fit.
    pub fn header(name: &str, what: &str) -> Self {
        Self::new(Code::HeaderInvalid, format!("header {name} {what}"))
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, title) = self.code.parts();
        let kind = format!("urn:weir:problem:{code}");
        let problem = Problem {
            r#type: kind,
            title,
            status: status.as_u16(),
            detail: &self.detail,
            code,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if matches!(self.code, Code::TokenMissing | Code::TokenUnknown) {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"weir\""),
            );
        }
        if self.code == Code::ReadTimeout {
            headers.insert(
                const { HeaderName::from_static("connection") },
                HeaderValue::from_static("close"),
            );
        }
        response
    }
}

/// `Retry-After` counts whole seconds; less than what is needed would only be refused again.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_millis().div_ceil(1000) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_in_order_and_are_distinct() {
        for (at, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at, "{code:?}");
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
        let words: std::collections::HashSet<_> = Code::ALL.into_iter().map(Code::word).collect();
        assert_eq!(words.len(), Code::ALL.len());
    }

    #[test]
    fn a_detail_does_not_grow_with_the_body() {
        for text in [
            "x".repeat(10_000),
            "é".repeat(10_000),
            "x".to_owned() + &"é".repeat(400),
        ] {
            let refusal = Refusal::new(Code::Malformed, text);
            assert!(refusal.detail.len() <= MAX_DETAIL && refusal.detail.ends_with('…'));
        }
        let fits = "x".repeat(MAX_DETAIL);
        assert_eq!(Refusal::new(Code::Malformed, fits.clone()).detail, fits);
    }

    #[test]
    fn a_wait_is_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
