//! What an entry is called: a space, whose it is, and a name within; by the digest of all three it is looked for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::event::Tenant;

/// Longest name within a space, in bytes. What is longer is not cached: give a digest of it.
pub const MAX_NAME: usize = 1024;
/// Longest name of a space.
const MAX_SPACE: usize = 32;

/// The SHA-256 of a key's readable form, which is another one for every key.
pub(super) type Digest = [u8; 32];

/// The key of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub(super) digest: Digest,
    readable: Arc<str>,
}

/// What cannot be a key, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// No name of a space.
    #[error("{0:?} is no name of a cache's space: 1 to 32 of a-z, 0-9 and -, a letter first")]
    Space(String),
    /// No key in its readable form.
    #[error("{0:?} is no key of a cache: write space:tenant:name, or space::name for what is nobody's")]
    Form(String),
    /// Nothing, or too much.
    #[error("a name of {0} bytes is no key of a cache: 1 to {MAX_NAME} make one")]
    Name(usize),
}

impl Key {
    /// The key of a name in a space, as one tenant's or as nobody's.
    ///
    /// # Errors
    /// A part of it is empty, too long or, of the space, not as it should be.
    pub fn new(space: &str, tenant: Option<&Tenant>, name: &str) -> Result<Self, BadKey> {
        check_space(space)?;
        Self::within(space, tenant, name)
    }

    /// The same, for a space whose name is known to be one.
    pub(super) fn within(space: &str, tenant: Option<&Tenant>, name: &str) -> Result<Self, BadKey> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(BadKey::Name(name.len()));
        }
        let tenant = tenant.map_or("", Tenant::as_str);
        let mut readable = String::with_capacity(space.len() + tenant.len() + name.len() + 2);
        // No space and no tenant has a colon in it.
        for part in [space, ":", tenant, ":", name] {
            readable.push_str(part);
        }
        Ok(Self {
            digest: Sha256::digest(&readable).into(),
            readable: readable.into(),
        })
    }

    /// `space:tenant:name`, which is what patterns are matched with.
    pub fn as_str(&self) -> &str {
        &self.readable
    }

    /// The SHA-256 of [`as_str`](Self::as_str).
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// By which it is looked for outside this process.
    pub(super) fn hex(&self) -> String {
        hex::encode(self.digest)
    }
}

impl FromStr for Key {
    type Err = BadKey;

    /// Reads `space:tenant:name`, or `space::name` for what is nobody's.
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let form = || BadKey::Form(text.chars().take(100).collect());
        let (space, rest) = text.split_once(':').ok_or_else(form)?;
        let (tenant, name) = rest.split_once(':').ok_or_else(form)?;
        let tenant = match tenant {
            "" => None,
            tenant => Some(Tenant::new(tenant).map_err(|_| form())?),
        };
        Self::new(space, tenant.as_ref(), name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.readable)
    }
}

/// Whether this may be the name of a space.
pub(super) fn check_space(space: &str) -> Result<(), BadKey> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let starts = space.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if starts && space.len() <= MAX_SPACE && space.bytes().all(fits) {
        Ok(())
    } else {
        Err(BadKey::Space(space.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_one() {
        let tenant = |name: &str| Tenant::new(name).unwrap();
        let (a, b) = (tenant("a"), tenant("b"));
        let keys = [
            Key::new("s", None, "x"),
            Key::new("s", Some(&a), "x"),
            Key::new("s", Some(&b), "x"),
            Key::new("t", None, "x"),
            Key::new("s", None, ":x"),
            Key::new("s", None, "a:x"),
            Key::new("s", None, "x:"),
        ]
        .map(|key| key.unwrap());
        for (n, key) in keys.iter().enumerate() {
            assert!(
                keys[n + 1..].iter().all(|other| other.digest != key.digest),
                "{key}"
            );
        }
        assert_eq!(keys[1].as_str(), "s:a:x");
        for key in &keys {
            assert_eq!(key.as_str().parse::<Key>().unwrap(), *key);
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_told() {
        let long = "n".repeat(MAX_NAME + 1);
        for (space, name) in [
            ("", "x"),
            ("S", "x"),
            ("1a", "x"),
            ("a:b", "x"),
            ("a", ""),
            ("a", long.as_str()),
            ("a234567890123456789012345678901234", "x"),
        ] {
            assert!(Key::new(space, None, name).is_err(), "{space:?} {}", name.len());
        }
        assert!(Key::new("github-reads", None, &long[1..]).is_ok());
        for text in ["", "s", "s:x", "S::x", "s::", "s:a b:x"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
