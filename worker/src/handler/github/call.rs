//! What an event asks of GitHub's REST API.

use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;

use super::query;
use crate::handler::path::safe_path;
use crate::handler::read::{Read, max_age};

/// A call, as an event of type `call` holds it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    #[serde(default = "get")]
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) body: Option<Value>,
    /// How many seconds old the answer to a GET may be.
    #[serde(default)]
    pub(super) max_age: Option<u64>,
}

fn get() -> String {
    "GET".into()
}

pub(super) fn bad(what: &str) -> Failure {
    Failure::permanent("call", format!("data does not describe a call: {what}"))
}

/// The call that an event describes; `None` for one about nothing that the API could be asked for.
pub(super) fn describe(event: &Event) -> Result<Option<Call>, Failure> {
    if event.kind != "call" {
        return Ok(subject_of(event)?.map(|path| Call {
            method: get(),
            path,
            body: None,
            max_age: None,
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
            "path must begin with / and hold no . or .. between slashes, no letter as %41, and no control characters",
        )),
    }
}

/// What an event reads, if it only reads.
pub(super) fn reads(event: &Event) -> Option<Read> {
    if event.kind == query::KIND {
        return None;
    }
    let call = describe(event).ok()??;
    if call.method != "GET" || call.body.is_some() {
        return None;
    }
    let repository = repository(&call.path);
    let mut again = json!({"path": call.path});
    if let Some(seconds) = call.max_age {
        again["max_age"] = seconds.into();
    }
    Some(Read {
        name: format!("GET {}", call.path),
        tags: repository.iter().map(|named| format!("repo:{named}")).collect(),
        max_age: call.max_age.map(max_age),
        is_news: event.kind != "call",
        repository,
        again: ("call", again),
    })
}

/// `owner/name` of the repository that a path lies in. GitHub does not tell cases apart.
fn repository(path: &str) -> Option<String> {
    let path = path.split('?').next()?;
    let mut parts = path.strip_prefix("/repos/")?.split('/');
    let (owner, name) = (parts.next()?, parts.next()?);
    // What is longer is no repository, and no tag.
    let fits = !owner.is_empty() && !name.is_empty() && owner.len() + name.len() < 120;
    fits.then(|| format!("{owner}/{name}").to_ascii_lowercase())
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

/// The kind of a call for traces: `/repos/{owner}/{repo}/issues`, ids left out.
pub(super) fn route(path: &str) -> &'static str {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn what_is_read_is_named_by_its_path_and_belongs_to_its_repository() {
        let read = |kind: &str, data: Value| reads(&event(kind, &data));
        let call = read(
            "call",
            json!({"path": "/repos/Octo/Hello/issues?page=2", "max_age": 60}),
        )
        .unwrap();
        assert_eq!(call.name, "GET /repos/Octo/Hello/issues?page=2");
        assert_eq!(call.tags, ["repo:octo/hello"]);
        assert_eq!(
            (call.max_age, call.is_news),
            (Some(Duration::from_secs(60)), false)
        );
        let webhook =
            json!({"issue": {"url": "https://api.github.com/repos/octo/hello/issues/7"}, "more": "x"});
        let webhook = read("issues.edited", webhook).unwrap();
        assert!(webhook.is_news && webhook.max_age.is_none());
        // What is fetched ahead is the same.
        for first in [&call, &webhook] {
            let again = read(first.again.0, first.again.1.clone()).unwrap();
            assert_eq!((&again.name, &again.max_age), (&first.name, &first.max_age));
            assert!(!again.is_news);
        }
        assert_eq!(read("call", json!({"path": "/user"})).unwrap().tags, [""; 0]);
        for other in [
            json!({"path": "/repos/o/r", "method": "HEAD"}),
            json!({"path": "/repos/o/r", "method": "PATCH", "body": {}}),
            json!({"path": "/repos/o/r", "body": {}}),
            json!({"path": "../x"}),
        ] {
            assert_eq!(read("call", other.clone()), None, "{other}");
        }
        assert_eq!(read("graphql", json!({"query": "{ viewer { id } }"})), None);
        assert_eq!(read("ping", json!({"zen": "x"})), None);
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
            "/./repos/octo/hello",
            "/repos/octo/hell%6f",
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
        for path in [
            "/user?per_page=1",
            "/repos/o/r/contents/a%20b%2Fc?ref=v1.0",
            "/search/code?q=%61",
        ] {
            assert!(describe(&event("call", &json!({"path": path}))).is_ok(), "{path}");
        }
    }
}
