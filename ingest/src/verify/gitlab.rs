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

/// What is missing for deliveries that are signed.
const NO_SIGNING: &str = "the delivery is signed, and WEIR_SOURCE_<NAME>_SECRETS has no signing token (whsec_...): add \
                          the one shown by GitLab";
/// What is missing for deliveries that bring a secret token.
const NO_TOKEN: &str = "the delivery brings a secret token, and WEIR_SOURCE_<NAME>_SECRETS has signing tokens (whsec_...) \
                        alone: set one at GitLab, or add the secret token";

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
    let is_signed = headers.contains_key(SIGNATURE);
    if signs && (is_signed || secrets.tokens.is_empty()) {
        // By these names only: the id is taken from them, and by others it would not be what is signed.
        let brings_token = headers.contains_key(TOKEN);
        signature(headers, SIGNATURE).map_err(|refusal| told(refusal, brings_token, NO_TOKEN))?;
        return standard::verify(&secrets.signing, headers, body, now);
    }
    // The same whether the token fits or not: nothing is learned of it.
    let other = is_signed && !signs;
    let given = signature(headers, TOKEN).map_err(|refusal| told(refusal, other, NO_SIGNING))?;
    let given: [u8; 32] = Sha256::digest(given).into();
    let known = secrets.tokens.iter().map(|token| token.ct_eq(&given));
    if known.fold(Choice::from(0), |any, one| any | one).into() {
        return Ok(());
    }
    let detail = format!("header {TOKEN} is no active secret of the source");
    Err(told(
        Refusal::new(Code::SignatureWrong, detail),
        other,
        NO_SIGNING,
    ))
}

/// What is added for a delivery that is vouched for in the way that the source has no secret for.
fn told(refusal: Refusal, other: bool, hint: &str) -> Refusal {
    if other {
        Refusal::new(refusal.code, format!("{}; {hint}", refusal.detail))
    } else {
        refusal
    }
}
