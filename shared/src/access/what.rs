//! What a key stands for: its name for people, and what makes a worker fetch it again.

use bytes::Bytes;

use crate::event::{Data, Event, EventId, Invalid, Tenant};
use crate::wire::{self, WireError};

/// Longest request, in bytes: a longer one is not kept, and its key cannot be fetched ahead.
pub const MAX_REQUEST: usize = 4096;
/// Longest name, in characters: what is longer is cut.
pub const MAX_NAME: usize = 300;

/// What to fetch for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    /// The key's readable name, for people: without control characters, at most [`MAX_NAME`].
    pub name: String,
    /// Whose it is.
    pub tenant: Option<Tenant>,
    /// What of an event makes a worker's handler read the same again: see [`What::asked`].
    pub request: Bytes,
}

/// The part of an event that says what is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The event's type.
    pub kind: String,
    /// Its payload, or as much of it as the handler looks at.
    pub data: Data,
}

impl What {
    /// What an event that is [`Asked`] reads. `None` where it would be longer than [`MAX_REQUEST`], or the type is none.
    pub fn new(name: &str, tenant: Option<Tenant>, asked: Asked) -> Option<Self> {
        let long = match &asked.data {
            Data::None => 0,
            Data::Inline(bytes) | Data::Blob { bytes, .. } => bytes.len(),
        };
        // Not copied, only to find that it does not fit.
        let fits = long <= MAX_REQUEST && (1..=crate::event::MAX_NAME).contains(&asked.kind.len());
        let id = EventId::new("-").ok().filter(|_| fits)?;
        let mut event = Event::new(id, asked.kind);
        event.data = asked.data;
        let request = wire::encode(&event);
        (request.len() <= MAX_REQUEST).then(|| Self {
            name: readable(name),
            tenant,
            request,
        })
    }

    /// What is to be asked.
    ///
    /// # Errors
    /// The request is longer than [`MAX_REQUEST`], or does not decode.
    pub fn asked(&self) -> Result<Asked, WireError> {
        if self.request.len() > MAX_REQUEST {
            return Err(WireError::TooLarge);
        }
        let event = wire::decode(&self.request, EventId::generate)?;
        Ok(Asked {
            kind: event.kind,
            data: event.data,
        })
    }

    /// What stands in the table, which others may have written.
    pub(super) fn stored(name: &str, tenant: Option<String>, request: Vec<u8>) -> Result<Self, Invalid> {
        Ok(Self {
            name: readable(name),
            tenant: tenant.map(Tenant::new).transpose()?,
            request: request.into(),
        })
    }
}

fn readable(name: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    name.chars().take(MAX_NAME).map(shown).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;

    fn asked(data: Data) -> Asked {
        Asked {
            kind: "call".into(),
            data,
        }
    }

    #[test]
    fn what_is_asked_comes_back_as_it_was() {
        let inline = rmp_serde::to_vec(&serde_json::json!({"path": "/repos/octo/repo"})).unwrap();
        for data in [
            Data::None,
            Data::Inline(inline.into()),
            Data::json(&b"{\"path\":\"/zen\"}"[..]),
        ] {
            let what = What::new("n", Some(Tenant::new("acme").unwrap()), asked(data.clone())).unwrap();
            assert!(what.request.len() < 100, "{}", what.request.len());
            assert_eq!(what.asked().unwrap(), asked(data));
        }
    }

    #[test]
    fn what_is_too_long_is_nothing_and_a_name_is_made_readable() {
        let json = |n: usize| asked(Data::json(vec![b' '; n]));
        assert!(What::new("n", None, json(MAX_REQUEST - 100)).is_some());
        for n in [MAX_REQUEST - 1, MAX_REQUEST, MAX_REQUEST + 1, 1 << 20] {
            assert!(What::new("n", None, json(n)).is_none(), "{n}");
        }
        for kind in [String::new(), "k".repeat(129)] {
            let asked = Asked {
                kind,
                ..asked(Data::None)
            };
            assert!(What::new("n", None, asked).is_none());
        }
        let name = format!("a\0b\n\u{1b}[31m{}", "é".repeat(1000));
        let what = What::new(&name, None, asked(Data::None)).unwrap();
        assert!(what.name.starts_with("a\u{fffd}b\u{fffd}\u{fffd}[31mé"));
        assert_eq!(what.name.chars().count(), MAX_NAME);
    }

    #[test]
    fn a_request_that_is_none_is_told() {
        for request in [
            &b""[..],
            b"\x81",
            b"\xc1",
            b"nothing",
            b"{\"v\":1}",
            b"\x81\xa1v\x02",
            &[0x91; 4096],
            &[b' '; 5000],
        ] {
            let what = What::stored("n", None, request.to_vec()).unwrap();
            assert!(what.asked().is_err(), "{request:?}");
        }
        assert!(What::stored("n", Some("not a tenant".into()), Vec::new()).is_err());
    }
}
