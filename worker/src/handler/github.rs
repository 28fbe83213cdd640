//! `github`: makes the REST call that an event describes.
//!
//! An event of type `call` says it outright: data `{"method": "POST", "path": "/repos/o/r/issues/1/comments",
//! "body": {…}}`. A webhook of GitHub describes one too: it is about a thing with an API URL, and what the thing is now
//! is asked of the API (a webhook may be old when it is worked off). Only the path of such a URL is used; the call goes
//! to the configured API.

mod writing;

use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, header};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;
use shared::limiter::Charge;

use super::{Completion, Handler, IDEMPOTENCY_KEY};
use crate::config::ServiceConfig;
use crate::effect::{Earlier, Effect, Found};
use crate::limits::Limits;
use crate::outbound::{Answer, Outbound};
use crate::provider::{Provider, github as provider};
use crate::quota::Turn;

/// Calls one GitHub API with one credential.
#[derive(Debug)]
pub struct Github {
    token: Option<String>,
    outbound: Outbound,
}

/// A call, as an event of type `call` holds it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    #[serde(default = "get")]
    method: String,
    path: String,
    #[serde(default)]
    body: Option<Value>,
}

fn get() -> String {
    "GET".into()
}

impl Github {
    /// The API at the service's `_URL`, with its `_TOKEN`.
    pub fn new(config: &ServiceConfig, outbound: Outbound) -> Result<Self, String> {
        if config.token.is_none() {
            tracing::warn!(service = %config.service, "no token: GitHub allows 60 calls an hour without one");
        }
        Ok(Self {
            token: config.token.clone(),
            outbound,
        })
    }

    /// A request with what every call to GitHub carries.
    fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        let request = self
            .outbound
            .client()
            .request(method, url)
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28");
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn make(&self, event: &Event, turn: &Turn) -> Result<Completion, Failure> {
        let Some(call) = describe(event)? else {
            return Ok(Completion::new("nothing_to_do"));
        };
        let method: Method = call.method.parse().map_err(|_| bad("method is none"))?;
        let url = Url::parse(&format!("{}{}", turn.upstream()?.base, call.path))
            .map_err(|e| bad(&e.to_string()))?;
        let mut request = self
            .request(method, url)
            .header(IDEMPOTENCY_KEY, event.id.as_str());
        if let Some(body) = &call.body {
            request = match writing::marked(&call, event, self.token.as_deref()) {
                Some(marked) => request.json(&marked),
                None => request.json(body),
            };
        }
        let request = request.build().map_err(|e| Failure::permanent("request", e))?;
        let answer = self.outbound.call(request, route(&call.path)).await?;
        let reading = turn.answered(&answer);
        Provider::Github.failure(&answer, &reading, SystemTime::now())?;
        Ok(completion(&answer))
    }
}

impl Handler for Github {
    /// A write costs more points than the one that every call costs, and creates content.
    fn charges(&self, event: &Event, limits: &Limits) -> Vec<Charge> {
        let method = describe(event)
            .ok()
            .flatten()
            .and_then(|call| call.method.parse::<Method>().ok());
        let points = method.as_ref().map_or(1, provider::points);
        if points == 1 {
            return Vec::new();
        }
        let charges = [("points", points - 1), ("content", 1), ("content-hour", 1)];
        charges
            .into_iter()
            .filter_map(|(name, cost)| limits.charge(name, cost))
            .collect()
    }

    fn effect(&self, event: &Event) -> Effect {
        match describe(event) {
            Ok(Some(call)) if matches!(&*call.method, "POST" | "PATCH") => Effect::Once,
            _ => Effect::Repeatable,
        }
    }

    fn look_up<'a>(
        &'a self,
        event: &'a Event,
        earlier: Earlier,
        turn: &'a Turn,
    ) -> BoxFuture<'a, Result<Found, Failure>> {
        writing::look_up(self, event, earlier, turn).boxed()
    }

    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.make(event, turn).boxed()
    }
}

fn bad(what: &str) -> Failure {
    Failure::permanent("call", format!("data does not describe a call: {what}"))
}

/// The call that an event describes; `None` for one about nothing that the API could be asked for.
fn describe(event: &Event) -> Result<Option<Call>, Failure> {
    if event.kind != "call" {
        return Ok(subject_of(event)?.map(|path| Call {
            method: get(),
            path,
            body: None,
        }));
    }
    let data = event
        .data
        .to_json()
        .map_err(|e| bad(&e))?
        .ok_or_else(|| bad("it is empty or no JSON"))?;
    let call: Call = serde_json::from_value(data).map_err(|e| bad(&e.to_string()))?;
    if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&call.method.as_str()) {
        return Err(bad("method must be GET, HEAD, POST, PUT, PATCH or DELETE"));
    }
    match safe_path(&call.path) {
        Some(()) => Ok(Some(call)),
        None => Err(bad(
            "path must begin with / and hold no .. and no control characters",
        )),
    }
}

/// A thing with an API URL in a webhook.
#[derive(Deserialize)]
struct Thing {
    url: Option<String>,
}

/// What a webhook can be about, the most specific first. Only these fields are parsed.
#[derive(Deserialize)]
struct About {
    comment: Option<Thing>,
    review: Option<Thing>,
    check_run: Option<Thing>,
    workflow_run: Option<Thing>,
    deployment_status: Option<Thing>,
    deployment: Option<Thing>,
    release: Option<Thing>,
    pull_request: Option<Thing>,
    issue: Option<Thing>,
    milestone: Option<Thing>,
    label: Option<Thing>,
    head_commit: Option<Thing>,
    commit: Option<Thing>,
    team: Option<Thing>,
    forkee: Option<Thing>,
    repository: Option<Thing>,
    organization: Option<Thing>,
}

