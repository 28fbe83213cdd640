//! What an analysis tells: totals and the first of each list. Everything else is in the index.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::Skipped;
use crate::graph::Dependencies;
use crate::language::Language;

/// Sums over files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Files of code.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Lines.
    pub lines: u64,
    /// Lines that hold more than white space and comments.
    pub code_lines: u64,
    /// Symbols.
    pub symbols: u64,
    /// Functions and methods that have a body.
    pub functions: u64,
    /// Cyclomatic complexity.
    pub complexity: u64,
    /// Places that the grammars did not understand.
    pub errors: u64,
    /// Files that hold such places.
    pub files_with_errors: u64,
    /// Symbols and imports over the bounds of a file, which are not kept.
    pub dropped: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.code_lines += other.code_lines;
        self.symbols += other.symbols;
        self.functions += other.functions;
        self.complexity += other.complexity;
        self.errors += other.errors;
        self.files_with_errors += other.files_with_errors;
        self.dropped += other.dropped;
    }
}

/// A file and a measure of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Measured {
    /// Lines, or complexity.
    pub value: u64,
    /// The file.
    pub path: String,
}

/// A function and its complexity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeasuredFunction {
    /// Its cyclomatic complexity.
    pub complexity: u32,
    /// Its file.
    pub path: String,
    /// Its first line.
    pub line: u32,
    /// Its name, with its parents.
    pub name: String,
}

/// What an analysis tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was analyzed, without secrets.
    pub source: String,
    /// The commit; none for a folder.
    pub commit: Option<String>,
    /// Under which the index keeps the files; none if the index keeps none.
    pub run: Option<i64>,
    /// Whether all of it was read: false if a bound was reached.
    pub complete: bool,
    /// The settings whose bounds were reached.
    pub reached: Vec<String>,
    /// Entries of all folders.
    pub entries: u64,
    /// Files that were parsed by this analysis.
    pub parsed: u64,
    /// Files whose facts were in the index.
    pub reused: u64,
    /// All languages.
    pub totals: Totals,
    /// Each language.
    pub languages: BTreeMap<Language, Totals>,
    /// What was passed over, and why.
    pub skipped: Skipped,
    /// Files with the most lines.
    pub largest: Vec<Measured>,
    /// Files with the highest complexity.
    pub most_complex: Vec<Measured>,
    /// Functions with the highest complexity.
    pub most_complex_functions: Vec<MeasuredFunction>,
    /// Who depends on whom.
    pub dependencies: Dependencies,
    /// How long it took, the fetch included.
    pub took: Duration,
}

/// How far an analysis is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that are done.
    pub done: u64,
    /// Files to be done; 0 while they are not known.
    pub files: u64,
    /// Files that were parsed.
    pub parsed: u64,
    /// Bytes of source that are done.
    pub bytes: u64,
}

/// The greatest few of many.
#[derive(Debug)]
pub(crate) struct Top<T> {
    most: usize,
    list: Vec<T>,
}

impl<T: Ord> Top<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            list: Vec::new(),
        }
    }

    /// Whether something with this measure could be among them.
    pub(crate) fn wants(&self, better: impl Fn(&T) -> bool) -> bool {
        self.most > 0 && (self.list.len() < self.most || self.list.last().is_some_and(better))
    }

    pub(crate) fn add(&mut self, one: T) {
        // Paths break ties, so that the order in which batches end does not show.
        let at = self.list.partition_point(|other| *other > one);
        if at < self.most {
            self.list.insert(at, one);
            self.list.truncate(self.most);
        }
    }

    pub(crate) fn into_list(self) -> Vec<T> {
        self.list
    }
}
