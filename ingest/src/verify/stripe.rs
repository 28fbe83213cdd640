//! Stripe: `Stripe-Signature: t=<time>,v1=<hex>[,v1=<hex>...]` over `<time>.<body>`, the time within five minutes of
//! ours. `v0` marks test deliveries and is no signature. A secret is used as it stands, `whsec_` included.

use std::time::Duration;

use http::HeaderMap;

use super::{Keys, MAX_SIGNATURES, STRIPE_TOLERANCE, hex_digest, near, no_time, signature, too_many, wrong};
use crate::error::Refusal;

const SIGNATURE: &str = "stripe-signature";
const TIMESTAMP: &str = "t in header stripe-signature";

pub(super) fn verify(keys: &Keys, headers: &HeaderMap, body: &[u8], now: Duration) -> Result<(), Refusal> {
    let (mut time, mut digests) = (None, Vec::new());
    let mut signatures = 0;
    for part in signature(headers, SIGNATURE)?.split(|b| *b == b',') {
        if let Some(text) = part.strip_prefix(b"t=") {
            if time.replace(text).is_some() {
                return Err(no_time(TIMESTAMP, "stands there twice"));
            }
        } else if let Some(digest) = part.strip_prefix(b"v1=") {
            signatures += 1;
            if signatures > MAX_SIGNATURES {
                return Err(too_many(SIGNATURE));
            }
            digests.extend(hex_digest(digest));
        }
    }
    let time = time.ok_or_else(|| no_time(TIMESTAMP, "is missing"))?;
    let time = near(time, TIMESTAMP, STRIPE_TOLERANCE, now)?;
    if keys.fit_any(&[time, b".", body].into_iter(), &digests) {
        Ok(())
    } else {
        Err(wrong(SIGNATURE))
    }
}
