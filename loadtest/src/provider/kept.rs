//! What writes leave behind: GitHub's comments and Slack's messages, to be listed again. The newest are kept.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{clock::Moment, drive, exchange::Ask, ledger::Api, linear};

/// Most comments and most messages kept; the oldest go first.
const MAX_KEPT: usize = 200_000;
/// Most comments on a page, and how many without `per_page`; GitHub's figures.
const PAGE: (usize, usize) = (100, 30);
/// Most messages of a history, and how many without `limit`; Slack's figures.
const HISTORY: (usize, usize) = (999, 100);

/// A comment on an issue.
#[derive(Clone, Debug)]
struct Comment {
    id: u64,
    /// The path of the list that it is on.
    on: String,
    body: String,
    /// Seconds since the epoch, as GitHub tells no more.
    created: u64,
}

/// A message in a channel.
#[derive(Clone, Debug)]
struct Message {
    channel: String,
    /// Microseconds since the epoch, unique among all messages.
    at: u64,
    text: String,
    metadata: Option<Value>,
    /// The message that it answers.
    thread: Option<String>,
}

/// Comments and messages.
#[derive(Debug, Default)]
pub(super) struct Kept {
    comments: VecDeque<Comment>,
    messages: VecDeque<Message>,
    last_id: u64,
    last_at: u64,
    /// What was created at Linear.
    pub(super) linear: linear::Created,
    /// What was uploaded to Drive.
    pub(super) drive: drive::Store,
}

impl Kept {
    /// Keeps what an accepted call has made, which is what its answer told.
    pub(super) fn keep(&mut self, api: Api, ask: &Ask, now: Moment) {
        match api {
            Api::Github if creates_comment(ask) => {
                let comment = self.comment_of(ask, now);
                self.last_id = comment.id;
                push(&mut self.comments, comment);
            }
            Api::Slack if ask.path == "/api/chat.postMessage" => {
                let message = self.message_of(ask, now);
                self.last_at = message.at;
                push(&mut self.messages, message);
            }
            Api::Linear => self.linear.keep(ask),
            Api::Drive => self.drive.keep(ask),
            _ => {}
        }
    }

    /// The comment that this call makes if it is accepted.
    pub(super) fn comment(&self, ask: &Ask, now: Moment) -> Value {
        shown(&self.comment_of(ask, now))
    }

    /// The comments on an issue, oldest first: `since` (ISO 8601), `per_page` and `page` as GitHub has them. True when
    /// there are more pages.
    pub(super) fn comments(&self, ask: &Ask) -> (Value, bool) {
        let number = |name: &str| ask.in_query(name)?.parse::<usize>().ok();
        let since = ask.in_query("since").as_deref().and_then(seconds_of).unwrap_or(0);
        let size = number("per_page").unwrap_or(PAGE.1).clamp(1, PAGE.0);
        let skip = size.saturating_mul(number("page").unwrap_or(1).max(1) - 1);
        let mut found = self
            .comments
            .iter()
            .filter(|one| one.on == ask.path && one.created >= since)
            .skip(skip);
        let page: Vec<Value> = found.by_ref().take(size).map(shown).collect();
        (Value::Array(page), found.next().is_some())
    }

    /// The message that this call makes if it is accepted, and its time.
    pub(super) fn message(&self, ask: &Ask, now: Moment) -> (Value, String) {
        let message = self.message_of(ask, now);
        (told(&message, true), stamp(message.at))
    }

