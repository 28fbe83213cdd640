//! A batch of files: their keys, then their facts, taken from the index or read.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::apart::Crew;
use crate::catalog::{Catalog, Reason, shown};
use crate::error::AnalysisError;
use crate::facts::{Facts, Form, Key, costs_more_than, too_costly};
use crate::graph::Edge;
use crate::index::{Entry, FileRow};
use crate::language::Language;
use crate::parsing::{Job, Parsing, Read};
use crate::reading::Unread;
use crate::report::{Top, Totals};
use crate::resolve::{Resolver, Target};
use crate::settings::Settings;
use crate::tree::{Opened, Tree};

/// Bytes of new facts after which they are given to the index before more is read.
const FLUSH: usize = 4 << 20;
/// Bytes of source that a batch has at hand, so that what is not known yet is not loaded a second time.
const AT_HAND: usize = 2 << 20;

/// What all batches of an analysis share.
pub(crate) struct Work {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tree: Tree,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) crew: Option<Arc<Crew>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) until: Instant,
    /// Bytes of source so far.
    pub(crate) bytes: AtomicU64,
    /// Whether the index wants files and dependencies.
    pub(crate) rows: bool,
}

/// A file's key, or why there is none.
pub(crate) struct Keyed {
    pub(crate) key: Result<Key, Reason>,
    /// The content that the key was made of, if it is at hand.
    source: Option<Bytes>,
}

/// What files of a batch have given.
pub(crate) struct Outcome {
    /// The first file that was not looked at.
    pub(crate) next: u32,
    /// The setting that stops the analysis.
    pub(crate) stopped: Option<&'static str>,
    pub(crate) parsed: u64,
    pub(crate) reused: u64,
    pub(crate) languages: BTreeMap<Language, Totals>,
    pub(crate) skipped: Vec<(Reason, u32)>,
    pub(crate) entries: Vec<Entry>,
    /// Bytes of these.
    kept: usize,
    pub(crate) rows: Vec<FileRow>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) imports: [u64; 3],
    pub(crate) tops: Tops,
}

/// The greatest files and functions.
pub(crate) struct Tops {
    /// Lines, file.
    pub(crate) largest: Top<(u64, Reverse<u32>)>,
    /// Complexity, file.
    pub(crate) complex: Top<(u64, Reverse<u32>)>,
    /// Complexity, file, line, name.
    pub(crate) functions: Top<(u32, Reverse<u32>, Reverse<u32>, String)>,
}

impl Tops {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            largest: Top::new(most),
            complex: Top::new(most),
            functions: Top::new(most),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        other
            .largest
            .into_list()
            .into_iter()
            .for_each(|one| self.largest.add(one));
        other
            .complex
            .into_list()
            .into_iter()
            .for_each(|one| self.complex.add(one));
        other
            .functions
            .into_list()
            .into_iter()
            .for_each(|one| self.functions.add(one));
    }

    fn add<T: AsRef<str>>(&mut self, file: u32, facts: &Facts<T>) {
        self.largest.add((u64::from(facts.lines), Reverse(file)));
        self.complex.add((u64::from(facts.complexity), Reverse(file)));
        for symbol in &facts.symbols {
            if symbol.complexity > 0 && self.functions.wants(|last| symbol.complexity >= last.0) {
                let (parent, name) = (symbol.parent.as_ref(), symbol.name.as_ref());
                let dot = if parent.is_empty() { "" } else { "." };
                let name = [parent, dot, name].concat();
                self.functions
                    .add((symbol.complexity, Reverse(file), Reverse(symbol.start), name));
            }
        }
    }
}

impl Outcome {
    fn keep(&mut self, key: Key, bytes: Bytes, facts: Arc<Facts>) {
        self.kept += bytes.len();
        self.entries.push(Entry { key, bytes, facts });
    }
}

impl Work {
    /// Whether keys are known without reading.
    pub(crate) fn knows_keys(&self) -> bool {
        matches!(self.tree, Tree::Repository(_))
    }

    /// The keys of files: of a repository's blobs by their ids, of a folder's files by their content.
    pub(crate) fn keys(&self, files: Range<u32>) -> Result<Vec<Keyed>, AnalysisError> {
        let mut contents = (!self.knows_keys()).then(|| self.tree.open());
        let mut at_hand = 0;
        files
            .map(|at| {
                if self.cancel.is_cancelled() {
                    return Err(AnalysisError::Cancelled);
                }
                let file = &self.catalog.files[at as usize];
                let mut source = None;
                let key = match (&mut contents, file.blob) {
                    (None, Some(blob)) => Ok(Key::new(file.language, blob.as_slice())),
                    (None, None) => Err(Reason::Unreadable),
                    (Some(contents), _) => self.load(at, contents).map(|(key, content)| {
                        at_hand += content.len();
                        source = (at_hand <= AT_HAND).then_some(content);
                        key
                    }),
                };
                Ok(Keyed { key, source })
            })
            .collect()
    }

