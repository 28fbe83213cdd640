//! The feed of changes: an event reads on from where the one before it ended. What an event reads again after its worker
//! has died begins where it began the first time, so that nothing is left out; the last pages may come twice.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;

use super::Drive;
use super::wish::{Asked, file_tag, is_id};
use crate::handler::{Completion, Outcome};
use crate::outbound::Answer;
use crate::quota::Turn;

/// Pages that one event reads at most.
const PAGES: u32 = 4;
/// Changes on a page.
const PAGE: u32 = 100;
/// Most requests that an event makes: one may ask where the feed begins.
pub(super) const REQUESTS: u32 = PAGES + 1;
/// For how long it is known where an event began.
const KEPT: Duration = Duration::from_secs(14 * 86_400);
/// Redis is waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);
const FIELDS: &str = "nextPageToken,newStartPageToken,changes(fileId,removed,time,file(name,mimeType,modifiedTime,trashed,version))";

/// Reads what has changed, at most [`PAGES`] pages.
pub(super) async fn read(drive: &Drive, event: &Event, asked: &Asked, turn: &Turn) -> Outcome {
    let place = Place::new(drive, event, asked);
    let from = match (&asked.page_token, place.begun().await?) {
        (_, Some(begun)) => Some(begun),
        (Some(token), None) => Some(token.clone()),
        (None, None) => place.next().await?,
    };
    let Some(from) = from else {
        let start = start(drive, asked, turn).await?;
        place.ended(&start).await?;
        return Ok(Completion::with(
            "started",
            json!({"next": start, "changes": [], "more": false}),
        ));
    };
    place.begin(&from).await?;
    let (mut changes, mut next, mut more) = (Vec::new(), from.clone(), true);
    for _ in 0..PAGES {
        let page = page(drive, asked, &next, turn).await?;
        if let Value::Array(found) = &page["changes"] {
            changes.extend(found.iter().cloned());
        }
        let token = page["nextPageToken"].as_str();
        more = token.is_some();
        let token = token.or(page["newStartPageToken"].as_str());
        token
            .ok_or_else(|| Failure::transient("answer", "a page that leads nowhere"))?
            .clone_into(&mut next);
        if !more {
            break;
        }
    }
    let mut changed: Vec<_> = changes
        .iter()
        .filter_map(|change| change["fileId"].as_str())
        .filter(|id| is_id(id))
        .map(file_tag)
        .collect();
    changed.sort_unstable();
    changed.dedup();
    place.ended(&next).await?;
    let result = json!({"from": from, "next": next, "changes": changes, "more": more});
    Ok(Completion {
        changed,
        ..Completion::with("ok", result)
    })
}

/// Where the feed stands now: what was before is not told.
async fn start(drive: &Drive, asked: &Asked, turn: &Turn) -> Result<String, Failure> {
    let path = format!(
        "/drive/v3/changes/startPageToken?supportsAllDrives=true{}",
        of_drive(asked)
    );
    let answer = json_of(drive.send(Method::GET, &path, turn, |request| request).await?)?;
    let token = answer["startPageToken"].as_str().map(str::to_owned);
    token.ok_or_else(|| Failure::transient("answer", "no startPageToken"))
}

async fn page(drive: &Drive, asked: &Asked, token: &str, turn: &Turn) -> Result<Value, Failure> {
    let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let path = format!(
        "/drive/v3/changes?pageToken={token}&pageSize={PAGE}&fields={FIELDS}&supportsAllDrives=true\
         &includeItemsFromAllDrives=true{}",
        of_drive(asked)
    );
    json_of(drive.send(Method::GET, &path, turn, |request| request).await?)
}

fn of_drive(asked: &Asked) -> String {
    let id = asked.drive_id.as_ref();
    id.map_or_else(String::new, |id| format!("&driveId={id}"))
}

fn json_of((answer, judged): (Answer, Result<(), Failure>)) -> Result<Value, Failure> {
    judged?;
    serde_json::from_slice(&answer.body).map_err(|_| Failure::transient("answer", "a page that is no JSON"))
}

/// What Redis keeps of the feed.
struct Place<'a> {
    drive: &'a Drive,
    feed: String,
    event: String,
}

impl<'a> Place<'a> {
    fn new(drive: &'a Drive, event: &Event, asked: &Asked) -> Self {
        let feed = format!(
            "{}:changes:{}",
            drive.tag,
            asked.drive_id.as_deref().unwrap_or("own")
        );
        let event = format!("{feed}:{}", event.id);
        Self { drive, feed, event }
    }

    /// Where this event began before.
    async fn begun(&self) -> Result<Option<String>, Failure> {
        self.ask(redis::cmd("GET").arg(&self.event)).await
    }

    async fn begin(&self, from: &str) -> Result<(), Failure> {
        let mut set = redis::cmd("SET");
        self.ask(set.arg(&self.event).arg(from).arg("EX").arg(KEPT.as_secs()))
            .await
    }

    /// Where the last event ended.
    async fn next(&self) -> Result<Option<String>, Failure> {
        self.ask(redis::cmd("GET").arg(&self.feed)).await
    }

    async fn ended(&self, next: &str) -> Result<(), Failure> {
        self.ask(redis::cmd("SET").arg(&self.feed).arg(next)).await
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Failure> {
        kept(&self.drive.redis, command, PATIENCE).await
    }
}

/// An answer of Redis that cannot be done without.
pub(super) async fn kept<T: redis::FromRedisValue>(
    redis: &redis::aio::ConnectionManager,
    command: &redis::Cmd,
    patience: Duration,
) -> Result<T, Failure> {
    let mut redis = redis.clone();
    match tokio::time::timeout(patience, command.query_async(&mut redis)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::transient("redis", error)),
        Err(_) => Err(Failure::transient("redis", "no answer in time")),
    }
}
