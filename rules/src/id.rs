//! The ids of follow-up events: the same decision gives the same id, whoever makes it and however often.

use sha2::{Digest, Sha256};
use shared::event::{EventId, Tenant};

/// What tells the follow-ups of a rule apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// The event that it follows from, and its place among those that follow.
    Place(&'a EventId, usize),
    /// What the rule says instead, which is the same event for the same tenant whatever it follows from.
    Said(&'a str, Option<&'a Tenant>),
}

/// `<rule>:<32 hexadecimal digits>`.
pub(crate) fn derive(rule: &str, part: Part<'_>) -> EventId {
    let mut hash = Sha256::new();
    // Each with its length, so that no two different decisions run together.
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    add(rule);
    match part {
        Part::Place(parent, index) => {
            add("place");
            add(parent.as_str());
            add(&index.to_string());
        }
        Part::Said(said, tenant) => {
            add("said");
            add(tenant.map_or("", Tenant::as_str));
            add(said);
        }
    }
    let digest = hex::encode(&hash.finalize()[..16]);
    let id = EventId::new(format!("{rule}:{digest}"));
    // A rule's name is short and plain, so this cannot fail; the digest alone is an id all the same.
    id.or_else(|_| EventId::new(digest))
        .unwrap_or_else(|_| EventId::from_position("rules", 0))
}