fn subject_of(event: &Event) -> Result<Option<String>, Failure> {
    let about: About = match &event.data {
        shared::event::Data::Blob { content_type, bytes } if shared::event::is_json(content_type) => {
            serde_json::from_slice(bytes).map_err(|e| bad(&e.to_string()))?
        }
        _ => match event.data.to_json().map_err(|e| bad(&e))? {
            Some(data @ Value::Object(_)) => serde_json::from_value(data).map_err(|e| bad(&e.to_string()))?,
            _ => return Ok(None),
        },
    };
    // What is deleted is not there any more: its surroundings are.
    let deleted = event.kind.ends_with(".deleted") || event.kind.ends_with(".removed");
    let things = [
        about.comment,
        about.review,
        about.check_run,
        about.workflow_run,
        about.deployment_status,
        about.deployment,
        about.release,
        about.pull_request,
        about.issue,
        about.milestone,
        about.label,
        about.head_commit,
        about.commit,
        about.team,
        about.forkee,
        about.repository,
        about.organization,
    ];
    let mut paths = things
        .into_iter()
        .flatten()
        .filter_map(|thing| api_path(&thing.url?));
    Ok(paths.nth(usize::from(deleted)))
}

/// The path of an API URL of any GitHub (github.com or an Enterprise server); `None` for a page for people.
fn api_path(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let path = url.path();
    let path = path.strip_prefix("/api/v3").unwrap_or(path);
    let first = path.split('/').nth(1)?;
    let known = ["repos", "orgs", "organizations", "users", "teams", "gists"].contains(&first);
    (known && safe_path(path).is_some()).then(|| path.to_owned())
}

fn safe_path(path: &str) -> Option<()> {
    let rooted = path.starts_with('/') && !path.starts_with("//");
    let clean = path
        .chars()
        .all(|c| !c.is_control() && c != '\\' && c != ' ' && c != '#');
    // An encoded dot is a dot to whoever parses the URL.
    let inside =
        path.split(['/', '?']).all(|part| part != "..") && !path.to_ascii_lowercase().contains("%2e");
    (rooted && clean && inside).then_some(())
}

/// The kind of a call for traces: `/repos/{owner}/{repo}/issues`, ids left out.
fn route(path: &str) -> &'static str {
    let parts: Vec<&str> = path
        .split('?')
        .next()
        .unwrap_or_default()
        .split('/')
        .skip(1)
        .collect();
    match (parts.first().copied(), parts.get(3).copied()) {
        (Some("repos"), None) => "/repos/{owner}/{repo}",
        (Some("repos"), Some("issues")) => "/repos/{owner}/{repo}/issues",
        (Some("repos"), Some("pulls")) => "/repos/{owner}/{repo}/pulls",
        (Some("repos"), Some("commits")) => "/repos/{owner}/{repo}/commits",
        (Some("repos"), Some(_)) => "/repos/{owner}/{repo}/…",
        (Some("orgs" | "organizations"), _) => "/orgs/{org}",
        (Some("users" | "user"), _) => "/users",
        _ => "/…",
    }
}

fn completion(answer: &Answer) -> Completion {
    let text = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok());
    let result = json!({
        "status": answer.status.as_u16(),
        "etag": text("etag"),
        "bytes": answer.body.len(),
        "ratelimit_remaining": text("x-ratelimit-remaining"),
        "request_id": text("x-github-request-id"),
    });
    Completion {
        code: format!("http_{}", answer.status.as_u16()).into(),
        result: Some(result),
    }
}

#[cfg(test)]
mod tests {
    use shared::event::{Data, EventId};

    use super::*;

    fn event(kind: &str, data: &Value) -> Event {
        Event {
            data: Data::json(data.to_string()),
            ..Event::new(EventId::generate(), kind)
        }
    }

    #[test]
    fn webhooks_describe_the_thing_they_are_about() {
        let api = "https://api.github.com/repos/octo/hello";
        let data = json!({
            "issue": {"url": format!("{api}/issues/7")}, "repository": {"url": api},
            "comment": {"url": format!("{api}/issues/comments/9")},
        });
        let path = |kind| describe(&event(kind, &data)).unwrap().unwrap().path;
        assert_eq!(
            path("issue_comment.created"),
            "/repos/octo/hello/issues/comments/9"
        );
        assert_eq!(path("issue_comment.deleted"), "/repos/octo/hello/issues/7");
        let enterprise = json!({"repository": {"url": "https://ghe.example/api/v3/repos/octo/hello"}});
        assert_eq!(
            describe(&event("star", &enterprise)).unwrap().unwrap().path,
            "/repos/octo/hello"
        );
        let page = json!({"repository": {"url": "https://github.com/octo/hello"}, "organization": {"url": "https://api.github.com/orgs/octo"}});
        assert_eq!(
            describe(&event("push", &page)).unwrap().unwrap().path,
            "/orgs/octo"
        );
        assert_eq!(describe(&event("ping", &json!({"zen": "x"}))).unwrap(), None);
    }

    #[test]
    fn calls_that_would_leave_the_api_are_refused() {
        for path in [
            "",
            "repos",
            "//evil.example/x",
            "/repos/../../x",
            "/a b",
            "/a\nb",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a#b",
            "/a\\b",
        ] {
            assert!(
                describe(&event("call", &json!({"path": path}))).is_err(),
                "{path:?}"
            );
        }
        assert!(describe(&event("call", &json!({"path": "/user", "method": "CONNECT"}))).is_err());
        assert!(describe(&event("call", &json!({"path": "/user", "metod": "GET"}))).is_err());
        assert!(describe(&event("call", &json!({"path": "/user?per_page=1"}))).is_ok());
    }
}
