//! What an event wants of Drive.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use shared::event::Event;
use shared::failure::Failure;

use crate::handler::path::safe_path;
use crate::handler::read::{Read, max_age};

/// What is asked of a file unless the event says what.
const FIELDS: &str = "id,name,mimeType,size,md5Checksum,version,modifiedTime,trashed,parents,webViewLink";
/// Longest path in a batch. Source: Google, Drive API, batching requests.
const MAX_PATH: usize = 7_500;
/// Longest body in a batch, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What an event wants.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    /// One call.
    Call(Call),
    /// A new file.
    Create(New),
    /// What has changed.
    Changes(Asked),
}

/// A call below `/drive/v3`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// How many seconds old the answer to a GET may be.
    pub(super) max_age: Option<u64>,
}

/// A file to be created.
#[derive(Debug, PartialEq)]
pub(super) struct New {
    pub(super) metadata: Map<String, Value>,
    pub(super) content_type: String,
    pub(super) content: Bytes,
}

/// Changes to be read.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// A shared drive; without one, what the credential sees as its own.
    #[serde(default)]
    pub(super) drive_id: Option<String>,
    /// Where to begin; without it, where the last time ended.
    #[serde(default)]
    pub(super) page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallData {
    #[serde(default = "get")]
    method: String,
    path: String,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    max_age: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetData {
    id: String,
    #[serde(default)]
    fields: Option<String>,
    #[serde(default)]
    max_age: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateData {
    metadata: Map<String, Value>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    content_base64: Option<String>,
}

/// What is read of a file depends on this. Ids that are longer than any tag may be have a digest.
pub(super) fn file_tag(id: &str) -> String {
    if id.len() <= 100 {
        format!("drive-file:{id}")
    } else {
        format!("drive-file:{}", hex::encode(Sha256::digest(id)))
    }
}

fn get() -> String {
    "GET".into()
}

impl Wish {
    /// What an event wants; `None` for a type that is not known here.
    pub(super) fn of(event: &Event) -> Result<Option<Self>, Failure> {
        let wish = match event.kind.as_str() {
            "call" => Self::Call(Call::of(data(event)?)?),
            "file.get" => Self::Call(Call::of_file(data(event)?)?),
            "file.create" => Self::Create(New::of(data(event)?)?),
            "changes" => {
                let asked: Asked = data(event)?;
                let fits = asked.drive_id.as_deref().is_none_or(is_id);
                let fits = fits && asked.page_token.as_deref().is_none_or(|token| token.len() <= 512);
                if !fits {
                    return Err(bad("drive_id or page_token is none"));
                }
                Self::Changes(asked)
            }
            _ => return Ok(None),
        };
        Ok(Some(wish))
    }
}

impl Call {
    fn of(data: CallData) -> Result<Self, Failure> {
        let method = match data.method.as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PATCH" => Method::PATCH,
            "PUT" => Method::PUT,
            "DELETE" => Method::DELETE,
            _ => return Err(bad("method must be GET, POST, PATCH, PUT or DELETE")),
        };
        let what = "path must begin with / and hold no . or .. between slashes, no letter as %41, and no control characters";
        safe_path(&data.path).ok_or_else(|| bad(what))?;
        Ok(Self {
            method,
            path: data.path,
            body: data.body,
            max_age: data.max_age,
        })
    }

    fn of_file(data: GetData) -> Result<Self, Failure> {
        if !is_id(&data.id) {
            return Err(bad("id is none of a file"));
        }
        let fields = data.fields.unwrap_or_else(|| FIELDS.to_owned());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-,/()*".contains(&b);
        if !(1..=1000).contains(&fields.len()) || !fields.bytes().all(plain) {
            return Err(bad("fields are none"));
        }
        Ok(Self {
            method: Method::GET,
            path: format!("/files/{}?supportsAllDrives=true&fields={fields}", data.id),
            body: None,
            max_age: data.max_age,
        })
    }

    /// The path below the service's URL.
    pub(super) fn full_path(&self) -> String {
        format!("/drive/v3{}", self.path)
    }

    /// Whether the answer to the other is the answer to this.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        (&self.method, &self.path, &self.body) == (&other.method, &other.path, &other.body)
    }

    /// The read that it is, if it is one.
    pub(super) fn read(self) -> Option<Read> {
        if self.method != Method::GET || self.body.is_some() {
            return None;
        }
        let file = self.path.strip_prefix("/files/").unwrap_or_default();
        let file = file.split(['/', '?']).next().filter(|id| is_id(id));
        let mut again = json!({"path": self.path});
        if let Some(seconds) = self.max_age {
            again["max_age"] = seconds.into();
        }
        Some(Read {
            name: format!("GET {}", self.full_path()),
            tags: file.map(file_tag).into_iter().collect(),
            max_age: self.max_age.map(max_age),
            is_news: false,
            repository: None,
            again: ("call", again),
        })
    }

    /// Whether it may go together with others: what may be repeated, and neither a file's content nor very long.
    pub(super) fn can_be_batched(&self) -> bool {
        let content = self.path.contains("alt=media")
            || self.path.split('?').next().is_some_and(|path| {
                path.ends_with("/export") || path.ends_with("/download") || path.ends_with("/watch")
            });
        let short = self.path.len() <= MAX_PATH
            && self
                .body
                .as_ref()
                .is_none_or(|body| body.to_string().len() <= MAX_BODY);
        self.method != Method::POST && !content && short
    }
}

impl New {
    fn of(data: CreateData) -> Result<Self, Failure> {
        let content = match (data.content, data.content_base64) {
            (Some(_), Some(_)) => return Err(bad("content is there twice")),
            (Some(text), None) => text.into(),
            (None, Some(text)) => BASE64_STANDARD
                .decode(text)
                .map_err(|_| bad("content_base64 is no base64"))?
                .into(),
            (None, None) => Bytes::new(),
        };
        let content_type = data
            .content_type
            .unwrap_or_else(|| "application/octet-stream".into());
        if http::HeaderValue::from_str(&content_type).is_err() || !content_type.contains('/') {
            return Err(bad("content_type is none"));
        }
        if data
            .metadata
            .get("id")
            .is_some_and(|id| !id.as_str().is_some_and(is_id))
        {
            return Err(bad("metadata.id is none of a file"));
        }
        Ok(Self {
            metadata: data.metadata,
            content_type,
            content,
        })
    }
}

/// Whether it looks like an id of Google's: nothing in it means anything in a URL.
pub(super) fn is_id(id: &str) -> bool {
    (1..=256).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn data<T: serde::de::DeserializeOwned>(event: &Event) -> Result<T, Failure> {
    let data = event.data.to_json().map_err(|e| bad(&e))?;
    let data = data.filter(Value::is_object);
    let data = data.ok_or_else(|| bad("it is no JSON object"))?;
    serde_json::from_value(data).map_err(|e| bad(&e.to_string()))
}

fn bad(what: &str) -> Failure {
    Failure::permanent("call", format!("data does not describe a call: {what}"))
}
