//! Which rules led to an event, one after the other: the count of them is what ends a loop.

use std::fmt;

use crate::{MAX_HOPS, MAX_NAME};

/// The rules that led to an event, the first one first; none for an event that came from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain(Vec<String>);

impl Chain {
    /// Reads a header. Anybody can write one: of a longer chain than any may be, or of longer names, as much is kept as
    /// tells that it is too long.
    pub fn parse(header: Option<&str>) -> Self {
        let names = header.unwrap_or_default().split(',').map(str::trim);
        let named = names.filter(|name| !name.is_empty()).take(MAX_HOPS + 1);
        Self(named.map(|name| name.chars().take(MAX_NAME).collect()).collect())
    }

    /// How many rules led here.
    pub fn hops(&self) -> usize {
        self.0.len()
    }

    /// The chain of an event that this rule emits.
    #[must_use]
    pub fn then(&self, rule: &str) -> Self {
        let mut names = self.0.clone();
        names.push(rule.to_owned());
        Self(names)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}
