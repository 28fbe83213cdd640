//! Claim checks: the bytes of an event that is too large for a message lie in the object store, and the message, its
//! payload empty, says where in the header [`Weir-Claim`](crate::subject::headers::CLAIM). Headers and payload travel
//! through retries, dead letters and replays as those of any other message do.
//!
//! **One message, one object.** A [`Name`] is made anew for every message and is never taken twice, so whoever settles
//! the message may [`remove`] the object and nobody else misses it. Two messages that shared one, because their event and
//! content are the same, could not tell who of them is the last.
//!
//! **Whoever reads checks the name.** It begins with the service and a digest of the event's id, and both must be those of
//! the message that refers to it: nobody gets at the body of another service or another event by writing a header.
//!
//! **Whoever moves says so first.** Before a reference goes back to the retries or to the dead letters, [`moving`] leaves
//! a mark. The scheduler's search for bodies that nobody refers to rests on that; see `docs/decisions/`.
//!
//! The layout is that of the object store (NATS ADR-20), written and read here directly: pieces are sent several at a
//! time, absence is believed only when the leader says so, and nothing is left of what is removed.

mod meta;
mod put;
mod read;

use std::fmt;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::{EventId, Invalid};
use crate::stored::{self, Unread};
use crate::subject::{BODIES_CHUNKS, BODIES_STREAM, CLAIMS_MOVED, Service, header, headers};

pub use meta::Object;
pub use put::{PutError, put};
pub use read::{Broken, ReadError, read};

/// Longest name of an object in bytes: service, digest, and 64 that tell it from others.
pub const MAX_NAME: usize = 32 + 1 + 32 + 1 + 64;

