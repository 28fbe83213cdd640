//! What an event reads, where that is all that it does: what is kept of the answer, and when a kept one will do.

use std::time::Duration;

use serde_json::Value;

/// A read. Made twice it has the same answer, unless something has changed over there meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// What is asked, the same for all events that ask the same: method and path, or a query in one form. Of whom and
    /// by whose credential need not be said.
    pub name: String,
    /// What the answer depends on: whoever says that one of these is invalid makes the answer invalid.
    pub tags: Vec<String>,
    /// How old a kept answer may be, where the event says so: zero for none.
    pub max_age: Option<Duration>,
    /// Whether the event tells that something is different now: then nothing will do that was asked for before it came.
    pub is_news: bool,
    /// What belongs together and is asked for together, such as a repository.
    pub repository: Option<String>,
    /// An event that makes the same read, and as little as possible besides: its type and data.
    pub again: (&'static str, Value),
}

/// How old a kept answer may be at most, whatever an event says.
const MOST: Duration = Duration::from_secs(86_400);

/// What an event says in seconds of how old an answer may be.
pub fn max_age(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(MOST)
}
