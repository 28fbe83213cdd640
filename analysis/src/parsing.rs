//! Where files are parsed: here, or in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::apart::{Crew, Place};
use crate::facts::Facts;
use crate::language::Language;
use crate::reading::{Reader, Unread};

/// A file's facts.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) facts: Facts,
    /// The same, as they are kept.
    pub(crate) bytes: Bytes,
}

/// What parses one file after the other.
pub(crate) enum Parsing {
    Here(Reader),
    Apart(Place),
}

impl Parsing {
    pub(crate) fn new(crew: Option<&Arc<Crew>>) -> Self {
        match crew {
            Some(crew) => Self::Apart(Place::new(crew.clone())),
            None => Self::Here(Reader::default()),
        }
    }

    /// See [`Reader::read`].
    pub(crate) fn read(
        &mut self,
        language: Language,
        source: &[u8],
        patience: Duration,
        cancel: &CancellationToken,
    ) -> Result<Read, Unread> {
        match self {
            Self::Here(reader) => {
                let facts = reader.read(language, source, patience, cancel)?;
                let bytes = facts.encode().map_err(|_| Unread::Failed)?;
                Ok(Read { facts, bytes })
            }
            Self::Apart(place) => place.read(language, source, patience, cancel),
        }
    }
}
