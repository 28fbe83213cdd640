//! What a fetch finds, and what whoever asks gets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, now};

/// What a fetch found.
#[derive(Debug)]
pub enum Fetched<V> {
    /// A value.
    Fresh(Fresh<V>),
    /// What is known holds still, for so long or as long as the space says.
    Unchanged(Option<Duration>),
    /// There is nothing, which may depend on what these tags name.
    Absent(Vec<String>),
    /// A value for whoever waits for it, not to be kept.
    NotKept(V),
}

/// A value that was fetched.
#[derive(Debug)]
pub struct Fresh<V> {
    /// The value.
    pub value: V,
    /// By which the other side knows it.
    pub etag: Option<String>,
    /// What it depends on. One with more than [`MAX_TAGS`](super::MAX_TAGS), or longer ones than
    /// [`MAX_TAG`](super::MAX_TAG), is not kept.
    pub tags: Vec<String>,
    /// How long it lasts, if not as long as the space says.
    pub ttl: Option<Duration>,
}

impl<V> From<V> for Fresh<V> {
    fn from(value: V) -> Self {
        Self {
            value,
            etag: None,
            tags: Vec::new(),
            ttl: None,
        }
    }
}

/// What is known of a key and may not be used as it is: the other side can be asked whether it holds.
pub struct Known<V> {
    /// The value.
    pub value: Arc<V>,
    pub(super) entry: Arc<Entry>,
}

impl<V> Known<V> {
    /// By which the other side knows it.
    pub fn etag(&self) -> Option<&str> {
        self.entry.etag.as_deref()
    }
}

impl<V> fmt::Debug for Known<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({:?})", self.entry)
    }
}

/// Where an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// In this process's memory.
    Memory,
    /// In Redis.
    Redis,
    /// In Postgres.
    Postgres,
    /// Somebody else in this process was fetching it.
    Flight,
    /// Fetched.
    Fetched,
}

/// An answer.
pub struct Got<V> {
    /// The value; `None`: it is known that there is nothing.
    pub value: Option<Arc<V>>,
    /// Where it was.
    pub from: Place,
    pub(super) entry: Arc<Entry>,
}

impl<V> Got<V> {
    /// How long ago it was asked for.
    pub fn age(&self) -> Duration {
        self.entry.age(now())
    }
}

impl<V> fmt::Debug for Got<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Got({:?}, {:?})", self.from, self.entry)
    }
}

/// What a look found.
#[derive(Debug)]
pub enum Looked<V> {
    /// Something that can be used.
    Usable(Got<V>),
    /// Something that can be asked for by its `etag`.
    Known(Known<V>),
    /// Nothing.
    Nothing,
}

impl<V> Looked<V> {
    /// What can be used.
    pub fn usable(self) -> Option<Got<V>> {
        match self {
            Self::Usable(got) => Some(got),
            Self::Known(_) | Self::Nothing => None,
        }
    }
}
