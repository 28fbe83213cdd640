//! Where facts are kept: by content, so that what was read once is never read again, and by repository, so that it
//! can be asked about.

pub mod memory;
pub mod postgres;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::facts::{Facts, Key};
use crate::language::Language;
use crate::report::Report;

/// The index did not do what it was asked; nothing is known of why, so it may another time.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IndexError(pub String);

/// Facts to be kept.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Under which.
    pub key: Key,
    /// As bytes: what is given back.
    pub bytes: Bytes,
    /// The same, for an index that can be asked about them; empty of content that [is too costly](crate::facts::too_costly).
    pub facts: Arc<Facts>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Its number in its run.
    pub number: u32,
    /// Its path, as [`crate::catalog::shown`] writes it.
    pub path: String,
    /// Under which its facts are kept.
    pub key: Key,
    /// Its language.
    pub language: Language,
    /// Bytes.
    pub bytes: u64,
    /// Lines.
    pub lines: u32,
    /// Lines of code.
    pub code_lines: u32,
    /// Cyclomatic complexity.
    pub complexity: u32,
}

/// What is promised by a store of facts. Batches hold as many entries as the setting `batch` says.
pub trait Index: Send + Sync + 'static {
    /// What is kept under each of these keys, in their order.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, IndexError>>;

    /// Keeps entries. Those that are there already stay as they are: the same content has the same facts. Only what
    /// was [too costly](crate::facts::costs_more_than) gives way.
    fn put_many(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), IndexError>>;

    /// Begins to keep the files of a repository; its number is given with them. `None`: this index keeps none.
    fn begin<'a>(
        &'a self,
        _source: &'a str,
        _revision: Option<&'a str>,
        _commit: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<i64>, IndexError>> {
        Box::pin(async { Ok(None) })
    }

    /// Keeps files of a run.
    fn files(&self, _run: i64, _files: Vec<FileRow>) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async { Ok(()) })
    }

    /// Keeps dependencies of a run, by the numbers of files: from and to. In Go a package's first file stands for it.
    fn dependencies(&self, _run: i64, _edges: Vec<(u32, u32)>) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async { Ok(()) })
    }

    /// Ends a run: from now on it is the one that is asked about.
    fn finish<'a>(&'a self, _run: i64, _report: &'a Report) -> BoxFuture<'a, Result<(), IndexError>> {
        Box::pin(async { Ok(()) })
    }
}
