//! What calls are authorised by: a token that stays, or one that is asked for with a key and asked for again before it
//! expires. Limits are counted for whom the key belongs to, not for the token of the hour. No token and no key is ever
//! shown.

mod jwt;
mod mint;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use shared::failure::Failure;
use tokio::sync::Mutex;

use super::{Outbound, classify};
pub use mint::{Mint, app, service_account};

/// A token is not used in its last minute: a call may be under way for so long.
const MARGIN: Duration = Duration::from_secs(60);
/// For how long a refusal to give a token holds, so that nobody is asked in a tight loop.
const SULK: Duration = Duration::from_secs(1);
/// No token is kept for longer, whatever its giver says.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What calls are authorised by.
#[derive(Clone)]
pub struct Credential(Arc<Kind>);

enum Kind {
    Fixed(Option<Arc<str>>),
    Minted { mint: Arc<Mint>, kept: Mutex<Kept> },
}

#[derive(Default)]
struct Kept {
    token: Option<(Arc<str>, Instant)>,
    failed: Option<(Failure, Instant)>,
}

impl Credential {
    /// A token that stays, or none.
    pub fn fixed(token: Option<String>) -> Self {
        Self(Arc::new(Kind::Fixed(token.map(Into::into))))
    }

    /// Tokens that are asked for with a key.
    pub fn minted(mint: Arc<Mint>) -> Self {
        let kept = Mutex::default();
        Self(Arc::new(Kind::Minted { mint, kept }))
    }

    /// Whether calls are authorised at all.
    pub fn is_none(&self) -> bool {
        matches!(*self.0, Kind::Fixed(None))
    }

    /// What stays the same as long as the credential does, to make marks with that nobody else can make.
    pub fn lasting(&self) -> Option<&str> {
        match &*self.0 {
            Kind::Fixed(token) => token.as_deref(),
            Kind::Minted { mint, .. } => Some(mint.lasting()),
        }
    }

    /// The token for a call to the API at `base`. Many callers at a time ask for a new one once.
    ///
    /// # Errors
    /// Permanent: whoever gives tokens refuses. Transient: they cannot be reached.
    pub async fn token(&self, outbound: &Outbound, base: &str) -> Result<Option<Arc<str>>, Failure> {
        let (mint, kept) = match &*self.0 {
            Kind::Fixed(token) => return Ok(token.clone()),
            Kind::Minted { mint, kept } => (mint, kept),
        };
        let mut kept = kept.lock().await;
        let now = Instant::now();
        if let Some((token, until)) = &kept.token
            && now < *until
        {
            return Ok(Some(Arc::clone(token)));
        }
        if let Some((failure, until)) = &kept.failed
            && now < *until
        {
            return Err(failure.clone());
        }
        match ask(mint, outbound, base).await {
            Ok((token, life)) => {
                let life = life.min(LONGEST).saturating_sub(MARGIN);
                *kept = Kept {
                    token: Some((Arc::clone(&token), now + life)),
                    failed: None,
                };
                Ok(Some(token))
            }
            Err(failure) => {
                kept.failed = Some((failure.clone(), Instant::now() + SULK));
                Err(failure)
            }
        }
    }

    /// The API does not take this token (any more). Whether it is worth coming again with another.
    pub async fn refused(&self, token: &str) -> bool {
        let Kind::Minted { kept, .. } = &*self.0 else {
            return false;
        };
        let mut kept = kept.lock().await;
        if kept.token.as_ref().is_some_and(|(known, _)| **known == *token) {
            kept.token = None;
        }
        true
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Fixed(None) => f.write_str("no token"),
            Kind::Fixed(Some(_)) => f.write_str("a token"),
            Kind::Minted { mint, .. } => write!(f, "tokens of {mint:?}"),
        }
    }
}

async fn ask(mint: &Mint, outbound: &Outbound, base: &str) -> Result<(Arc<str>, Duration), Failure> {
    let now = SystemTime::now();
    let request = mint.request(outbound.client(), base, now)?;
    let answer = outbound
        .call(request, mint.route())
        .await
        .map_err(nothing_happened)?;
    classify::by_status(&answer, now).map_err(|failure| {
        let status = answer.status.as_u16();
        // What such an answer says may quote what was sent.
        let detail = format!("no token is given to {mint:?}: HTTP {status}");
        match nothing_happened(failure) {
            Failure::Permanent { .. } => Failure::permanent("credential", detail),
            other => other,
        }
    })?;
    let given = Mint::read(&answer, now);
    given.map_err(|what| Failure::transient("credential", format!("an answer that gives no token: {what}")))
}

/// A token that was not given has no effect to be unsure of.
fn nothing_happened(failure: Failure) -> Failure {
    match failure {
        Failure::Transient {
            reason, retry_after, ..
        } => Failure::Transient {
            reason,
            retry_after,
            unknown: false,
        },
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests;
