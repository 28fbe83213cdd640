//! `drive`: makes the calls to Google Drive (version 3) that an event describes.
//!
//! An event of type `call` says one outright: data `{"method": "PATCH", "path": "/files/ID?fields=id", "body": {…}}`,
//! below `/drive/v3`. `file.get` reads a file's metadata, `file.create` uploads one, `changes` reads
//! what has changed since the last time. Calls that may be repeated go together to the batch endpoint.

mod batch;
mod changes;
mod multipart;
mod upload;
mod wish;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode, header};
use redis::aio::ConnectionManager;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::config::Reader;
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::Charge;

use super::{
    Completion, Grouping, Handler, IDEMPOTENCY_KEY, Kind, Make, Outcome, Parts, Read, UNCHANGED, bucket_tag,
};
use crate::config::ServiceConfig;
use crate::effect::{Earlier, Effect, Found, Policy};
use crate::limits::Limits;
use crate::outbound::credential::{self, Credential, Mint};
use crate::outbound::{Answer, Outbound};
use crate::provider::Provider;
use crate::quota::Turn;
use wish::{Call, Wish};

/// `drive`, as workers know it. A file that was created is found again by its id.
pub const KIND: Kind = Kind {
    name: "drive",
    url: "https://www.googleapis.com",
    types: &["call", "file.get", "file.create", "changes"],
    concurrency: 10,
    timeout: Duration::from_secs(60),
    provider: Provider::Drive,
    unknown: Policy::LookUp,
    charged_apart: &[],
    own_endpoint: false,
    caches: true,
    read: Settings::read,
};

/// Most calls in a batch. Source: Google, Drive API, improve performance, batching requests.
const MOST: u32 = 100;
/// How long the first call of a batch waits for others.
const WITHIN: Duration = Duration::from_millis(100);
/// The scope of tokens unless the settings say otherwise.
const SCOPES: &str = "https://www.googleapis.com/auth/drive";
/// Longest body kept as a result, in bytes.
const MAX_RESULT: usize = 32 * 1024;

/// `_ACCOUNT`, `_SCOPES` and `_SUBJECT`: a service account in place of a `_TOKEN`.
#[derive(Debug)]
struct Settings {
    account: Option<Arc<Mint>>,
}

impl Settings {
    fn read(reader: &mut Reader<'_>, prefix: &str) -> Arc<dyn Make> {
        let account = credential::service_account(reader, prefix, SCOPES).map(Arc::new);
        Arc::new(Self { account })
    }
}

impl Make for Settings {
    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        let credential = match (&self.account, &config.token) {
            (Some(_), Some(_)) => {
                return Err("has a token and a service account: one of them is enough".into());
            }
            (Some(account), None) => Credential::minted(Arc::clone(account)),
            (None, token) => Credential::fixed(token.clone()),
        };
        let without_tls = |url: &String| url.starts_with("http://");
        if self.urls().iter().any(without_tls) && !config.urls.iter().all(without_tls) {
            return Err("has an account whose token_uri is not https".into());
        }
        if credential.is_none() {
            tracing::warn!(service = %config.service, "no token: Google refuses every call");
        }
        let burst = config.limits.get("requests").map_or(MOST, |set| set.rule.most());
        Ok(Arc::new(Drive {
            credential,
            redis: parts.redis,
            tag: bucket_tag(config),
            outbound: parts.outbound,
            most: MOST.min(burst) as usize,
        }))
    }

    fn urls(&self) -> Vec<String> {
        self.account
            .iter()
            .filter_map(|account| account.url().map(str::to_owned))
            .collect()
    }

    fn identity(&self) -> Option<String> {
        self.account.as_ref().map(|account| account.identity())
    }
}

/// Calls Drive with one credential.
#[derive(Debug)]
struct Drive {
    credential: Credential,
    /// Where feeds stand, and the ids of files that are being created.
    redis: ConnectionManager,
    /// Service and credential.
    tag: String,
    outbound: Outbound,
    /// Most calls in a batch: no more than may be made at once.
    most: usize,
}

/// An answer and what it means.
type Judged = (Answer, Result<(), Failure>);

