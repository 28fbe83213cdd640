//! Uploads. A file's id is fixed before it is created: Drive gives ids in advance, and refuses to use one twice.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use reqwest::Url;
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;

use super::changes::kept;
use super::wish::{New, Wish};
use super::{Drive, multipart, result};
use crate::effect::Found;
use crate::handler::marker::marker;
use crate::handler::{Completion, Outcome};
use crate::outbound::Answer;
use crate::quota::Turn;

/// The largest file that goes in one request. Source: Google, Drive API, upload file data.
const IN_ONE: usize = 5 * 1024 * 1024;
/// Bytes of a piece of a larger one; a multiple of 256 KiB, as Google wants it.
const PIECE: usize = 8 * 1024 * 1024;
/// Failed pieces after which an attempt gives up.
const MOST_FAILED: u32 = 5;
/// Pause before a piece goes again, doubled each time.
const PAUSE: Duration = Duration::from_millis(200);
/// For how long the id of an event's file is known.
const KEPT: Duration = Duration::from_secs(14 * 86_400);
/// Redis is waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// The property of a file, seen by nobody but this application, in which its mark lies.
const MARK: &str = "weir";
const ASKED: &str = "supportsAllDrives=true&fields=id,name,size,md5Checksum,webViewLink";

/// How many requests an upload makes, when nothing fails.
pub(super) fn requests(new: &New) -> u32 {
    if new.content.len() <= IN_ONE {
        2
    } else {
        2 + new.content.len().div_ceil(PIECE) as u32
    }
}

/// Creates the file.
pub(super) async fn create(drive: &Drive, event: &Event, new: &New, turn: &Turn) -> Outcome {
    let id = match new.metadata.get("id").and_then(Value::as_str) {
        Some(id) => id.to_owned(),
        None => id_of(drive, event, turn).await?,
    };
    let mut metadata = new.metadata.clone();
    metadata.insert("id".into(), id.clone().into());
    let mark = json!(marker(event, drive.credential.lasting()));
    let own = metadata.entry("appProperties").or_insert_with(|| json!({}));
    if let Value::Object(own) = own {
        own.insert(MARK.into(), mark);
    }
    let metadata = Value::Object(metadata);
    let (answer, judged) = if new.content.len() <= IN_ONE {
        in_one(drive, &metadata, new, turn).await?
    } else {
        in_pieces(drive, &metadata, new, turn).await?
    };
    if answer.status == StatusCode::CONFLICT {
        // The id is this event's: an earlier attempt has used it.
        return Ok(Completion::with("found", json!({"data": {"id": id}})));
    }
    judged?;
    Ok(Completion::with(
        format!("http_{}", answer.status.as_u16()),
        result(&answer),
    ))
}

/// Whether the file is there that an earlier attempt was to create.
pub(super) async fn look_up(drive: &Drive, event: &Event, turn: &Turn) -> Result<Found, Failure> {
    let Some(Wish::Create(new)) = Wish::of(event)? else {
        return Ok(Found::CannotTell);
    };
    let given = new.metadata.get("id").and_then(Value::as_str).map(str::to_owned);
    let id = match given {
        Some(id) => Some(id),
        None => kept(&drive.redis, redis::cmd("GET").arg(key(drive, event)), PATIENCE).await?,
    };
    let Some(id) = id else {
        return look_for_mark(drive, event, turn).await;
    };
    let path = format!("/drive/v3/files/{id}?{ASKED}");
    let (answer, judged) = drive.send(Method::GET, &path, turn, |request| request).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Found::Nothing);
    }
    judged?;
    Ok(Found::Done(Completion::with("found", result(&answer))))
}

/// Looks for the file by its mark. An id is kept before the first call, so that there should be no file without one; but
/// what Redis keeps can be lost.
async fn look_for_mark(drive: &Drive, event: &Event, turn: &Turn) -> Result<Found, Failure> {
    let mark = marker(event, drive.credential.lasting());
    let query = format!("appProperties has {{ key='{MARK}' and value='{mark}' }}");
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let path = format!(
        "/drive/v3/files?q={query}&fields=files(id,name)&supportsAllDrives=true&includeItemsFromAllDrives=true"
    );
    let (answer, judged) = drive.send(Method::GET, &path, turn, |request| request).await?;
    judged?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match &body["files"] {
        Value::Array(files) => Ok(files.first().map_or(Found::Nothing, |file| {
            Found::Done(Completion::with("found", json!({"data": file})))
        })),
        _ => Ok(Found::CannotTell),
    }
}

