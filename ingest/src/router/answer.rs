//! What senders get back.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::accept::form::is_form;
use crate::error::{Code, Refusal};
use crate::publish::{Kept, Outgoing, Target};
use crate::verify::Scheme;

/// The answer to `GET /`.
pub(super) const ABOUT: &str = "\
Weir ingest takes webhooks (POST /webhooks/{source}) and events (POST /v1/events/{service}, and /batch)
and answers 202 once they are kept. /openapi.json describes it; /health/ready, /health/live and /metrics
say how it is.
";

const DUPLICATE: HeaderName = HeaderName::from_static("weir-duplicate");

/// One event of a batch and what became of it.
#[derive(Debug)]
pub(super) struct Handled {
    /// The event, where it could be read.
    pub(super) event: Option<Outgoing>,
    /// Kept or not.
    pub(super) outcome: Result<Kept, Refusal>,
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to an event that is kept; a duplicate gets the same and a header.
pub(super) fn accepted(event: &Outgoing, target: &Target, kept: Kept) -> Response {
    #[derive(Serialize)]
    struct Accepted<'a> {
        id: &'a str,
        service: &'a str,
        subject: &'a str,
    }
    let (id, subject) = (event.id().as_str(), event.subject());
    let body = serde_json::to_vec(&Accepted {
        id,
        service: target.service().as_str(),
        subject,
    });
    let mut response = json(StatusCode::ACCEPTED, body.unwrap_or_default());
    if kept.duplicate {
        response
            .headers_mut()
            .insert(DUPLICATE, HeaderValue::from_static("true"));
    }
    response
}

/// The answer to a webhook that is kept: 202 the first time, 200 when it was kept before. Linear gets 200 each time: it
/// sends again whatever is answered otherwise. Source: linear.app/developers/webhooks.
pub(super) fn webhook(
    scheme: &Scheme,
    headers: &HeaderMap,
    event: &Outgoing,
    target: &Target,
    kept: Kept,
) -> Response {
    if must_be_empty(scheme, headers) {
        return Response::new(Body::empty());
    }
    let mut response = accepted(event, target, kept);
    if kept.duplicate || matches!(scheme, Scheme::Linear(_)) {
        *response.status_mut() = StatusCode::OK;
    }
    response
}

/// Whether the sender shows a body to its users: Slack does with the answers to interactions and slash commands, which
/// come as forms. Source: docs.slack.dev, responding to commands and handling interactions.
fn must_be_empty(scheme: &Scheme, headers: &HeaderMap) -> bool {
    let form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    matches!(scheme, Scheme::Slack(_)) && form.is_some_and(is_form)
}

/// The answer to a batch: 202 when every event is kept, 207 when some are not. When none is, and only because we
/// could not take them now, the whole request is refused as a single event would be: it can be sent again as it is.
pub(super) fn batch(handled: &[Handled]) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Results<'a> {
        results: Vec<Entry<'a>>,
    }
    #[derive(Serialize)]
    struct Entry<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        status: &'static str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    }
    let refused = handled.iter().filter(|h| h.outcome.is_err()).count();
    if refused > 0 {
        let temporary = |h: &Handled| h.outcome.as_ref().is_err_and(|r| r.code.is_temporary());
        if let (true, Some(Err(refusal))) =
            (handled.iter().all(temporary), handled.first().map(|h| &h.outcome))
        {
            return Err(refusal.clone());
        }
        tracing::info!(refused, of = handled.len(), "a batch was kept in part");
    }
    let entries = handled.iter().map(|Handled { event, outcome }| {
        let refusal = outcome.as_ref().err();
        Entry {
            id: event.as_ref().map(|event| event.id().as_str()),
            status: if refusal.is_some() { "refused" } else { "accepted" },
            duplicate: outcome.as_ref().is_ok_and(|kept| kept.duplicate),
            code: refusal.map(|r| r.code.word()),
            detail: refusal.map(|r| &*r.detail),
        }
    });
    let body = serde_json::to_vec(&Results {
        results: entries.collect(),
    });
    let body = Bytes::from(body.map_err(|e| Refusal::new(Code::Internal, e.to_string()))?);
    Ok(json(
        if refused == 0 {
            StatusCode::ACCEPTED
        } else {
            StatusCode::MULTI_STATUS
        },
        body,
    ))
}
