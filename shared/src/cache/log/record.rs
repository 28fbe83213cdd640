//! An invalidation in bytes: JSON.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::entry::MAX_TAG;
use crate::cache::key::{Digest, Key};
use crate::cache::pattern::Pattern;

/// Most bytes of one: the longest name, each byte escaped.
pub(super) const MAX_BYTES: usize = 8 * 1024;

/// What becomes invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// One entry.
    Key(Key),
    /// All entries with this tag, of whatever space and tenant.
    Tag(String),
    /// All entries whose keys match.
    Pattern(Pattern),
}

impl What {
    /// The entries with a tag.
    ///
    /// # Errors
    /// It is empty or longer than [`MAX_TAG`].
    pub fn tag(tag: impl Into<String>) -> Result<Self, String> {
        let tag = tag.into();
        if (1..=MAX_TAG).contains(&tag.len()) {
            Ok(Self::Tag(tag))
        } else {
            Err(format!("a tag of {} bytes: 1 to {MAX_TAG} make one", tag.len()))
        }
    }

    /// One word.
    pub(in crate::cache) fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Tag(_) => "tag",
            Self::Pattern(_) => "pattern",
        }
    }
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Written {
    Key { what: String, at: u64 },
    Tag { what: String, at: u64 },
    Pattern { what: String, at: u64 },
    Floor { revision: u64 },
}

/// As it is understood.
#[derive(Debug)]
pub(super) enum Record {
    Key {
        key: Digest,
        at: u64,
    },
    Tag {
        tag: Box<str>,
        at: u64,
    },
    Pattern {
        pattern: Pattern,
        at: u64,
    },
    /// Whatever was made before a revision was known.
    Floor {
        revision: u64,
    },
}

impl Record {
    pub(super) fn of(what: &What, at: u64) -> Self {
        match what {
            What::Key(key) => Self::Key { key: key.digest, at },
            What::Tag(tag) => Self::Tag {
                tag: tag.as_str().into(),
                at,
            },
            What::Pattern(pattern) => Self::Pattern {
                pattern: pattern.clone(),
                at,
            },
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_BYTES {
            return Err(format!("has more than {MAX_BYTES} bytes"));
        }
        Ok(
            match serde_json::from_slice(bytes).map_err(|error| error.to_string())? {
                Written::Key { what, at } => Self::Key {
                    key: Sha256::digest(what).into(),
                    at,
                },
                Written::Tag { what, at } => Self::Tag { tag: what.into(), at },
                Written::Pattern { what, at } => Self::Pattern {
                    pattern: what.parse()?,
                    at,
                },
                Written::Floor { revision } => Self::Floor { revision },
            },
        )
    }
}

/// An invalidation's bytes.
pub(super) fn write(what: &What, at: u64) -> Vec<u8> {
    bytes(&match what {
        What::Key(key) => Written::Key {
            what: key.as_str().to_owned(),
            at,
        },
        What::Tag(tag) => Written::Tag {
            what: tag.clone(),
            at,
        },
        What::Pattern(pattern) => Written::Pattern {
            what: pattern.as_str().to_owned(),
            at,
        },
    })
}

/// The bytes of what folds everything up to a revision.
pub(super) fn write_floor(revision: u64) -> Vec<u8> {
    bytes(&Written::Floor { revision })
}

fn bytes(written: &Written) -> Vec<u8> {
    serde_json::to_vec(written).unwrap_or_default()
}

/// Where it lies in the bucket: what is said again takes the place of what was said.
pub(super) fn place(what: &What) -> String {
    let (letter, digest) = match what {
        What::Key(key) => ('k', key.digest),
        What::Tag(tag) => ('t', Sha256::digest(tag).into()),
        What::Pattern(pattern) => ('p', Sha256::digest(pattern.as_str()).into()),
    };
    format!("{letter}.{}", hex::encode(&digest[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalidation_reads_as_it_was_written() {
        let key = Key::new("s", None, "x\n\"").unwrap();
        let read = |what: &What| Record::read(&write(what, 5)).unwrap();
        assert!(
            matches!(read(&What::Key(key.clone())), Record::Key { key: digest, at: 5 } if digest == key.digest)
        );
        assert!(matches!(read(&What::tag("t").unwrap()), Record::Tag { tag, at: 5 } if &*tag == "t"));
        let pattern = What::Pattern("s:*".parse().unwrap());
        assert!(matches!(read(&pattern), Record::Pattern { pattern, .. } if pattern.as_str() == "s:*"));
        assert!(matches!(
            Record::read(&write_floor(9)),
            Ok(Record::Floor { revision: 9 })
        ));
        let longest = Key::new("s", None, &"\u{1}".repeat(1024)).unwrap();
        assert!(write(&What::Key(longest), u64::MAX).len() <= MAX_BYTES);
    }

    #[test]
    fn what_is_none_is_told() {
        let long = format!(r#"{{"kind":"tag","what":"{}","at":1}}"#, "x".repeat(MAX_BYTES));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"kind":"moon","what":"x","at":1}"#,
            r#"{"kind":"tag","what":"x"}"#,
            r#"{"kind":"tag","what":"x","at":-1}"#,
            r#"{"kind":"pattern","what":"","at":1}"#,
            &long,
        ] {
            assert!(Record::read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(What::tag("").is_err() && What::tag("t".repeat(MAX_TAG + 1)).is_err());
    }
}
