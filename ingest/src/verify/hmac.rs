//! Any source that signs with HMAC-SHA256: header, encoding, prefix, signed text and replay window as configured.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use http::{HeaderMap, HeaderName};

use super::{Keys, hex_digest, signature, timestamp, wrong};
use crate::error::Refusal;

/// A configured scheme.
#[derive(Debug, Clone)]
pub struct Generic {
    /// The active secrets.
    pub keys: Keys,
    /// The header with the signature.
    pub header: HeaderName,
    /// How the signature is written.
    pub encoding: Encoding,
    /// What stands before it in the header, for example `sha256=`.
    pub prefix: String,
    /// What is signed.
    pub signed: Template,
    /// The header with the signed time in seconds since 1970, and how far it may be from ours.
    pub timestamp: Option<(HeaderName, Duration)>,
    /// The header with the delivery's id; without one, or without its value, the body's SHA-256 is the id.
    pub id: Option<HeaderName>,
    /// The header that says what happened.
    pub kind: Option<HeaderName>,
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// 64 hex digits.
    #[default]
    Hex,
    /// Standard base64 with padding.
    Base64,
}

impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hex" => Ok(Self::Hex),
            "base64" => Ok(Self::Base64),
            _ => Err(format!("{text:?} is neither hex nor base64")),
        }
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        })
    }
}

/// The text that is signed: literal text around `{body}` (exactly once), `{timestamp}` and `{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Body,
    Timestamp,
    Id,
}

impl Template {
    /// Whether the signed time is part of it.
    pub fn has_timestamp(&self) -> bool {
        self.0.contains(&Part::Timestamp)
    }

    /// Whether the delivery's id is part of it.
    pub fn has_id(&self) -> bool {
        self.0.contains(&Part::Id)
    }
}

impl Default for Template {
    /// The body alone.
    fn default() -> Self {
        Self(vec![Part::Body])
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                parts.push(Part::Literal(rest[..open].to_owned()));
            }
            let close = rest[open..]
                .find('}')
                .ok_or_else(|| format!("{text:?} has a {{ without }}"))?
                + open;
            parts.push(match &rest[open..=close] {
                "{body}" => Part::Body,
                "{timestamp}" => Part::Timestamp,
                "{id}" => Part::Id,
                other => {
                    return Err(format!(
                        "has {other}, known are {{body}}, {{timestamp}} and {{id}}"
                    ));
                }
            });
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        match parts.iter().filter(|part| **part == Part::Body).count() {
            1 => Ok(Self(parts)),
            _ => Err(format!("{text:?} must hold {{body}} exactly once")),
        }
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|part| {
            f.write_str(match part {
                Part::Literal(text) => text,
                Part::Body => "{body}",
                Part::Timestamp => "{timestamp}",
                Part::Id => "{id}",
            })
        })
    }
}

pub(super) fn verify(
    scheme: &Generic,
    headers: &HeaderMap,
    body: &[u8],
    now: Duration,
) -> Result<(), Refusal> {
    let name = scheme.header.as_str();
    let written = signature(headers, name)?.strip_prefix(scheme.prefix.as_bytes());
    let digest = written.and_then(|written| match scheme.encoding {
        Encoding::Hex => hex_digest(written),
        Encoding::Base64 => base64::prelude::BASE64_STANDARD
            .decode(written)
            .ok()?
            .try_into()
            .ok(),
    });
    let time = match &scheme.timestamp {
        Some((header, tolerance)) => timestamp(headers, header.as_str(), *tolerance, now)?,
        None => &[],
    };
    let id = scheme
        .id
        .as_ref()
        .and_then(|id| headers.get(id))
        .map_or(&[][..], |value| value.as_bytes());
    let parts = scheme.signed.0.iter().map(|part| match part {
        Part::Literal(text) => text.as_bytes(),
        Part::Body => body,
        Part::Timestamp => time,
        Part::Id => id,
    });
    match digest {
        Some(digest) if scheme.keys.fits(&parts, &digest) => Ok(()),
        _ => Err(wrong(name)),
    }
}
