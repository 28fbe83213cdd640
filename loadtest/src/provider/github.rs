//! GitHub's APIs as far as limits and headers go.
//!
//! Source of the limits and of the texts: GitHub's "Rate limits for the REST API".

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

mod app;
mod graphql;

use super::{
    clock::Moment,
    exchange::{Ask, Reply},
    kept::{self, Kept},
    ledger::fingerprint,
    limits::{Admission, Demand, Shape, Standing},
    window::Window,
};

const LIMITS_DOC: &str = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api";
/// GitHub asks for a minute at least where it tells no other time.
const SECONDARY_WAIT_SECONDS: u64 = 60;
/// Points that GitHub allows REST calls with one credential.
pub const POINTS: Window = Window::per_minute(900);
/// Points of a POST, PUT, PATCH or DELETE; any other call is one.
const WRITE_POINTS: u32 = 5;

/// How the primary limit stands: its size, what is left, what is used, when it comes back, which one it is.
const QUOTA: [&str; 5] = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-used",
    "x-ratelimit-reset",
    "x-ratelimit-resource",
];

/// With which status a call over the limit is refused; GitHub documents both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// 403.
    Forbidden,
    /// 429.
    TooMany,
    /// 403 and 429 in turn.
    #[default]
    Alternating,
}

/// What GitHub allows one credential.
#[derive(Clone, Debug)]
pub struct GithubLimits {
    /// Calls to REST outside of search.
    pub core: Window,
    /// Calls to `/search/`.
    pub search: Window,
    /// Calls to GraphQL, each of which is a point here.
    pub graphql: Window,
    /// How the primary limits are counted.
    pub shape: Shape,
    /// Writes (POST, PUT, PATCH, DELETE) allowed, as each may create content; a secondary limit, not shown in headers.
    pub writes: Window,
    /// Points allowed: a read is 1, a write 5. A secondary limit, not shown in headers; `None` counts none. GitHub
    /// allows [`POINTS`].
    pub points: Option<Window>,
    /// Requests at the same time; a secondary limit.
    pub concurrent: usize,
    /// Status of refusals.
    pub refusal: Refusal,
    /// Whether answers tell in `x-ratelimit-*` how the primary limit stands; GitHub's do.
    pub headers: bool,
}

impl Default for GithubLimits {
    /// A user's limits: 5,000/h, search 30/min, 80 content creations/min, 100 at a time; points are not counted.
    fn default() -> Self {
        Self {
            core: Window::per_hour(5000),
            search: Window::per_minute(30),
            graphql: Window::per_hour(5000),
            shape: Shape::Fixed,
            writes: Window::per_minute(80),
            points: None,
            concurrent: 100,
            refusal: Refusal::default(),
            headers: true,
        }
    }
}

/// The answer without a credential, `None` when there is one.
pub fn refuse_stranger(ask: &Ask) -> Option<Reply> {
    let body = json!({
        "message": "Requires authentication",
        "documentation_url": "https://docs.github.com/rest",
        "status": "401",
    });
    let stranger = ask.credential().is_none();
    stranger.then(|| signed(ask, Reply::json(StatusCode::UNAUTHORIZED, &body)).rejected())
}

/// The answer to a comment without a text, `None` to any other call.
pub fn refuse_wrong(ask: &Ask) -> Option<Reply> {
    let wrong = kept::creates_comment(ask) && kept::comment_text(ask).is_none();
    let body = json!({
        "message": "Validation Failed",
        "errors": [{"resource": "IssueComment", "code": "missing_field", "field": "body"}],
        "status": "422",
    });
    wrong.then(|| signed(ask, Reply::json(StatusCode::UNPROCESSABLE_ENTITY, &body)).rejected())
}

/// The limits a call has to pass, the primary one first. None for `/rate_limit` and answers from a client's cache.
pub fn demands(limits: &GithubLimits, ask: &Ask) -> Vec<Demand> {
    if ask.path == "/rate_limit" || not_modified(ask) || app::installation(ask).is_some() {
        return Vec::new();
    }
    let mut demands = vec![primary(limits, ask)];
    if is_write(ask) {
        let scope = ask.scope();
        demands.push(Demand::new("github writes", scope, limits.writes, Shape::Sliding));
    }
    if let Some(window) = limits.points {
        demands.push(Demand {
            cost: if is_write(ask) { WRITE_POINTS } else { 1 },
            ..Demand::new("github points", ask.scope(), window, Shape::Sliding)
        });
    }
    demands
}