    /// The messages of a channel, newest first: `oldest`, `latest`, `inclusive`, `limit`, `include_all_metadata` as
    /// Slack has them. Those that answer another are in its thread only (`thread`).
    pub(super) fn history(&self, ask: &Ask, thread: Option<&str>) -> Value {
        let text = |name: &str| ask.parameter(name);
        let flag = |name| text(name).is_some_and(|value| value == "true" || value == "1");
        let channel = text("channel").unwrap_or_default();
        let oldest = text("oldest").and_then(|at| micros_of(&at)).unwrap_or(0);
        let latest = text("latest").and_then(|at| micros_of(&at)).unwrap_or(u64::MAX);
        let (inclusive, metadata) = (flag("inclusive"), flag("include_all_metadata"));
        let limit = text("limit").and_then(|limit| limit.parse().ok());
        let limit: usize = limit.unwrap_or(HISTORY.1).clamp(1, HISTORY.0);
        let within = |at: u64| {
            if inclusive {
                (oldest..=latest).contains(&at)
            } else {
                at > oldest && at < latest
            }
        };
        let mut found = self
            .messages
            .iter()
            .rev()
            .filter(|one| one.channel == channel && within(one.at) && one.thread.as_deref() == thread);
        let messages: Vec<Value> = found
            .by_ref()
            .take(limit)
            .map(|one| told(one, metadata))
            .collect();
        json!({"messages": messages, "has_more": found.next().is_some()})
    }

    fn comment_of(&self, ask: &Ask, now: Moment) -> Comment {
        Comment {
            id: self.last_id + 1,
            on: ask.path.clone(),
            body: comment_text(ask).unwrap_or_default(),
            created: since_epoch(now).as_secs(),
        }
    }

    fn message_of(&self, ask: &Ask, now: Moment) -> Message {
        let body: Value = serde_json::from_slice(&ask.body).unwrap_or_default();
        Message {
            channel: ask.parameter("channel").unwrap_or_default(),
            at: (since_epoch(now).as_micros() as u64).max(self.last_at + 1),
            text: ask.parameter("text").unwrap_or_default(),
            metadata: body.get("metadata").cloned(),
            thread: ask.parameter("thread_ts").filter(|ts| !ts.is_empty()),
        }
    }
}

/// Whether the path is that of the comments on an issue or pull request.
pub(super) fn lists_comments(ask: &Ask) -> bool {
    let mut parts = ask.path.split('/').skip(1);
    let fits = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
    parts.next() == Some("repos")
        && fits(parts.next())
        && fits(parts.next())
        && parts.next() == Some("issues")
        && parts
            .next()
            .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
        && parts.next() == Some("comments")
        && parts.next().is_none()
}

/// Whether the call makes a comment.
pub(super) fn creates_comment(ask: &Ask) -> bool {
    ask.method == http::Method::POST && lists_comments(ask)
}

/// The text of the comment to be made; `None` when there is none.
pub(super) fn comment_text(ask: &Ask) -> Option<String> {
    let body: Value = serde_json::from_slice(&ask.body).ok()?;
    Some(body.get("body")?.as_str()?.to_owned()).filter(|text| !text.is_empty())
}

fn push<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == MAX_KEPT {
        all.pop_front();
    }
    all.push_back(one);
}

fn shown(comment: &Comment) -> Value {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(comment.created);
    let at = iso(at);
    let issue = comment.on.trim_end_matches("/comments");
    json!({
        "id": comment.id, "body": comment.body, "created_at": at, "updated_at": at,
        "user": {"login": "octocat", "id": 1, "type": "User"}, "issue_url": issue,
        "url": format!("{}/comments/{}", issue.rsplit_once('/').map_or(issue, |(list, _)| list), comment.id),
    })
}

