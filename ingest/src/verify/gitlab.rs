//! GitLab: a signing token signs as Standard Webhooks do; a secret token stands in `X-Gitlab-Token` as it is.
//! A delivery that brings a signature is judged by it as soon as the source has a signing token.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::{signature, standard};
use crate::error::{Code, Refusal};

const TOKEN: &str = "x-gitlab-token";
const SIGNATURE: &str = "webhook-signature";
/// What a signing token begins with.
const SIGNING: &str = "whsec_";

/// The active tokens of a source.
#[derive(Clone)]
pub struct Secrets {
    /// SHA-256 of the secret tokens, so that comparing them takes as long whatever their length.
    tokens: Vec<[u8; 32]>,
    signing: standard::Secrets,
}

impl Secrets {
    /// Reads signing tokens (they begin with `whsec_`) and secret tokens (all others).
    ///
    /// # Errors
    /// Which signing token cannot be read and why; not what it is.
    pub fn read<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        let signs = |secret: &&str| secret.starts_with(SIGNING);
        let tokens = secrets.iter().map(AsRef::as_ref).filter(|secret| !signs(secret));
        let tokens = tokens.map(|token| Sha256::digest(token).into()).collect();
        let signing = standard::Secrets::read_some(secrets, signs)?;
        Ok(Self { tokens, signing })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens, signing {:?}", self.tokens.len(), self.signing)
    }
}

pub(super) fn verify(
    secrets: &Secrets,
    headers: &HeaderMap,
    body: &[u8],
    now: Duration,
) -> Result<(), Refusal> {
    let signs = !secrets.signing.is_empty();
    if signs && (headers.contains_key(SIGNATURE) || secrets.tokens.is_empty()) {
        // By these names only: the id is taken from them, and by others it would not be what is signed.
        signature(headers, SIGNATURE)?;
        return standard::verify(&secrets.signing, headers, body, now);
    }
    let given: [u8; 32] = Sha256::digest(signature(headers, TOKEN)?).into();
    let known = secrets.tokens.iter().map(|token| token.ct_eq(&given));
    if known.fold(Choice::from(0), |any, one| any | one).into() {
        Ok(())
    } else {
        Err(Refusal::new(
            Code::SignatureWrong,
            format!("header {TOKEN} is no active secret of the source"),
        ))
    }
}