/// The id of the event's file: what it was the first time, else a new one.
async fn id_of(drive: &Drive, event: &Event, turn: &Turn) -> Result<String, Failure> {
    let redis = &drive.redis;
    let key = key(drive, event);
    if let Some(id) = kept::<Option<String>>(redis, redis::cmd("GET").arg(&key), PATIENCE).await? {
        return Ok(id);
    }
    let path = "/drive/v3/files/generateIds?count=1&space=drive";
    let (answer, judged) = drive.send(Method::GET, path, turn, |request| request).await?;
    judged?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let id = body["ids"][0].as_str().filter(|id| super::wish::is_id(id));
    let id = id.ok_or_else(|| Failure::transient("answer", "it gives no id"))?;
    let mut set = redis::cmd("SET");
    set.arg(&key)
        .arg(id)
        .arg("NX")
        .arg("GET")
        .arg("EX")
        .arg(KEPT.as_secs());
    let before: Option<String> = kept(redis, &set, PATIENCE).await?;
    Ok(before.unwrap_or_else(|| id.to_owned()))
}

fn key(drive: &Drive, event: &Event) -> String {
    format!("{}:created:{}", drive.tag, event.id)
}

/// What became of a request whose answer may be lost: nobody knows.
type Sent = Result<(Answer, Result<(), Failure>), Failure>;

async fn in_one(drive: &Drive, metadata: &Value, new: &New, turn: &Turn) -> Sent {
    let boundary = multipart::boundary();
    let head = format!(
        "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n\
         --{boundary}\r\nContent-Type: {}\r\n\r\n",
        new.content_type
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let body = Bytes::from([head.as_bytes(), &new.content, tail.as_bytes()].concat());
    let path = format!("/upload/drive/v3/files?uploadType=multipart&{ASKED}");
    let kind = format!("multipart/related; boundary={boundary}");
    drive
        .send(Method::POST, &path, turn, |request| {
            request.header(header::CONTENT_TYPE, kind).body(body)
        })
        .await
}

async fn in_pieces(drive: &Drive, metadata: &Value, new: &New, turn: &Turn) -> Sent {
    let path = format!("/upload/drive/v3/files?uploadType=resumable&{ASKED}");
    let total = new.content.len();
    let (answer, judged) = drive
        .send(Method::POST, &path, turn, |request| {
            request
                .header(
                    HeaderName::from_static("x-upload-content-type"),
                    &new.content_type,
                )
                .header(HeaderName::from_static("x-upload-content-length"), total)
                .json(metadata)
        })
        .await?;
    if judged.is_err() {
        return Ok((answer, judged));
    }
    let session = session(&answer, turn)?;
    let (mut from, mut failed, mut ask) = (0, 0, false);
    loop {
        let (range, piece) = if ask {
            (format!("bytes */{total}"), Bytes::new())
        } else {
            let end = (from + PIECE).min(total);
            (
                format!("bytes {from}-{}/{total}", end - 1),
                new.content.slice(from..end),
            )
        };
        let sent = drive
            .send_to(session.clone(), Method::PUT, turn, |request| {
                request
                    .header(header::CONTENT_RANGE, range)
                    .header(header::CONTENT_LENGTH, piece.len())
                    .body(piece)
            })
            .await;
        match sent {
            Ok((answer, _)) if answer.status == StatusCode::PERMANENT_REDIRECT => {
                let reached = reached(&answer).filter(|reached| *reached <= total);
                let reached = reached.ok_or_else(|| Failure::transient("answer", "a range that is none"))?;
                failed = if reached > from {
                    0
                } else {
                    failed + u32::from(!ask)
                };
                (from, ask) = (reached, false);
            }
            Ok((_, Err(Failure::Transient { .. }))) | Err(Failure::Transient { .. })
                if failed < MOST_FAILED =>
            {
                tokio::time::sleep(PAUSE * 2_u32.pow(failed)).await;
                failed += 1;
                // How much of it has arrived is asked for.
                ask = true;
            }
            other => return other,
        }
        if failed > MOST_FAILED {
            return Err(Failure::transient("upload", "no piece of it arrives"));
        }
    }
}

/// Where the pieces go: to whom the upload was announced, and nobody else.
fn session(answer: &Answer, turn: &Turn) -> Result<Url, Failure> {
    let base = &turn.upstream()?.url;
    let told = answer
        .headers
        .get(header::LOCATION)
        .and_then(|told| told.to_str().ok());
    let url = told.and_then(|told| Url::parse(told).ok());
    url.filter(|url| url.origin() == base.origin())
        .ok_or_else(|| Failure::permanent("upload", "the upload is to go to another host"))
}

/// How many bytes have arrived: none without a range.
fn reached(answer: &Answer) -> Option<usize> {
    let Some(range) = answer.headers.get(header::RANGE) else {
        return Some(0);
    };
    let last = range
        .to_str()
        .ok()?
        .strip_prefix("bytes=0-")?
        .parse::<usize>()
        .ok()?;
    last.checked_add(1)
}
