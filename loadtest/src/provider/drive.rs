//! Google Drive's API, version 3, as far as limits, batches, ids, uploads and changes go.
//!
//! Source: Google's "Usage limits", "Resolve errors", "Batching requests" and "Upload file data". Files whose id begins
//! with `missing` are not there, those with `secret` are somebody else's.

mod batch;
mod uploads;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    clock::Moment,
    exchange::{Ask, Reply},
    ledger::fingerprint,
    limits::{Demand, Shape},
    window::Window,
};
pub(super) use uploads::Store;

/// Paths of the API: those of the real one.
pub(super) const PATHS: [&str; 4] = [
    "/drive/v3/{*path}",
    "/upload/drive/v3/{*path}",
    "/batch/drive/v3",
    "/drive/token",
];
/// Changes that the feed holds, and how many are on a page.
const CHANGES: (u64, u64) = (25, 10);

/// What Google allows a project and user.
#[derive(Clone, Debug)]
pub struct DriveLimits {
    /// Requests, those within a batch counted.
    pub requests: Window,
    /// How they are counted.
    pub shape: Shape,
}

impl Default for DriveLimits {
    /// 12,000 a minute.
    fn default() -> Self {
        Self {
            requests: Window::per_minute(12_000),
            shape: Shape::Sliding,
        }
    }
}

/// The answer to a call that is wrong in itself, `None` when it is not.
pub(super) fn refuse_wrong(ask: &Ask) -> Option<Reply> {
    if ask.path == "/drive/token" {
        return None;
    }
    if ask.credential().is_none() {
        return Some(error(StatusCode::UNAUTHORIZED, "authError", "Login Required"));
    }
    let broken = ask.path.starts_with("/batch") && batch::parts(ask).is_none_or(|parts| parts.len() > 100);
    broken.then(|| {
        error(
            StatusCode::BAD_REQUEST,
            "badRequest",
            "Failed to parse batch request",
        )
    })
}

/// The limits that a call has to pass.
pub(super) fn demands(limits: &DriveLimits, ask: &Ask) -> Vec<Demand> {
    if ask.path == "/drive/token" {
        return Vec::new();
    }
    let parts = if ask.path.starts_with("/batch") {
        batch::parts(ask).map_or(1, |parts| parts.len() as u32)
    } else {
        1
    };
    vec![Demand {
        cost: parts.max(1),
        ..Demand::new("drive requests", ask.scope(), limits.requests, limits.shape)
    }]
}

/// Whether a call changes something.
pub(super) fn is_write(ask: &Ask) -> bool {
    ask.method != Method::GET && !ask.path.starts_with("/batch") && ask.path != "/drive/token"
}

/// The answer to a call within its limits.
pub(super) fn serve(ask: &Ask, now: Moment, store: &Store) -> Reply {
    if ask.path.starts_with("/batch") {
        let parts = batch::parts(ask).unwrap_or_default();
        let answers: Vec<_> = parts
            .iter()
            .map(|(name, part)| (name.clone(), one(part, store)))
            .collect();
        return batch::answer(&answers);
    }
    if ask.path == "/drive/token" {
        return token(ask, now);
    }
    if ask.path.starts_with("/upload/") {
        return uploads::serve(ask, store);
    }
    one(ask, store)
}

/// The answer to one call below `/drive/v3`.
fn one(ask: &Ask, store: &Store) -> Reply {
    let path = ask.path.strip_prefix("/drive/v3/").unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["files", "generateIds"] => {
            let count = ask
                .in_query("count")
                .and_then(|count| count.parse().ok())
                .unwrap_or(10_usize);
            let ids: Vec<_> = (0..count.clamp(1, 1000))
                .map(|_| uuid::Uuid::now_v7().simple().to_string())
                .collect();
            Reply::json(
                StatusCode::OK,
                &json!({"ids": ids, "space": "drive", "kind": "drive#generatedIds"}),
            )
        }
        ["changes", "startPageToken"] => Reply::json(StatusCode::OK, &json!({"startPageToken": "0"})),
        ["changes"] => changes(ask),
        ["files", id] => file(ask, id, store),
        ["files"] => {
            let found = store.marked(&ask.in_query("q").unwrap_or_default());
            let files: Vec<_> = found.into_iter().map(|id| json!({"id": id})).collect();
            Reply::json(StatusCode::OK, &json!({"kind": "drive#fileList", "files": files}))
        }
        _ => error(StatusCode::NOT_FOUND, "notFound", "Not Found"),
    }
}

