//! Slack: `X-Slack-Signature: v0=<hex>` over `v0:<time>:<body>`, the time within five minutes of ours.

use std::time::Duration;

use http::HeaderMap;

use super::{Keys, SLACK_TOLERANCE, hex_digest, signature, timestamp, wrong};
use crate::error::Refusal;

const SIGNATURE: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";

pub(super) fn verify(keys: &Keys, headers: &HeaderMap, body: &[u8], now: Duration) -> Result<(), Refusal> {
    let digest = signature(headers, SIGNATURE)?
        .strip_prefix(b"v0=")
        .and_then(hex_digest);
    let time = timestamp(headers, TIMESTAMP, SLACK_TOLERANCE, now)?;
    match digest {
        Some(digest) if keys.fits(&[b"v0:", time, b":", body].into_iter(), &digest) => Ok(()),
        _ => Err(wrong(SIGNATURE)),
    }
}