/// The name of an object: `<service>/<digest of the event's id>/<what tells it from all others>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// A name for the body of one message, never given before.
    pub fn fresh(service: &Service, id: &EventId) -> Self {
        Self(format!("{service}/{}/{}", digest(id), Uuid::now_v7().simple()).into())
    }

    /// Checks a name that a message of this service and event gives.
    ///
    /// # Errors
    /// It is no name, or that of another service's or event's body.
    pub fn check(text: &str, service: &Service, id: &EventId) -> Result<Self, Invalid> {
        let (owner, of, _) = parts(text).ok_or(Invalid("is no name of an object of weir_bodies"))?;
        if owner != service.as_str() {
            return Err(Invalid("names an object of another service"));
        }
        if of != digest(id) {
            return Err(Invalid("names an object of another event"));
        }
        Ok(Self(text.into()))
    }

    /// Takes a name as it stands in the bucket, and whose it is; `None` when it is none of ours.
    pub fn parse(text: &str) -> Option<(Self, Service)> {
        let (owner, ..) = parts(text)?;
        Some((Self(text.into()), Service::new(owner).ok()?))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the mark of its moves lies.
    pub fn moved(&self) -> String {
        format!("{CLAIMS_MOVED}.{}", self.0.replace('/', "."))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// First 32 hexadecimal digits of the SHA-256 of an event's id.
fn digest(id: &EventId) -> String {
    hex::encode(&Sha256::digest(id.as_str())[..16])
}

fn parts(text: &str) -> Option<(&str, &str, &str)> {
    if text.len() > MAX_NAME {
        return None;
    }
    let (service, rest) = text.split_once('/')?;
    let (of, own) = rest.split_once('/')?;
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = Service::new(service).is_ok()
        && of.len() == 32
        && of.bytes().all(hexadecimal)
        && (8..=64).contains(&own.len())
        && own.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then_some((service, of, own))
}

/// The object that a message's headers refer to; `None` when its payload is the event.
pub fn of(message: Option<&HeaderMap>, service: &Service, id: &EventId) -> Option<Result<Name, Invalid>> {
    Some(Name::check(header(message, headers::CLAIM)?, service, id))
}

/// Looks an object up; `None` when there is none.
pub async fn find(js: &jetstream::Context, name: &Name) -> Result<Option<Object>, ReadError> {
    let Some(stored) = stored::last(js, BODIES_STREAM, &meta::subject(name.as_str())).await? else {
        return Ok(None);
    };
    Object::of(&stored)
}

/// Leaves the mark that a reference is about to be moved, and waits until the server keeps it. Only then move it.
pub async fn moving(js: &jetstream::Context, name: &Name) -> Result<(), PublishError> {
    js.publish(name.moved(), Bytes::new()).await?.await?;
    Ok(())
}

/// Why an object was not removed. What is left of it, the scheduler finds.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It could not be looked up.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be taken out.
    #[error("removing a body: {0}")]
    Purge(String),
}

/// Removes an object and all that tells of it; one that is gone is no error.
pub async fn remove(js: &jetstream::Context, name: &Name) -> Result<(), RemoveError> {
    let found = match find(js, name).await {
        Ok(Some(object)) => Some(object),
        Ok(None) => return Ok(()),
        // What it says of its pieces cannot be believed; the scheduler finds them.
        Err(ReadError::Broken(_)) => None,
        Err(error) => return Err(error.into()),
    };
    // In this order: pieces that nothing speaks of are found, an object without its pieces would be read.
    purge(js, &meta::subject(name.as_str())).await?;
    match found {
        Some(object) => remove_pieces(js, object.nuid()).await,
        None => Ok(()),
    }
}

/// Removes pieces by the id that their subject ends with.
pub async fn remove_pieces(js: &jetstream::Context, nuid: &str) -> Result<(), RemoveError> {
    if !meta::is_nuid(nuid) {
        return Err(RemoveError::Purge("these are no pieces of an object".into()));
    }
    purge(js, &format!("{BODIES_CHUNKS}.{nuid}")).await
}

async fn purge(js: &jetstream::Context, subject: &str) -> Result<(), RemoveError> {
    let failed = |what: String| RemoveError::Purge(what);
    let stream = js.get_stream_no_info(BODIES_STREAM).await;
    let stream = stream.map_err(|e| failed(e.to_string()))?;
    let purged = stream.purge().filter(subject).await;
    purged.map(|_| ()).map_err(|e| failed(e.to_string()))
}

impl From<Unread> for ReadError {
    fn from(unread: Unread) -> Self {
        Self::Away(unread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_for_its_own_message_only() {
        let (http, github) = (Service::new("http").unwrap(), Service::new("github").unwrap());
        let (a, b) = (EventId::new("a").unwrap(), EventId::new("b").unwrap());
        let name = Name::fresh(&http, &a);
        assert_ne!(name, Name::fresh(&http, &a), "no two messages share one");
        assert_eq!(Name::check(name.as_str(), &http, &a).as_ref(), Ok(&name));
        assert!(Name::check(name.as_str(), &github, &a).is_err());
        assert!(Name::check(name.as_str(), &http, &b).is_err());
        assert_eq!(Name::parse(name.as_str()), Some((name.clone(), http)));
        assert!(name.moved().starts_with("claims.moved.http."), "{}", name.moved());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let (http, id) = (Service::new("http").unwrap(), EventId::new("a").unwrap());
        let of = digest(&id);
        assert_eq!(of, "ca978112ca1bbdcafac231b39a23dc4d", "SHA-256 of the id");
        for own in [
            "",
            "short",
            "../../x",
            "a.b.c.d.e",
            "*",
            ">",
            "with space",
            "ünicode!",
            &"x".repeat(65),
        ] {
            let text = format!("http/{of}/{own}");
            assert!(Name::check(&text, &http, &id).is_err(), "{text}");
        }
        let own = "0123456789";
        for text in [
            String::new(),
            "/".into(),
            format!("http/{own}"),
            format!("/http/{of}/{own}"),
            format!("http//{of}/{own}"),
            format!("http/../http/{of}/{own}"),
            format!("http/{}/{own}", of.to_uppercase()),
            format!("http/{of}/{own}/"),
            format!("HTTP/{of}/{own}"),
            format!("http/{of}/{own}\r\nX: y"),
            format!("http/{of}/{}", "x".repeat(100_000)),
        ] {
            assert!(Name::check(&text, &http, &id).is_err(), "{text:.80}");
        }
        assert!(Name::check(&format!("http/{of}/{own}"), &http, &id).is_ok());
    }
}