fn file(ask: &Ask, id: &str, store: &Store) -> Reply {
    // Ids that were given in advance are 32 digits long: such a file is there when it was uploaded.
    if id.starts_with("missing") || id.len() == 32 && !store.has(id) {
        return error(
            StatusCode::NOT_FOUND,
            "notFound",
            &format!("File not found: {id}."),
        );
    }
    if id.starts_with("secret") {
        return error(
            StatusCode::FORBIDDEN,
            "insufficientFilePermissions",
            "Not allowed",
        );
    }
    if ask.method == Method::DELETE {
        return Reply::empty(StatusCode::NO_CONTENT);
    }
    let etag = format!("\"{:x}\"", fingerprint(id));
    if ask.method == Method::GET && ask.header("if-none-match") == Some(&etag) {
        return Reply::empty(StatusCode::NOT_MODIFIED).with("etag", etag);
    }
    let file = json!({"id": id, "name": format!("File {id}"), "mimeType": "text/plain", "version": "1"});
    Reply::json(StatusCode::OK, &file).with("etag", etag)
}

/// A feed of so many changes, from the token on.
fn changes(ask: &Ask) -> Reply {
    let token = ask
        .in_query("pageToken")
        .and_then(|token| token.parse::<u64>().ok());
    let Some(from) = token.filter(|from| *from <= CHANGES.0) else {
        return error(StatusCode::BAD_REQUEST, "invalid", "Invalid Value");
    };
    let to = (from + CHANGES.1).min(CHANGES.0);
    let changes: Vec<Value> = (from..to)
        .map(|n| json!({"fileId": format!("changed-{n}"), "removed": false}))
        .collect();
    let mut page = json!({"kind": "drive#changeList", "changes": changes});
    let next = if to < CHANGES.0 {
        "nextPageToken"
    } else {
        "newStartPageToken"
    };
    page[next] = to.to_string().into();
    Reply::json(StatusCode::OK, &page)
}

/// A token for a service account that asserts who it is.
fn token(ask: &Ask, now: Moment) -> Reply {
    let field = |name: &str| {
        let pairs = form_urlencoded::parse(&ask.body);
        pairs
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    };
    let asserted = field("assertion").is_some_and(|assertion| assertion.split('.').count() == 3);
    let granted = field("grant_type").is_some_and(|grant| grant.ends_with(":jwt-bearer"));
    if !asserted || !granted {
        return Reply::json(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"})).rejected();
    }
    let token = format!("ya29.{}", now.epoch_seconds(now.since_start));
    Reply::json(
        StatusCode::OK,
        &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}),
    )
}

/// The answer to a call over the limit. `turn` counts refusals: Google documents both statuses.
pub(super) fn refuse(turn: u64) -> Reply {
    if turn.is_multiple_of(2) {
        error(
            StatusCode::FORBIDDEN,
            "userRateLimitExceeded",
            "User Rate Limit Exceeded",
        )
    } else {
        error(
            StatusCode::TOO_MANY_REQUESTS,
            "rateLimitExceeded",
            "Too many requests",
        )
    }
}

fn error(status: StatusCode, reason: &str, message: &str) -> Reply {
    let error = json!({"domain": "global", "reason": reason, "message": message});
    let body = json!({"error": {"code": status.as_u16(), "message": message, "errors": [error]}});
    Reply::json(status, &body).rejected()
}

#[cfg(test)]
mod tests;
