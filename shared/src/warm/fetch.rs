//! What a worker is asked to fetch ahead, and what it answers: msgpack.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::access::{Digest, MAX_REQUEST, What};
use crate::event::{Event, EventId, Tenant};
use crate::wire;

/// Most keys of one request.
pub const MOST_ITEMS: usize = 10;
/// Most bytes of one request: each key's [request](What::request), its id, its tenant, and what surrounds them.
pub const MOST_BYTES: usize = MOST_ITEMS * (MAX_REQUEST + 128) + 64;

/// A message that is no request, or no answer to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It has more bytes than any has.
    #[error("has {0} bytes, more than {MOST_BYTES}")]
    TooLong(usize),
    /// It names more keys than may be asked for at once, or none.
    #[error("names {0} keys; 1 to {MOST_ITEMS} can be asked for")]
    Keys(usize),
    /// It is no msgpack of this form.
    #[error("makes no sense: {0}")]
    Form(String),
}

/// Keys to fetch unless they are fresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The keys, 1 to [`MOST_ITEMS`].
    pub items: Vec<Item>,
}

/// One key to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its id, as accesses have it.
    pub key: u64,
    /// Whose it is.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The event that asks for it, as [`What::request`] has it.
    pub request: Bytes,
}

impl Item {
    /// Asks for what this digest stands for.
    pub fn new(digest: Digest, what: What) -> Self {
        Self {
            key: digest.id(),
            tenant: what.tenant.map(|tenant| tenant.as_str().to_owned()),
            request: what.request,
        }
    }

    /// The event that a handler is shown to find out what it reads; its id says that nobody published it.
    ///
    /// # Errors
    /// The request or the tenant is none: told in words.
    pub fn event(&self) -> Result<Event, String> {
        if self.request.len() > MAX_REQUEST {
            return Err(format!(
                "has {} bytes, more than {MAX_REQUEST}",
                self.request.len()
            ));
        }
        let mut event = wire::decode(&self.request, EventId::generate).map_err(|error| error.to_string())?;
        let id = EventId::new(format!("warm:{:016x}", self.key));
        event.id = id.map_err(|error| error.to_string())?;
        let tenant = self.tenant.as_deref().map(Tenant::new).transpose();
        event.tenant = tenant.map_err(|error| error.to_string())?;
        Ok(event)
    }
}

impl Request {
    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        // Cannot fail: it is made of numbers, words and bytes.
        rmp_serde::to_vec_named(self).unwrap_or_default().into()
    }

    /// Reads what was sent.
    ///
    /// # Errors
    /// It is none, or asks for too much.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > MOST_BYTES {
            return Err(Unreadable::TooLong(bytes.len()));
        }
        let request: Self = read(bytes)?;
        match request.items.len() {
            1..=MOST_ITEMS => Ok(request),
            count => Err(Unreadable::Keys(count)),
        }
    }
}

/// What became of the keys of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who answers.
    pub worker: String,
    /// Each key of the request, in its order.
    pub outcomes: Vec<(u64, Outcome)>,
    /// How long ago the API last refused a call of this worker's, of whatever kind, in ms; `None` if it never did.
    #[serde(default)]
    pub refused_ago_ms: Option<u64>,
}

impl Answer {
    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        // Cannot fail: it is made of numbers and words.
        rmp_serde::to_vec_named(self).unwrap_or_default().into()
    }

    /// Reads what was sent.
    ///
    /// # Errors
    /// It is no answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > MOST_BYTES {
            return Err(Unreadable::TooLong(bytes.len()));
        }
        let answer: Self = read(bytes)?;
        match answer.outcomes.len() {
            1..=MOST_ITEMS => Ok(answer),
            count => Err(Unreadable::Keys(count)),
        }
    }
}

/// What became of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was fetched.
    Fetched,
    /// It was in the cache and fresh: no call was made.
    Fresh,
    /// No call was made.
    Skipped(Skipped),
    /// The API refused the call for its limits.
    Refused,
    /// The call failed otherwise.
    Failed,
}

/// Why no call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// Others may need the calls that are left.
    Quota,
    /// The worker has events to do, or another request.
    Busy,
    /// The time for the request was up.
    Late,
    /// What is asked for is no read that may be made ahead.
    NotARead,
    /// It makes no sense.
    Unreadable,
}

impl Skipped {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Quota,
        Self::Busy,
        Self::Late,
        Self::NotARead,
        Self::Unreadable,
    ];

    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::NotARead => "not_a_read",
            Self::Unreadable => "unreadable",
        }
    }
}

fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Unreadable> {
    rmp_serde::from_slice(bytes).map_err(|error| Unreadable::Form(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;
    use crate::access::Asked;
    use crate::event::Data;

    fn item(key: u8, data: usize) -> Item {
        let asked = Asked {
            kind: "call".into(),
            data: Data::json(vec![b' '; data]),
        };
        let tenant = Tenant::new("t".repeat(64)).unwrap();
        Item::new(Digest([key; 32]), What::new("name", Some(tenant), asked).unwrap())
    }

    #[test]
    fn a_request_comes_back_as_it_was_however_large_it_may_be() {
        let items: Vec<_> = (0..10).map(|key| item(key, MAX_REQUEST - 100)).collect();
        let request = Request { items };
        let bytes = request.encode();
        assert!(
            bytes.len() > 9 * MAX_REQUEST && bytes.len() < MOST_BYTES,
            "{}",
            bytes.len()
        );
        assert_eq!(Request::decode(&bytes).unwrap(), request);
        let event = request.items[3].event().unwrap();
        assert_eq!(event.id.as_str(), "warm:0303030303030303");
        assert_eq!(
            (event.kind.as_str(), event.tenant.unwrap().as_str().len()),
            ("call", 64)
        );
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let skipped = Skipped::ALL.map(Outcome::Skipped);
        let others = [
            Outcome::Fetched,
            Outcome::Fresh,
            Outcome::Refused,
            Outcome::Failed,
        ];
        let answer = Answer {
            worker: "w".into(),
            outcomes: (1..).zip(skipped.into_iter().chain(others)).collect(),
            refused_ago_ms: Some(7),
        };
        assert_eq!(Answer::decode(&answer.encode()).unwrap(), answer);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let many = Request {
            items: vec![item(1, 1); 11],
        };
        let none = Request { items: Vec::new() };
        for (bytes, why) in [
            (Bytes::new(), "no sense"),
            (Bytes::from_static(b"{}"), "no sense"),
            (Bytes::from_static(b"\xdd\xff\xff\xff\xff"), "no sense"),
            (
                Bytes::from_static(b"\x81\xa5items\xdd\xff\xff\xff\xff"),
                "no sense",
            ),
            (Bytes::from(vec![0x91; 10_000]), "no sense"),
            (Bytes::from(vec![0; MOST_BYTES + 1]), "bytes"),
            (many.encode(), "11 keys"),
            (none.encode(), "0 keys"),
        ] {
            let refused = Request::decode(&bytes).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            Answer::decode(&bytes).unwrap_err();
        }
    }

    #[test]
    fn what_is_no_event_is_told() {
        let good = item(1, 1);
        for bad in [
            Item {
                request: Bytes::from_static(b"\xc1"),
                ..good.clone()
            },
            Item {
                request: vec![b' '; MAX_REQUEST + 1].into(),
                ..good.clone()
            },
            Item {
                tenant: Some("not a tenant".into()),
                ..good.clone()
            },
        ] {
            bad.event().unwrap_err();
        }
        good.event().unwrap();
    }
}
