//! Standard Webhooks: `webhook-signature`, space-separated, `v1,<base64>` (HMAC-SHA256) or `v1a,<base64>` (Ed25519) over
//! `<webhook-id>.<webhook-timestamp>.<body>`, the time within five minutes of ours. Svix calls the headers `svix-*`.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::{Keys, MAX_SIGNATURES, STANDARD_TOLERANCE, signature, timestamp, too_many, wrong};
use crate::error::Refusal;

/// Keys are pasted with and without their padding.
const PASTED: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The headers of one delivery.
pub(crate) struct Names {
    /// The delivery's id, the same on every try.
    pub(crate) id: &'static str,
    timestamp: &'static str,
    signature: &'static str,
}

const WEBHOOK: Names = Names {
    id: "webhook-id",
    timestamp: "webhook-timestamp",
    signature: "webhook-signature",
};
const SVIX: Names = Names {
    id: "svix-id",
    timestamp: "svix-timestamp",
    signature: "svix-signature",
};

/// The names that a delivery uses. Never some of both: what is signed is one of them.
pub(crate) fn names(headers: &HeaderMap) -> &'static Names {
    let svix = !headers.contains_key(WEBHOOK.signature) && headers.contains_key(SVIX.signature);
    if svix { &SVIX } else { &WEBHOOK }
}

/// The active secrets and public keys of a source.
#[derive(Debug, Clone)]
pub struct Secrets {
    hmac: Keys,
    ed25519: Vec<[u8; 32]>,
}

impl Secrets {
    /// Reads secrets (`whsec_` and base64, or base64 alone) and public keys (`whpk_` and base64).
    ///
    /// # Errors
    /// Which one cannot be read and why; not what it is.
    pub fn read<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        Self::read_some(secrets, |_| true)
    }

    /// The same of those that are `meant`, told by their place among all.
    pub(super) fn read_some<S: AsRef<str>>(
        secrets: &[S],
        meant: impl Fn(&&str) -> bool,
    ) -> Result<Self, String> {
        let (mut hmac, mut ed25519) = (Vec::new(), Vec::new());
        let secrets = secrets.iter().map(AsRef::as_ref).enumerate();
        for (at, secret) in secrets.filter(|(_, secret)| meant(secret)) {
            let wrong = |what: &str| format!("secret {} {what}", at + 1);
            let bytes = |text: &str| {
                let bytes = PASTED.decode(text).ok().filter(|bytes| !bytes.is_empty());
                bytes.ok_or_else(|| wrong("must be base64, after whsec_ or whpk_"))
            };
            if secret.starts_with("whsk_") {
                return Err(wrong(
                    "is a private key: what belongs here is the public one, whpk_",
                ));
            } else if let Some(key) = secret.strip_prefix("whpk_") {
                let key = bytes(key)?.try_into();
                ed25519.push(key.map_err(|_| wrong("must have 32 bytes, as public keys of Ed25519 do"))?);
            } else {
                hmac.push(bytes(secret.strip_prefix("whsec_").unwrap_or(secret))?);
            }
        }
        Ok(Self {
            hmac: Keys::new(&hmac),
            ed25519,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hmac.is_empty() && self.ed25519.is_empty()
    }
}

pub(super) fn verify(
    secrets: &Secrets,
    headers: &HeaderMap,
    body: &[u8],
    now: Duration,
) -> Result<(), Refusal> {
    let names = names(headers);
    let (mut macs, mut signatures) = (Vec::new(), Vec::<Vec<u8>>::new());
    let written = signature(headers, names.signature)?;
    for (at, one) in written.split(|b| *b == b' ').enumerate() {
        if at == MAX_SIGNATURES {
            return Err(too_many(names.signature));
        }
        // Versions that are not known here may stand beside those that are.
        if let Some(mac) = one.strip_prefix(b"v1,") {
            let mac = BASE64_STANDARD.decode(mac).unwrap_or_default();
            macs.extend(<[u8; 32]>::try_from(mac));
        } else if let Some(one) = one.strip_prefix(b"v1a,") {
            signatures.extend(BASE64_STANDARD.decode(one));
        }
    }
    let time = timestamp(headers, names.timestamp, STANDARD_TOLERANCE, now)?;
    // Without an id nothing tells one delivery from another, and no sender signs that.
    let id = headers.get(names.id).map_or(&[][..], |value| value.as_bytes());
    let parts = [id, b".", time, b".", body];
    let fits = !id.is_empty()
        && (secrets.hmac.fit_any(&parts.into_iter(), &macs) || secrets.signed(&parts, &signatures));
    if fits { Ok(()) } else { Err(wrong(names.signature)) }
}

impl Secrets {
    /// Whether any of the Ed25519 signatures is one of the joined parts under any of the public keys.
    fn signed(&self, parts: &[&[u8]], signatures: &[Vec<u8>]) -> bool {
        if self.ed25519.is_empty() || signatures.is_empty() {
            return false;
        }
        let text = parts.concat();
        self.ed25519.iter().any(|key| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            signatures.iter().any(|one| key.verify(&text, one).is_ok())
        })
    }
}
