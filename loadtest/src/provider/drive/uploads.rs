//! Files that were uploaded, at once or in pieces.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::error;
use crate::provider::exchange::{Ask, Reply};

/// What was uploaded, and what is being uploaded.
#[derive(Debug, Default)]
pub(in crate::provider) struct Store {
    /// By id, with their marks.
    files: BTreeMap<String, String>,
    /// By session.
    sessions: BTreeMap<String, Session>,
}

impl Store {
    /// Whether a file was uploaded.
    pub(super) fn has(&self, id: &str) -> bool {
        self.files.contains_key(id)
    }

    /// The files that have one of the marks named in a query.
    pub(super) fn marked(&self, query: &str) -> Vec<&str> {
        let files = self
            .files
            .iter()
            .filter(|(_, mark)| !mark.is_empty() && query.contains(*mark));
        files.map(|(id, _)| id.as_str()).collect()
    }

    /// How many files were uploaded.
    pub(in crate::provider) fn len(&self) -> usize {
        self.files.len()
    }

    /// Keeps what an accepted call has brought.
    pub(in crate::provider) fn keep(&mut self, ask: &Ask) {
        if !ask.path.starts_with("/upload/") {
            return;
        }
        match step(ask, self) {
            Step::File(id, mark, _) => {
                self.files.entry(id).or_insert(mark);
            }
            Step::Begin(id, mark, total) => {
                let arrived = 0;
                self.sessions.insert(id, Session { mark, total, arrived });
            }
            Step::Piece(session, to) => {
                if let Some(open) = self.sessions.get_mut(&session) {
                    open.arrived = to;
                    if to == open.total {
                        self.files.insert(session, open.mark.clone());
                    }
                }
            }
            Step::Wrong(_) => {}
        }
    }
}

/// An upload in pieces; the session has the file's id.
#[derive(Debug)]
struct Session {
    mark: String,
    total: usize,
    arrived: usize,
}

/// What a call does.
enum Step {
    /// Uploads a file at once: its id, its mark, its size.
    File(String, String, usize),
    /// Announces a file: its id, its mark, its size.
    Begin(String, String, usize),
    /// Brings a piece: so much has arrived with it.
    Piece(String, usize),
    Wrong(Reply),
}

fn step(ask: &Ask, store: &Store) -> Step {
    let wrong = |reason: &str| Step::Wrong(error(StatusCode::BAD_REQUEST, reason, "Bad Request"));
    let id = |metadata: &Value| {
        let id = metadata["id"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string())
    };
    let mark = |metadata: &Value| {
        let mark = metadata["appProperties"]["weir"].as_str();
        mark.unwrap_or_default().to_owned()
    };
    let taken = |id: &str| {
        let conflict = error(
            StatusCode::CONFLICT,
            "fileIdInUse",
            "A file already exists with the provided ID.",
        );
        store.has(id).then_some(Step::Wrong(conflict))
    };
    match (ask.in_query("uploadType").as_deref(), &ask.method) {
        (Some("multipart"), &Method::POST) => {
            let Some((metadata, size)) = related(ask) else {
                return wrong("badContent");
            };
            let id = id(&metadata);
            taken(&id).unwrap_or(Step::File(id, mark(&metadata), size))
        }
        (Some("resumable"), &Method::POST) => {
            let size = ask
                .header("x-upload-content-length")
                .and_then(|size| size.parse().ok());
            let (Some(size), Ok(metadata)) = (size, serde_json::from_slice::<Value>(&ask.body)) else {
                return wrong("badContent");
            };
            let id = id(&metadata);
            taken(&id).unwrap_or(Step::Begin(id, mark(&metadata), size))
        }
        (None, &Method::PUT) => {
            let session = ask.in_query("upload_id").unwrap_or_default();
            let Some(Session { total, arrived, .. }) = store.sessions.get(&session) else {
                return Step::Wrong(error(StatusCode::NOT_FOUND, "notFound", "No such session"));
            };
            let range = ask.header("content-range").unwrap_or_default();
            if range == format!("bytes */{total}") {
                return Step::Piece(session, *arrived);
            }
            let from = range
                .strip_prefix("bytes ")
                .and_then(|range| range.split('-').next()?.parse::<usize>().ok());
            if from != Some(*arrived) || arrived + ask.body.len() > *total {
                return wrong("badRange");
            }
            Step::Piece(session.clone(), arrived + ask.body.len())
        }
        _ => wrong("badRequest"),
    }
}

/// The answer to a call.
pub(super) fn serve(ask: &Ask, store: &Store) -> Reply {
    let file = |id: &str, size: usize| {
        let file = json!({"id": id, "name": "a file", "size": size.to_string(), "kind": "drive#file"});
        Reply::json(StatusCode::OK, &file)
    };
    match step(ask, store) {
        Step::Wrong(reply) => reply,
        Step::File(id, _, size) => file(&id, size),
        Step::Begin(id, ..) => {
            let host = ask.header("host").unwrap_or("localhost");
            let session = format!("http://{host}/upload/drive/v3/files?upload_id={id}");
            Reply::empty(StatusCode::OK).with("location", session)
        }
        Step::Piece(session, to) => match store.sessions.get(&session) {
            Some(open) if to == open.total => file(&session, to),
            _ if to == 0 => Reply::empty(StatusCode::PERMANENT_REDIRECT),
            _ => Reply::empty(StatusCode::PERMANENT_REDIRECT).with("range", format!("bytes=0-{}", to - 1)),
        },
    }
}

/// Metadata of a file and the size of its content.
fn related(ask: &Ask) -> Option<(Value, usize)> {
    let kind = ask
        .header("content-type")?
        .strip_prefix("multipart/related; boundary=")?;
    let body = &ask.body[..];
    let find = |needle: &[u8], from: usize| {
        let rest = body.get(from..)?;
        rest.windows(needle.len())
            .position(|window| window == needle)
            .map(|at| from + at)
    };
    let metadata = find(b"\r\n\r\n", 0)? + 4;
    let delimiter = format!("\r\n--{kind}");
    let second = find(delimiter.as_bytes(), metadata)?;
    let content = find(b"\r\n\r\n", second)? + 4;
    let end = find(format!("{delimiter}--").as_bytes(), content.checked_sub(2)?)?;
    Some((
        serde_json::from_slice(&body[metadata..second]).ok()?,
        end.saturating_sub(content),
    ))
}
