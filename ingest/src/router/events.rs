//! The routes of publishers: one event, and many in one request.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, header, request::Parts};

use super::answer::{self, Handled};
use super::{App, LARGE, aside};
use crate::accept::api::Wishes;
use crate::batch::{self, Form};
use crate::error::{Code, Refusal};
use crate::metrics::Route;
use crate::publish::{Outgoing, Target};
use crate::tokens::Token;

/// Events of one batch that wait for NATS at once.
const BATCH_WINDOW: usize = 256;

/// Who publishes to what: the first thing asked of every request to the API.
fn publisher_of<'a>(
    app: &'a App,
    parts: &Parts,
    service: &str,
) -> Result<(&'a Token, &'a Arc<Target>), Refusal> {
    let token = app.tokens.authenticate(&parts.headers)?;
    let target = app.target(service)?;
    token.check(target.service())?;
    if let Some(encoding) = parts
        .headers
        .get(header::CONTENT_ENCODING)
        .filter(|e| *e != "identity")
    {
        let detail = format!("content encoding {encoding:?} is not read here: send the body as it is");
        return Err(Refusal::new(Code::MediaType, detail));
    }
    Ok((token, target))
}

/// The media types that bodies of the API may have.
fn form(headers: &HeaderMap) -> Option<Form> {
    let essence = headers
        .get(header::CONTENT_TYPE)?
        .to_str()
        .ok()?
        .split(';')
        .next()?
        .trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/json" => Some(Form::Json),
        "application/x-ndjson" => Some(Form::Lines),
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Some(Form::Msgpack),
        _ => None,
    }
}

/// `POST /v1/events/{service}`
pub(super) async fn one(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let service = parts.uri.path().strip_prefix("/v1/events/").unwrap_or_default();
    let work = async {
        let (token, target) = publisher_of(&app, &parts, service)?;
        if !matches!(form(&parts.headers), Some(Form::Json | Form::Msgpack)) {
            let detail = "content-type must be application/json or application/msgpack";
            return Err(Refusal::new(Code::MediaType, detail));
        }
        let wishes = Wishes::read(&parts.headers, token, SystemTime::now())?;
        let mut body = app.bodies.read(&parts.headers, body).await?;
        let bytes = std::mem::take(&mut body.bytes);
        let long = bytes.len() > LARGE;
        let encode = {
            let target = Arc::clone(target);
            move || {
                Ok::<_, Refusal>(Outgoing::new(
                    wishes.event(&bytes)?,
                    target.service(),
                    wishes.deliver_at,
                ))
            }
        };
        let event = if long { aside(encode).await? } else { encode() }?;
        let kept = app.publisher.publish(&event, target).await?;
        if !kept.duplicate {
            target.metrics.api.inc();
        }
        Ok(answer::accepted(&event, target, kept))
    };
    app.answer(Route::Event, &parts, work).await
}

/// `POST /v1/events/{service}/batch`
pub(super) async fn many(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let service = path
        .strip_prefix("/v1/events/")
        .and_then(|rest| rest.strip_suffix("/batch"))
        .unwrap_or_default();
    let work = async {
        let (token, target) = publisher_of(&app, &parts, service)?;
        let form = form(&parts.headers).ok_or_else(|| {
            let detail = "content-type must be application/json, application/x-ndjson or application/msgpack";
            Refusal::new(Code::MediaType, detail)
        })?;
        let wishes = Wishes::read(&parts.headers, token, SystemTime::now())?;
        let mut body = app.bodies.read(&parts.headers, body).await?;
        let bytes = std::mem::take(&mut body.bytes);
        let long = bytes.len() > LARGE;
        let encode = {
            let target = Arc::clone(target);
            move || {
                let encode = |(at, raw): (usize, &Bytes)| {
                    Ok(Outgoing::new(
                        wishes.batch_event(raw, at)?,
                        target.service(),
                        wishes.deliver_at,
                    ))
                };
                Ok::<_, Refusal>(
                    batch::split(form, &bytes)?
                        .iter()
                        .enumerate()
                        .map(encode)
                        .collect(),
                )
            }
        };
        let events: Vec<Result<Outgoing, Refusal>> = if long { aside(encode).await? } else { encode() }?;
        let results = publish_all(&app, events, target).await;
        answer::batch(&results)
    };
    app.answer(Route::Batch, &parts, work).await
}

/// Publishes what can be published, in order, many at once; a refused event stops none of the others.
async fn publish_all(app: &App, events: Vec<Result<Outgoing, Refusal>>, target: &Target) -> Vec<Handled> {
    let publish = |event: Result<Outgoing, Refusal>| async move {
        let result = match event {
            Ok(event) => Handled {
                outcome: app.publisher.publish(&event, target).await,
                event: Some(event),
            },
            Err(refusal) => Handled {
                event: None,
                outcome: Err(refusal),
            },
        };
        match &result.outcome {
            Ok(kept) if !kept.duplicate => drop(target.metrics.api.inc()),
            Ok(_) => {}
            Err(refusal) => app.metrics.refuse(refusal.code),
        }
        result
    };
    stream::iter(events)
        .map(publish)
        .buffered(BATCH_WINDOW)
        .collect()
        .await
}
