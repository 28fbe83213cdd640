//! Linear: `Linear-Signature: <hex>` over the body, and `webhookTimestamp` (milliseconds) in it within a minute of ours.
//! `Linear-Timestamp` is not signed and is not looked at.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;

use super::{Keys, LINEAR_TOLERANCE, hex_digest, no_time, signature, stale, wrong};
use crate::error::Refusal;

const SIGNATURE: &str = "linear-signature";
const TIMESTAMP: &str = "field webhookTimestamp of the body";

#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "webhookTimestamp")]
    timestamp: u64,
}

pub(super) fn verify(keys: &Keys, headers: &HeaderMap, body: &[u8], now: Duration) -> Result<(), Refusal> {
    match hex_digest(signature(headers, SIGNATURE)?) {
        Some(digest) if keys.fits(&[body].into_iter(), &digest) => {}
        _ => return Err(wrong(SIGNATURE)),
    }
    // Only now: what a stranger writes is not parsed.
    let object = body.trim_ascii_start().starts_with(b"{");
    let Some(Signed { timestamp }) = serde_json::from_slice(body).ok().filter(|_| object) else {
        return Err(no_time(TIMESTAMP, "must be milliseconds since 1970"));
    };
    let sent = Duration::from_millis(timestamp);
    if sent.abs_diff(now) <= LINEAR_TOLERANCE {
        Ok(())
    } else {
        Err(stale(TIMESTAMP, sent.as_secs(), now.as_secs(), LINEAR_TOLERANCE))
    }
}
