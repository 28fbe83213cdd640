//! GitHub: `X-Hub-Signature-256: sha256=<hex>` over the body, form-encoded bodies included. No time is signed.

use http::HeaderMap;

use super::{Keys, hex_digest, signature, wrong};
use crate::error::Refusal;

const SIGNATURE: &str = "x-hub-signature-256";

pub(super) fn verify(keys: &Keys, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let digest = signature(headers, SIGNATURE)?
        .strip_prefix(b"sha256=")
        .and_then(hex_digest);
    match digest {
        Some(digest) if keys.fits(&[body].into_iter(), &digest) => Ok(()),
        _ => Err(wrong(SIGNATURE)),
    }
}
