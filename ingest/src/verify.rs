//! Who may send webhooks: signatures over the raw bytes, compared in constant time, before anything is parsed.

mod github;
pub mod gitlab;
pub mod hmac;
mod linear;
mod slack;
pub mod standard;
mod stripe;

use std::fmt;
use std::time::Duration;

use ::hmac::{Hmac, KeyInit, Mac};
use bytes::Bytes;
use http::HeaderMap;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::{Code, Refusal};

/// How far Slack's signed time may be from ours (Slack, "Verifying requests from Slack").
pub const SLACK_TOLERANCE: Duration = Duration::from_mins(5);
/// How far Stripe's signed time may be from ours (the default of Stripe's libraries).
pub const STRIPE_TOLERANCE: Duration = Duration::from_mins(5);
/// How far the signed time of Standard Webhooks may be from ours (the libraries of the specification).
pub const STANDARD_TOLERANCE: Duration = Duration::from_mins(5);
/// How far `webhookTimestamp` in Linear's signed body may be from ours (Linear's SDK).
pub const LINEAR_TOLERANCE: Duration = Duration::from_mins(1);
/// Most signatures in one header. A sender writes one for each of its active secrets.
pub const MAX_SIGNATURES: usize = 32;

/// The active secrets of a source, keyed once. Several of them let a secret be rotated without a gap.
#[derive(Clone)]
pub struct Keys(Vec<Hmac<Sha256>>);

impl Keys {
    /// Keys for these secrets, used as their bytes stand.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Self {
        // A key of any length is a valid HMAC key.
        Self(
            secrets
                .iter()
                .filter_map(|s| Hmac::new_from_slice(s.as_ref()).ok())
                .collect(),
        )
    }

    /// Whether `mac` is the HMAC-SHA256 of the joined `parts` under any of the secrets.
    fn fits<'p>(&self, parts: &(impl Iterator<Item = &'p [u8]> + Clone), mac: &[u8; 32]) -> bool {
        self.fit_any(parts, std::slice::from_ref(mac))
    }

    /// Whether any of `macs` is. Each secret signs once, however many signatures a header brings.
    fn fit_any<'p>(&self, parts: &(impl Iterator<Item = &'p [u8]> + Clone), macs: &[[u8; 32]]) -> bool {
        !macs.is_empty()
            && self.0.iter().any(|key| {
                let mut key = key.clone();
                parts.clone().for_each(|part| key.update(part));
                let right = key.finalize().into_bytes();
                macs.iter().any(|mac| right.ct_eq(mac).into())
            })
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// How a source signs.
#[derive(Debug, Clone)]
pub enum Scheme {
    /// `X-Hub-Signature-256`.
    Github(Keys),
    /// `X-Gitlab-Token`, or Standard Webhooks.
    Gitlab(gitlab::Secrets),
    /// `Linear-Signature`, the time in the signed body.
    Linear(Keys),
    /// `X-Slack-Signature` over time and body.
    Slack(Keys),
    /// `Stripe-Signature` with time and signatures.
    Stripe(Keys),
    /// Standard Webhooks, also as Svix sends them.
    Standard(standard::Secrets),
    /// As configured.
    Hmac(Box<hmac::Generic>),
}

/// A delivery whose signature holds. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified<'h> {
    headers: &'h HeaderMap,
    body: Bytes,
}

impl<'h> Verified<'h> {
    /// The headers. Most of them are not signed.
    pub fn headers(&self) -> &'h HeaderMap {
        self.headers
    }

    /// The body, as it was signed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Checks a delivery against its source's scheme at the time `now`, counted from the Unix epoch.
pub fn verify<'h>(
    scheme: &Scheme,
    headers: &'h HeaderMap,
    body: Bytes,
    now: Duration,
) -> Result<Verified<'h>, Refusal> {
    match scheme {
        Scheme::Github(keys) => github::verify(keys, headers, &body)?,
        Scheme::Gitlab(secrets) => gitlab::verify(secrets, headers, &body, now)?,
        Scheme::Linear(keys) => linear::verify(keys, headers, &body, now)?,
        Scheme::Slack(keys) => slack::verify(keys, headers, &body, now)?,
        Scheme::Stripe(keys) => stripe::verify(keys, headers, &body, now)?,
        Scheme::Standard(secrets) => standard::verify(secrets, headers, &body, now)?,
        Scheme::Hmac(generic) => hmac::verify(generic, headers, &body, now)?,
    }
    Ok(Verified { headers, body })
}

/// The signature that a delivery brings.
fn signature<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h [u8], Refusal> {
    match headers.get(name) {
        Some(value) => Ok(value.as_bytes()),
        None => Err(Refusal::new(
            Code::SignatureMissing,
            format!("header {name} is missing"),
        )),
    }
}

fn wrong(name: &str) -> Refusal {
    let detail =
        format!("header {name} is not the signature of this body under any active secret of the source");
    Refusal::new(Code::SignatureWrong, detail)
}

/// The 32 bytes that 64 hex digits stand for.
fn hex_digest(text: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok().map(|()| digest)
}

fn too_many(name: &str) -> Refusal {
    let detail = format!("header {name} has more than {MAX_SIGNATURES} signatures");
    Refusal::new(Code::SignatureWrong, detail)
}

/// The signed time as it stands in its header, once it is within `tolerance` of `now`.
fn timestamp<'h>(
    headers: &'h HeaderMap,
    name: &str,
    tolerance: Duration,
    now: Duration,
) -> Result<&'h [u8], Refusal> {
    let place = format!("header {name}");
    let Some(text) = headers.get(name) else {
        return Err(no_time(&place, "is missing"));
    };
    near(text.as_bytes(), &place, tolerance, now)
}

/// The signed time that stands at `place`, in seconds since 1970, once it is within `tolerance` of `now`.
fn near<'t>(text: &'t [u8], place: &str, tolerance: Duration, now: Duration) -> Result<&'t [u8], Refusal> {
    // One spelling for one time: with zeros before it, digits of what is signed beside it would pass for digits of it.
    let digits = (1..=20).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) && text[0] != b'0';
    let seconds: Option<u64> = std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)
        .and_then(|t| t.parse().ok());
    let seconds = seconds.ok_or_else(|| no_time(place, "must be seconds since 1970"))?;
    let now = now.as_secs();
    if seconds.abs_diff(now) <= tolerance.as_secs() {
        Ok(text)
    } else {
        Err(stale(place, seconds, now, tolerance))
    }
}

fn no_time(place: &str, what: &str) -> Refusal {
    Refusal::new(Code::TimestampInvalid, format!("{place} {what}"))
}

fn stale(place: &str, seconds: u64, now: u64, tolerance: Duration) -> Refusal {
    let (off, most) = (seconds.abs_diff(now), tolerance.as_secs());
    let direction = if seconds < now { "old" } else { "ahead" };
    let detail = format!("the timestamp in {place} is {off} s {direction}, at most {most} s are allowed");
    Refusal::new(Code::TimestampStale, detail)
}

#[cfg(test)]
mod tests;
