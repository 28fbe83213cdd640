//! Where files are parsed: here, or in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::apart::{Crew, Place};
use crate::facts::{Facts, Key};
use crate::language::Language;
use crate::reading::{Reader, Unread};

/// A file to be parsed.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its number.
    pub(crate) at: u32,
    /// Under which its facts are kept.
    pub(crate) key: Key,
    pub(crate) language: Language,
    pub(crate) source: Bytes,
    /// See [`Reader::read`].
    pub(crate) patience: Duration,
}

/// A file's facts.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) facts: Arc<Facts>,
    /// The same, as they are kept.
    pub(crate) bytes: Bytes,
}

/// What parses one file after the other.
pub(crate) enum Parsing {
    Here { reader: Box<Reader>, next: Option<Job> },
    Apart(Place),
}

impl Parsing {
    pub(crate) fn new(crew: Option<&Arc<Crew>>) -> Self {
        match crew {
            Some(crew) => Self::Apart(Place::new(crew.clone())),
            None => Self::Here {
                reader: Box::default(),
                next: None,
            },
        }
    }

    /// Takes a file and tells of the one taken before. Thus one file is parsed in a process of its own while this one loads
    /// what comes next and keeps what has come of the last.
    pub(crate) fn next(
        &mut self,
        job: Option<Job>,
        cancel: &CancellationToken,
    ) -> Option<(Job, Result<Read, Unread>)> {
        match self {
            Self::Here { reader, next } => {
                let job = std::mem::replace(next, job)?;
                let read = read_here(reader, &job, cancel);
                Some((job, read))
            }
            Self::Apart(place) => place.next(job, cancel),
        }
    }
}

fn read_here(reader: &mut Reader, job: &Job, cancel: &CancellationToken) -> Result<Read, Unread> {
    let facts = reader.read(job.language, &job.source, job.patience, cancel)?;
    let bytes = facts.encode().map_err(|_| Unread::Failed)?;
    Ok(Read {
        facts: Arc::new(facts),
        bytes,
    })
}