    /// The facts of files, of which `found` are known. Stops early when there is much to be kept: `next` tells.
    pub(crate) fn read(
        &self,
        files: Range<u32>,
        keys: &[Keyed],
        found: &[Option<Bytes>],
    ) -> Result<Outcome, AnalysisError> {
        let mut outcome = Outcome {
            next: files.start,
            stopped: None,
            parsed: 0,
            reused: 0,
            languages: BTreeMap::new(),
            skipped: Vec::new(),
            entries: Vec::new(),
            kept: 0,
            rows: Vec::new(),
            edges: Vec::new(),
            imports: [0; 3],
            tops: Tops::new(self.settings.top),
        };
        let (mut parsing, mut contents) = (Parsing::new(self.crew.as_ref()), None);
        for (at, (keyed, found)) in files.zip(keys.iter().zip(found)) {
            outcome.stopped = self.stops()?;
            if outcome.stopped.is_some() || outcome.kept > FLUSH {
                break;
            }
            outcome.next = at + 1;
            let costs = found.as_deref().and_then(costs_more_than);
            if self.crew.is_some() && costs.is_some_and(|more| more >= self.settings.file_memory) {
                outcome.skipped.push((Reason::TooCostly, at));
                continue;
            }
            let key = match &keyed.key {
                Ok(key) => key.clone(),
                Err(reason) => {
                    outcome.skipped.push((*reason, at));
                    continue;
                }
            };
            // What does not decode was kept by somebody else's mistake: it is read again.
            if let Some(facts) = found.as_ref().and_then(|bytes| Facts::<&str>::decode(bytes).ok()) {
                outcome.reused += 1;
                self.bytes.fetch_add(facts.bytes, Ordering::Relaxed);
                self.note(at, key, &facts, &mut outcome);
                continue;
            }
            let loaded = match &keyed.source {
                Some(source) => Ok((key, source.clone())),
                // In a folder it may be other content than the key was made of; then it has another key.
                None => self.load(at, contents.get_or_insert_with(|| self.tree.open())),
            };
            match loaded {
                Err(reason) => outcome.skipped.push((reason, at)),
                Ok((key, source)) => {
                    self.bytes.fetch_add(source.len() as u64, Ordering::Relaxed);
                    let job = Job {
                        at,
                        key,
                        language: self.catalog.files[at as usize].language,
                        source,
                        patience: self.settings.file_time,
                    };
                    let done = parsing.next(Some(job), &self.cancel);
                    self.parsed(done, &mut outcome)?;
                }
            }
        }
        let last = parsing.next(None, &self.cancel);
        self.parsed(last, &mut outcome)?;
        Ok(outcome)
    }

    fn stops(&self) -> Result<Option<&'static str>, AnalysisError> {
        if self.cancel.is_cancelled() {
            return Err(AnalysisError::Cancelled);
        }
        if Instant::now() >= self.until {
            return Ok(Some("time"));
        }
        let full = self.bytes.load(Ordering::Relaxed) >= self.settings.bytes;
        Ok(full.then_some("bytes"))
    }

    /// A file's content, and the key of that.
    fn load(&self, at: u32, contents: &mut Opened) -> Result<(Key, Bytes), Reason> {
        let file = &self.catalog.files[at as usize];
        let (hash, source) = contents.load(&self.catalog, file, self.settings.file_bytes)?;
        Ok((Key::new(file.language, hash.as_bytes()), source.into()))
    }

    /// Keeps what a file has come to.
    fn parsed(
        &self,
        done: Option<(Job, Result<Read, Unread>)>,
        outcome: &mut Outcome,
    ) -> Result<(), AnalysisError> {
        let Some((Job { at, key, .. }, read)) = done else {
            return Ok(());
        };
        match read {
            Ok(Read { facts, bytes }) => {
                outcome.parsed += 1;
                outcome.keep(key.clone(), bytes, facts.clone());
                self.note(at, key, &facts, outcome);
            }
            Err(Unread::TooCostly) => {
                outcome.skipped.push((Reason::TooCostly, at));
                outcome.keep(key, too_costly(self.settings.file_memory), Arc::default());
            }
            Err(Unread::TimedOut) => outcome.skipped.push((Reason::TimedOut, at)),
            Err(Unread::Failed) => outcome.skipped.push((Reason::Unreadable, at)),
            Err(Unread::Cancelled) => return Err(AnalysisError::Cancelled),
        }
        Ok(())
    }

    fn note<T: AsRef<str>>(&self, at: u32, key: Key, facts: &Facts<T>, outcome: &mut Outcome) {
        let language = self.catalog.files[at as usize].language;
        let functions = facts
            .symbols
            .iter()
            .filter(|symbol| symbol.complexity > 0)
            .count();
        outcome.languages.entry(language).or_default().add(&Totals {
            files: 1,
            bytes: facts.bytes,
            lines: u64::from(facts.lines),
            code_lines: u64::from(facts.code_lines),
            symbols: facts.symbols.len() as u64,
            functions: functions as u64,
            complexity: u64::from(facts.complexity),
            errors: u64::from(facts.errors),
            files_with_errors: u64::from(facts.errors > 0),
            dropped: u64::from(facts.dropped),
        });
        outcome.tops.add(at, facts);
        let from = self.resolver.node(at);
        let first = outcome.edges.len();
        let targets = self.resolver.resolve(at, &facts.imports);
        for (import, target) in facts.imports.iter().zip(targets) {
            match target {
                Target::File(file) => {
                    outcome.imports[0] += 1;
                    let to = self.resolver.node(file);
                    if to != from {
                        outcome.edges.push(Edge {
                            from,
                            to,
                            contains: import.form == Form::Child,
                        });
                    }
                }
                Target::External => outcome.imports[1] += 1,
                Target::Unknown => outcome.imports[2] += 1,
            }
        }
        outcome.edges[first..].sort_unstable();
        outcome.edges.dedup();
        if self.rows {
            outcome.rows.push(FileRow {
                number: at,
                path: shown(&self.catalog.path(at)),
                key,
                language,
                bytes: facts.bytes,
                lines: facts.lines,
                code_lines: facts.code_lines,
                complexity: facts.complexity,
            });
        }
    }
}