fn told(message: &Message, metadata: bool) -> Value {
    let mut body = json!({
        "type": "message", "text": message.text, "ts": stamp(message.at), "user": "U0000000001", "bot_id": "B0000000001",
    });
    let more = [
        ("metadata", message.metadata.clone().filter(|_| metadata)),
        ("thread_ts", message.thread.clone().map(Value::from)),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

fn since_epoch(now: Moment) -> Duration {
    now.wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// A time as Slack writes it: seconds with six digits behind the dot.
fn stamp(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn micros_of(stamp: &str) -> Option<u64> {
    let (seconds, rest) = stamp.split_once('.').unwrap_or((stamp, "0"));
    let digits: String = rest.chars().chain("000000".chars()).take(6).collect();
    let seconds: u64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(digits.parse().ok()?)
}

fn iso(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    at.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}

fn seconds_of(iso: &str) -> Option<u64> {
    let at = time::OffsetDateTime::parse(iso, &time::format_description::well_known::Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use http::Method;

    use super::super::{clock::Clock, exchange::ask};
    use super::*;

    const LIST: &str = "/repos/o/r/issues/7/comments";

    fn comment(path: &str, text: &str) -> Ask {
        ask(Method::POST, path, &[], &json!({"body": text}).to_string())
    }

    fn bodies(kept: &Kept, query: &str) -> (Vec<String>, bool) {
        let (page, more) = kept.comments(&ask(Method::GET, &format!("{LIST}{query}"), &[], ""));
        let body = |one: &Value| one["body"].as_str().unwrap().to_owned();
        (page.as_array().unwrap().iter().map(body).collect(), more)
    }

    #[test]
    fn comments_come_oldest_first_in_pages_and_since_a_time() {
        let mut kept = Kept::default();
        let now = Clock::new(0).now();
        for n in 0..5 {
            kept.keep(Api::Github, &comment(LIST, &format!("c{n}")), now);
        }
        kept.keep(
            Api::Github,
            &comment("/repos/o/r/issues/8/comments", "other"),
            now,
        );
        kept.keep(Api::Github, &comment("/repos/o/r/issues", "no comment"), now);
        assert_eq!(bodies(&kept, "").0, ["c0", "c1", "c2", "c3", "c4"]);
        assert_eq!(
            bodies(&kept, "?per_page=2&page=2"),
            (vec!["c2".into(), "c3".into()], true)
        );
        assert_eq!(bodies(&kept, "?per_page=2&page=3"), (vec!["c4".into()], false));
        let at = |seconds: u64| iso(now.wall + Duration::from_secs(seconds)).replace(':', "%3A");
        assert_eq!(bodies(&kept, &format!("?since={}", at(0))).0.len(), 5);
        assert!(bodies(&kept, &format!("?since={}", at(2))).0.is_empty());
        let next = kept.comment(&comment(LIST, "x"), now);
        assert_eq!(next["id"], 7);
        assert_eq!(next["created_at"].as_str().unwrap().len(), 20, "{next}");
    }

    #[test]
    fn messages_come_newest_first_with_their_metadata_when_asked() {
        let mut kept = Kept::default();
        let now = Clock::new(0).now();
        let json = [("content-type", "application/json")];
        let post = |body: Value| ask(Method::POST, "/api/chat.postMessage", &json, &body.to_string());
        let metadata = json!({"event_type": "weir", "event_payload": {"id": "e1"}});
        let mut stamps = Vec::new();
        for n in 0..3 {
            let message = post(json!({"channel": "C1", "text": format!("m{n}"), "metadata": metadata}));
            let (answer, ts) = kept.message(&message, now);
            assert_eq!(answer["ts"], ts.as_str());
            stamps.push(ts);
            kept.keep(Api::Slack, &message, now);
        }
        let answer = post(json!({"channel": "C1", "text": "in thread", "thread_ts": stamps[0]}));
        kept.keep(Api::Slack, &answer, now);
        let history = |body: Value, thread: Option<&str>| {
            let ask = ask(
                Method::POST,
                "/api/conversations.history",
                &json,
                &body.to_string(),
            );
            kept.history(&ask, thread)
        };
        let all = history(json!({"channel": "C1"}), None);
        let texts: Vec<_> = all["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["text"])
            .collect();
        assert_eq!(texts, ["m2", "m1", "m0"]);
        assert!(all["messages"][0].get("metadata").is_none());
        let newer = json!({"channel": "C1", "oldest": stamps[0], "limit": 1, "include_all_metadata": true});
        let newer = history(newer, None);
        assert_eq!(newer["messages"][0]["metadata"]["event_payload"]["id"], "e1");
        assert_eq!(
            (newer["messages"].as_array().unwrap().len(), &newer["has_more"]),
            (1, &json!(true))
        );
        let thread = history(json!({"channel": "C1"}), Some(&stamps[0]));
        assert_eq!(thread["messages"][0]["text"], "in thread");
    }
}
