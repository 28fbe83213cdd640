//! What the bucket says of an object, as the object store writes it.

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::read::{Broken, ReadError};
use crate::stored::Stored;
use crate::subject::{BODIES_BUCKET, BODIES_META};
use crate::telemetry::propagation::rfc3339;
use crate::wire::MAX_BYTES;

/// The one kind of digest that the object store has.
const SHA256: &str = "SHA-256=";

/// Where the bucket says what an object is.
pub(super) fn subject(name: &str) -> String {
    format!("{BODIES_META}.{}", BASE64_URL_SAFE.encode(name))
}

/// Whether this can be the id of an object's pieces: it becomes the end of a subject, and the subject one to purge.
pub(super) fn is_nuid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// An object of the bucket, its pieces not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, whatever it is: that which its subject says, by which it is found.
    pub name: String,
    /// Where the bucket says this of it; a change puts it elsewhere.
    pub sequence: u64,
    /// Since when it says so.
    pub time: SystemTime,
    /// Its bytes, at most [`MAX_BYTES`].
    pub size: usize,
    pub(super) nuid: String,
    pub(super) pieces: usize,
    pub(super) digest: [u8; 32],
}

/// As ADR-20 has it.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    name: String,
    bucket: String,
    nuid: String,
    size: u64,
    chunks: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mtime: String,
    #[serde(default)]
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_chunk_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<serde_json::Value>,
}

impl Object {
    /// The end of the subject of its pieces.
    pub fn nuid(&self) -> &str {
        &self.nuid
    }

    /// Reads what the bucket says; `None` for what was deleted.
    pub fn of(stored: &Stored) -> Result<Option<Self>, ReadError> {
        let name = stored
            .subject
            .strip_prefix(BODIES_META)
            .and_then(|rest| rest.strip_prefix('.'));
        let name = name.and_then(|name| BASE64_URL_SAFE.decode(name).ok());
        let name = name.and_then(|name| String::from_utf8(name).ok());
        let broken = |what: &str| ReadError::Broken(Broken(format!("the body is none: {what}")));
        let meta: Meta = serde_json::from_slice(&stored.payload).map_err(|e| broken(&e.to_string()))?;
        if meta.deleted {
            return Ok(None);
        }
        if meta.options.is_some_and(|options| options.link.is_some()) {
            return Err(broken("it is a link"));
        }
        if !is_nuid(&meta.nuid) {
            return Err(broken("its pieces have no proper id"));
        }
        if meta.size > MAX_BYTES as u64 {
            return Err(broken("it is larger than an event can be"));
        }
        let digest = meta.digest.strip_prefix(SHA256).unwrap_or_default();
        let digest = BASE64_URL_SAFE_NO_PAD.decode(digest.trim_end_matches('=')).ok();
        let digest = digest.and_then(|bytes| bytes.try_into().ok());
        Ok(Some(Self {
            digest: digest.ok_or_else(|| broken("it has no SHA-256 digest"))?,
            name: name.ok_or_else(|| broken("its subject holds no name"))?,
            sequence: stored.sequence,
            time: stored.time,
            size: meta.size as usize,
            pieces: usize::try_from(meta.chunks).unwrap_or(usize::MAX),
            nuid: meta.nuid,
        }))
    }
}

/// What to write for an object whose pieces are kept.
pub(super) fn written(
    name: &str,
    nuid: &str,
    size: usize,
    pieces: usize,
    piece: usize,
    digest: &[u8],
) -> Vec<u8> {
    let meta = Meta {
        name: name.to_owned(),
        bucket: BODIES_BUCKET.to_owned(),
        nuid: nuid.to_owned(),
        size: size as u64,
        chunks: pieces as u64,
        mtime: rfc3339(SystemTime::now()),
        digest: format!("{SHA256}{}", BASE64_URL_SAFE.encode(digest)),
        options: Some(Options {
            max_chunk_size: Some(piece as u64),
            link: None,
        }),
        deleted: false,
    };
    // Text and numbers: nothing of it can fail.
    serde_json::to_vec(&meta).unwrap_or_default()
}