/// The primary limit that counts for a path.
pub fn primary(limits: &GithubLimits, ask: &Ask) -> Demand {
    let resource = resource(ask);
    let window = match resource {
        "search" => limits.search,
        "graphql" => limits.graphql,
        _ => limits.core,
    };
    Demand::new(format!("github {resource}"), ask.scope(), window, limits.shape)
}

/// The answer to a call within its limits.
pub(super) fn serve(ask: &Ask, standing: Standing, now: Moment, kept: &Kept) -> Reply {
    if ask.path == "/rate_limit" {
        let core = json!({
            "limit": standing.limit, "used": standing.used, "remaining": standing.remaining(),
            "reset": now.epoch_seconds(standing.resets_at),
        });
        let body = json!({"resources": {"core": core}, "rate": core});
        return quota(
            signed(ask, Reply::json(StatusCode::OK, &body)),
            ask,
            standing,
            now,
        );
    }
    if let Some(installation) = app::installation(ask) {
        return signed(ask, app::serve(ask, installation, now));
    }
    let reply = if graphql::is(ask) {
        graphql::serve(ask)
    } else if not_modified(ask) {
        Reply::empty(StatusCode::NOT_MODIFIED).with("etag", etag(&resource_body(ask)))
    } else if kept::creates_comment(ask) {
        Reply::json(StatusCode::CREATED, &kept.comment(ask, now))
    } else if ask.method == Method::GET && kept::lists_comments(ask) {
        let (page, more) = kept.comments(ask);
        let reply = Reply::json(StatusCode::OK, &page);
        if more {
            reply.with("link", next_page(ask))
        } else {
            reply
        }
    } else if ask.method == Method::DELETE {
        Reply::empty(StatusCode::NO_CONTENT)
    } else if ask.method == Method::POST {
        Reply::json(StatusCode::CREATED, &resource_body(ask))
    } else {
        let body = resource_body(ask);
        Reply::json(StatusCode::OK, &body).with("etag", etag(&body))
    };
    quota(signed(ask, reply), ask, standing, now)
}

/// The answer to a call over a limit. `turn` counts refusals, for alternating statuses.
pub fn refuse(limits: &GithubLimits, ask: &Ask, admission: &Admission, now: Moment, turn: u64) -> Reply {
    let status = status(limits.refusal, turn);
    let standing = admission.standings.first().copied();
    if admission.breached == Some(0) {
        let body = json!({
            "message": "API rate limit exceeded for user ID 1. If you reach out to GitHub Support for help, please include the request ID.",
            "documentation_url": LIMITS_DOC,
            "status": status.as_str(),
        });
        let reply = signed(ask, Reply::json(status, &body)).rejected();
        return match standing {
            Some(standing) => quota(reply, ask, standing, now),
            None => reply,
        };
    }
    let wait = admission
        .breached
        .and_then(|index| admission.standings.get(index))
        .map_or(SECONDARY_WAIT_SECONDS, |standing| {
            now.seconds_until(standing.room_at)
        });
    secondary(ask, status, wait, standing, now)
}

/// The answer to a call beyond the requests allowed at a time.
pub fn refuse_crowd(limits: &GithubLimits, ask: &Ask, standing: Standing, now: Moment, turn: u64) -> Reply {
    let status = status(limits.refusal, turn);
    secondary(ask, status, SECONDARY_WAIT_SECONDS, Some(standing), now)
}

fn secondary(
    ask: &Ask,
    status: StatusCode,
    wait_seconds: u64,
    standing: Option<Standing>,
    now: Moment,
) -> Reply {
    let body = json!({
        "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        "documentation_url": format!("{LIMITS_DOC}#about-secondary-rate-limits"),
        "status": status.as_str(),
    });
    let reply = signed(ask, Reply::json(status, &body))
        .rejected()
        .with("retry-after", wait_seconds);
    match standing {
        Some(standing) => quota(reply, ask, standing, now),
        None => reply,
    }
}