impl Drive {
    /// Makes a request below the service's URL and takes in what its answer says of the limits.
    async fn send(
        &self,
        method: Method,
        path: &str,
        turn: &Turn,
        more: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Judged, Failure> {
        let url = Url::parse(&format!("{}{path}", turn.upstream()?.base));
        let url = url.map_err(|e| Failure::permanent("call", e))?;
        self.send_to(url, method, turn, more).await
    }

    async fn send_to(
        &self,
        url: Url,
        method: Method,
        turn: &Turn,
        more: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Judged, Failure> {
        let base = &turn.upstream()?.base;
        let token = self.credential.token(&self.outbound, base).await?;
        let route = route(url.path());
        let client: &Client = self.outbound.client();
        let mut request = more(client.request(method, url));
        if let Some(token) = &token {
            request = request.bearer_auth(token);
        }
        let request = request
            .build()
            .map_err(|e| Failure::permanent("request", e.without_url()))?;
        let answer = self.outbound.fetch(request, route).await?;
        let reading = turn.answered(&answer);
        let mut judged = Provider::Drive.failure(&answer, &reading, SystemTime::now());
        if let (StatusCode::UNAUTHORIZED, Some(token)) = (answer.status, token)
            && self.credential.refused(&token).await
        {
            judged = judged.map_err(|failure| Failure::transient("http_401", &failure.reason().detail));
        }
        Ok((answer, judged))
    }

    async fn make(&self, event: &Event, turn: &Turn) -> Outcome {
        match Wish::of(event)? {
            None => Ok(Completion::nothing_to_do()),
            Some(Wish::Call(call)) => self.call(&call, event, turn).await,
            Some(Wish::Create(new)) => upload::create(self, event, &new, turn).await,
            Some(Wish::Changes(asked)) => changes::read(self, event, &asked, turn).await,
        }
    }

    async fn call(&self, call: &Call, event: &Event, turn: &Turn) -> Outcome {
        let known = turn.knows(&event.id);
        let (answer, judged) = self
            .send(call.method.clone(), &call.full_path(), turn, |request| {
                let mut request = request.header(IDEMPOTENCY_KEY, event.id.as_str());
                if let Some(etag) = known {
                    request = request.header(header::IF_NONE_MATCH, etag);
                }
                match &call.body {
                    Some(body) => request.json(body),
                    None => request,
                }
            })
            .await?;
        Self::done(call, &answer, judged, known.is_some())
    }

    /// The outcome of a call, alone or in a batch; of one whose answer is `known`, perhaps that it is as it was.
    fn done(call: &Call, answer: &Answer, judged: Result<(), Failure>, known: bool) -> Outcome {
        let code = format!("http_{}", answer.status.as_u16());
        match answer.status {
            StatusCode::NOT_MODIFIED if known => return Ok(Completion::new(UNCHANGED)),
            // What is to be deleted is not there: an earlier attempt may have done it.
            StatusCode::NOT_FOUND if call.method == Method::DELETE => return Ok(Completion::new(code)),
            _ => judged?,
        }
        let etag = answer.headers.get(header::ETAG);
        let etag = etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        Ok(Completion {
            etag,
            ..Completion::with(code, result(answer))
        })
    }

    /// A call that goes together with others.
    fn batched(event: &Event) -> Option<Call> {
        match Wish::of(event).ok().flatten()? {
            Wish::Call(call) if call.can_be_batched() => Some(call),
            _ => None,
        }
    }
}

impl Handler for Drive {
    /// Every request counts: those that an upload needs, those that a look at the changes may need.
    fn charges(&self, event: &Event, limits: &Limits) -> Vec<Charge> {
        let more = match Wish::of(event) {
            Ok(Some(Wish::Create(new))) => upload::requests(&new) - 1,
            Ok(Some(Wish::Changes(_))) => changes::REQUESTS - 1,
            _ => 0,
        };
        let more = (more > 0).then(|| limits.charge("requests", more));
        more.flatten().into_iter().collect()
    }

    fn effect(&self, event: &Event) -> Effect {
        match Wish::of(event) {
            Ok(Some(Wish::Call(call))) if call.method == Method::POST => Effect::Once,
            Ok(Some(Wish::Create(_))) => Effect::Once,
            _ => Effect::Repeatable,
        }
    }

    fn look_up<'a>(
        &'a self,
        event: &'a Event,
        _: Earlier,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Result<Found, Failure>> {
        upload::look_up(self, event, turn).boxed()
    }

    fn read(&self, event: &Event) -> Option<Read> {
        match Wish::of(event).ok()?? {
            Wish::Call(call) => call.read(),
            Wish::Create(_) | Wish::Changes(_) => None,
        }
    }

    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Outcome> {
        self.make(event, turn).boxed()
    }

    fn grouping(&self) -> Option<Grouping> {
        (self.most > 1).then_some(Grouping {
            most: self.most,
            within: WITHIN,
        })
    }

    fn group(&self, event: &Event) -> Option<String> {
        Self::batched(event).map(|_| "batch".into())
    }

    /// A batch counts as many calls as it holds.
    fn group_charges(&self, events: &[&Event], limits: &Limits) -> Vec<Charge> {
        let more = events.len().saturating_sub(1) as u32;
        let more = (more > 0).then(|| limits.charge("requests", more));
        more.flatten().into_iter().collect()
    }

    fn handle_group<'a>(
        &'a self,
        events: Vec<&'a Event>,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Vec<Option<Outcome>>> {
        async move { batch::all(self, &events, turn).await }.boxed()
    }
}

/// What is kept of an answer: its JSON, when it is short, else its size and what it is known by.
fn result(answer: &Answer) -> Value {
    let short = answer.body.len() <= MAX_RESULT;
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(data) if short => json!({"data": data}),
        _ => json!({
            "bytes": answer.body.len(),
            "sha256": hex::encode(Sha256::digest(&answer.body)),
            "cut": answer.cut,
        }),
    }
}

/// The kind of a call for traces, ids left out.
fn route(path: &str) -> &'static str {
    let path = path.trim_start_matches('/');
    if path.starts_with("batch/") {
        "/batch/drive/v3"
    } else if path.starts_with("upload/") {
        "/upload/drive/v3/files"
    } else {
        match path
            .strip_prefix("drive/v3/")
            .unwrap_or_default()
            .split('/')
            .next()
        {
            Some("files") => "/drive/v3/files",
            Some("changes") => "/drive/v3/changes",
            _ => "/drive/v3/…",
        }
    }
}

#[cfg(test)]
mod tests;