fn status(refusal: Refusal, turn: u64) -> StatusCode {
    let forbidden = match refusal {
        Refusal::Forbidden => true,
        Refusal::TooMany => false,
        Refusal::Alternating => turn.is_multiple_of(2),
    };
    if forbidden {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::TOO_MANY_REQUESTS
    }
}

fn quota(reply: Reply, ask: &Ask, standing: Standing, now: Moment) -> Reply {
    let [limit, remaining, used, reset, pool] = QUOTA;
    reply
        .with(limit, standing.limit)
        .with(remaining, standing.remaining())
        .with(used, standing.used)
        .with(reset, now.epoch_seconds(standing.resets_at))
        .with(pool, resource(ask))
}

/// The answer as it is sent: without what is not to be told.
pub fn told(limits: &GithubLimits, mut reply: Reply) -> Reply {
    if !limits.headers {
        for name in QUOTA {
            reply.headers.remove(name);
        }
    }
    reply
}

fn signed(ask: &Ask, reply: Reply) -> Reply {
    let id = uuid::Uuid::now_v7().simple().to_string().to_uppercase();
    let version = ask
        .header("x-github-api-version")
        .unwrap_or("2022-11-28")
        .to_owned();
    reply
        .with("x-github-request-id", format!("{}:{}", &id[..4], &id[12..]))
        .with("x-github-api-version-selected", version)
        .with("x-github-media-type", "github.v3; format=json")
}

fn resource(ask: &Ask) -> &'static str {
    if ask.path.starts_with("/search/") {
        "search"
    } else if graphql::is(ask) {
        "graphql"
    } else {
        "core"
    }
}

pub(super) fn is_write(ask: &Ask) -> bool {
    let writes = matches!(
        ask.method,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    );
    if graphql::is(ask) {
        graphql::writes(ask)
    } else {
        writes && app::installation(ask).is_none()
    }
}

/// Where the next page is.
fn next_page(ask: &Ask) -> String {
    let page = ask.in_query("page").and_then(|page| page.parse::<u64>().ok());
    let query: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form_urlencoded::parse(ask.query.as_bytes()).filter(|(name, _)| name != "page"))
        .append_pair("page", &(page.unwrap_or(1).max(1) + 1).to_string())
        .finish();
    let host = ask.header("host").unwrap_or("localhost");
    format!("<http://{host}{}?{query}>; rel=\"next\"", ask.path)
}

/// A conditional read whose answer the client has: 304, and it counts under no primary limit.
fn not_modified(ask: &Ask) -> bool {
    ask.method == Method::GET
        && !kept::lists_comments(ask)
        && ask
            .header("if-none-match")
            .is_some_and(|known| known == etag(&resource_body(ask)))
}

fn etag(body: &Value) -> String {
    format!("W/\"{}\"", hex::encode(Sha256::digest(body.to_string())))
}

/// The same path always has the same body, so that a client's cache can be tested.
fn resource_body(ask: &Ask) -> Value {
    let parts: Vec<&str> = ask.path.split('/').filter(|part| !part.is_empty()).collect();
    let id = fingerprint(&ask.path) >> 24;
    match parts.as_slice() {
        ["user"] => json!({"login": "octocat", "id": 1, "type": "User"}),
        ["orgs", org] => json!({"login": org, "id": id, "type": "Organization"}),
        ["repos", owner, name] => json!({
            "id": id, "name": name, "full_name": format!("{owner}/{name}"),
            "owner": {"login": owner}, "private": false, "default_branch": "main",
        }),
        ["repos", owner, name, "issues", number] => json!({
            "id": id, "number": number.parse::<u64>().ok(), "state": "open", "title": "An issue",
            "url": format!("/repos/{owner}/{name}/issues/{number}"),
        }),
        _ => json!({"id": id, "url": ask.path}),
    }
}

pub(super) use app::TOKEN as APP_TOKEN;

#[cfg(test)]
mod tests;
