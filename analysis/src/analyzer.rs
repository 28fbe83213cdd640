//! The whole analysis, from a source to its report.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::apart::Crew;
use crate::batch::{Outcome, Work};
use crate::catalog::{Catalog, shown};
use crate::error::AnalysisError;
use crate::folder;
use crate::git::cache::Lease;
use crate::git::{self, Commit};
use crate::graph;
use crate::index::Index;
use crate::language::Language;
use crate::pool::Pool;
use crate::report::{Progress, Report};
use crate::resolve::Resolver;
use crate::settings::Settings;
use crate::source::{self, Source};
use crate::sum::Sum;
use crate::tree::Tree;

/// Dependencies given to the index at once.
const EDGES_AT_ONCE: usize = 1000;

/// Analyzes repositories. One for the whole process: it owns the threads that parse.
pub struct Analyzer {
    settings: Arc<Settings>,
    index: Arc<dyn Index>,
    pool: Pool,
    crew: Option<Arc<Crew>>,
}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyzer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A source, found.
struct Located {
    tree: Tree,
    commit: Option<Commit>,
    /// Keeps a fetched repository while it is read.
    lease: Option<Lease>,
}

impl Analyzer {
    /// An analyzer within these bounds.
    pub fn new(settings: Settings, index: Arc<dyn Index>) -> Self {
        let crew = settings.parser.clone();
        Self {
            pool: Pool::new(settings.threads),
            crew: crew.map(|parser| Arc::new(Crew::new(parser, settings.file_memory))),
            settings: Arc::new(settings),
            index,
        }
    }

    /// Analyzes a source. `revision` is a branch, a tag, a full reference name or a full commit hash; without one it
    /// is HEAD. A folder has none. `progress` is called after every batch.
    ///
    /// Dropping the future or cancelling ends it within a file.
    ///
    /// # Errors
    /// See [`AnalysisError`]. What is wrong with single files is in the report.
    pub async fn analyze(
        &self,
        source: &Source,
        revision: Option<&str>,
        cancel: &CancellationToken,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Report, AnalysisError> {
        let began = Instant::now();
        let cancel = cancel.child_token();
        let _end = cancel.clone().drop_guard();
        if let Some(revision) = revision {
            source::admit_revision(revision)?;
        }
        let located = self.locate(source, revision, &cancel).await?;
        let until = Instant::now() + self.settings.time;
        let name = source.name();
        let commit = located.commit.as_ref().map(|commit| commit.id.to_string());
        let (work, lease) = self.prepare(located, until, &cancel).await?;
        let run = self.index.begin(&name, revision, commit.as_deref()).await?;
        let work = Arc::new(Work {
            rows: run.is_some(),
            ..work
        });

        let mut sum = self.read_all(&work, run, progress).await?;
        drop(lease);
        if sum.edges.len() >= self.settings.edges {
            sum.reached.push("edges");
        }
        let (top, catalog) = (self.settings.top, work.catalog.clone());
        let mut edges = std::mem::take(&mut sum.edges);
        let (measured, edges) = self
            .pool
            .parse(&cancel, move || {
                let named = |node| node_name(&catalog, node);
                let measured = graph::measure(catalog.files.len(), &mut edges, top, named);
                (measured, edges)
            })
            .await?;
        if let Some(run) = run {
            for chunk in edges.chunks(EDGES_AT_ONCE) {
                let rows = chunk.iter().map(|edge| (edge.from, edge.to)).collect();
                self.index.dependencies(run, rows).await?;
            }
        }
        let mut report = sum.into_report(&work.catalog, measured);
        report.source = name;
        report.commit = commit;
        report.run = run;
        report.took = began.elapsed();
        if let Some(run) = run {
            self.index.finish(run, &report).await?;
        }
        Ok(report)
    }

    async fn locate(
        &self,
        source: &Source,
        revision: Option<&str>,
        cancel: &CancellationToken,
    ) -> Result<Located, AnalysisError> {
        let settings = self.settings.clone();
        let revision = revision.map(str::to_owned);
        match source {
            Source::Path(path) => {
                let path = path.clone();
                let work = move || locate_path(&path, revision.as_deref(), &settings);
                self.pool.parse(cancel, work).await?
            }
            Source::Url(url) => {
                source::admit_url(url, &settings)?;
                let (url, stop, cancelled) = (url.clone(), Arc::new(AtomicBool::new(false)), cancel.clone());
                let stopping = stop.clone();
                let time = settings.fetch_time;
                let fetching = self.pool.fetch(cancel, move || {
                    let (lease, id) =
                        git::fetch::fetch(&url, revision.as_deref(), &settings, &cancelled, &stopping)?;
                    let commit =
                        git::resolve(git::open_fetched(&lease.path, &settings)?, Some(&id.to_string()))?;
                    Ok(Located {
                        tree: Tree::Repository(Arc::new(commit.repository.clone())),
                        commit: Some(commit),
                        lease: Some(lease),
                    })
                });
                tokio::pin!(fetching);
                let stopped = tokio::select! {
                    done = &mut fetching => return done?,
                    () = tokio::time::sleep(time) => AnalysisError::TooMuch {
                        setting: "fetch_time",
                        what: "time for the fetch".into(),
                    },
                    () = cancel.cancelled() => AnalysisError::Cancelled,
                };
                // Its thread keeps its place until it has seen this, and cleans up.
                stop.store(true, Ordering::Relaxed);
                Err(stopped)
            }
        }
    }

    async fn prepare(
        &self,
        located: Located,
        until: Instant,
        cancel: &CancellationToken,
    ) -> Result<(Work, Option<Lease>), AnalysisError> {
        let (settings, crew, token) = (self.settings.clone(), self.crew.clone(), cancel.clone());
        let Located { tree, commit, lease } = located;
        self.pool
            .parse(cancel, move || {
                let mut catalog = Catalog::new(&settings);
                let go_on = |catalog: &mut Catalog| {
                    if token.is_cancelled() {
                        return Err(AnalysisError::Cancelled);
                    }
                    let time = Instant::now() < until;
                    if !time {
                        catalog.reach("time");
                    }
                    Ok(time)
                };
                match (&tree, commit) {
                    (_, Some(commit)) => git::list(&commit, &mut catalog, go_on)?,
                    (Tree::Folder(root), None) => folder::list(root, &mut catalog, go_on)?,
                    (Tree::Repository(_), None) => {
                        return Err(AnalysisError::Internal("a repository without a commit".into()));
                    }
                }
                let catalog = Arc::new(catalog);
                let resolver = Arc::new(Resolver::new(catalog.clone(), &mut tree.open()));
                let work = Work {
                    catalog,
                    tree,
                    resolver,
                    settings,
                    crew,
                    cancel: token,
                    until,
                    bytes: AtomicU64::new(0),
                    rows: false,
                };
                Ok((work, lease))
            })
            .await?
    }

    async fn read_all(
        &self,
        work: &Arc<Work>,
        run: Option<i64>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sum, AnalysisError> {
        let files = work.catalog.files.len() as u32;
        let size = self.settings.batch.max(1);
        let mut sum = Sum::new(&work.catalog, &self.settings);
        let mut told = Progress {
            files: u64::from(files),
            ..Progress::default()
        };
        // One more batch than threads, so that the index is asked for the next one while these are read.
        let mut batches = stream::iter((0..files).step_by(size))
            .map(|start| self.batch(work, run, start..files.min(start.saturating_add(size as u32))))
            .buffer_unordered(self.settings.threads.max(1) + 1);
        while let Some(outcomes) = batches.next().await {
            for outcome in outcomes? {
                sum.add(outcome, self.settings.edges, &work.catalog);
            }
            told.done = sum.report.parsed + sum.report.reused + sum.passed_over(&work.catalog);
            told.parsed = sum.report.parsed;
            told.bytes = work.bytes.load(Ordering::Relaxed);
            progress(told);
        }
        Ok(sum)
    }

    /// Reads a batch, in pieces if it gives much to be kept.
    async fn batch(
        &self,
        work: &Arc<Work>,
        run: Option<i64>,
        files: Range<u32>,
    ) -> Result<Vec<Outcome>, AnalysisError> {
        let keys = if work.knows_keys() {
            work.keys(files.clone())?
        } else {
            let (work, files, cancel) = (work.clone(), files.clone(), work.cancel.clone());
            self.pool.load(&cancel, move || work.keys(files)).await??
        };
        let asked: Vec<_> = keys
            .iter()
            .filter_map(|keyed| keyed.key.as_ref().ok().cloned())
            .collect();
        let mut answers = self.index.get_many(&asked).await?.into_iter();
        let found: Vec<_> = keys
            .iter()
            .map(|keyed| keyed.key.as_ref().ok().and_then(|_| answers.next()).flatten())
            .collect();
        let (keys, found) = (Arc::new(keys), Arc::new(found));
        let (mut at, mut outcomes) = (files.start, Vec::new());
        while at < files.end {
            let rest = at..files.end;
            let skip = (at - files.start) as usize;
            let (piece, keys, found) = (work.clone(), keys.clone(), found.clone());
            let mut outcome = self
                .pool
                .parse(&work.cancel, move || {
                    piece.read(rest, &keys[skip..], &found[skip..])
                })
                .await??;
            let entries = std::mem::take(&mut outcome.entries);
            if !entries.is_empty() {
                self.index.put_many(entries).await?;
            }
            let rows = std::mem::take(&mut outcome.rows);
            if let Some(run) = run
                && !rows.is_empty()
            {
                self.index.files(run, rows).await?;
            }
            at = if outcome.stopped.is_some() {
                files.end
            } else {
                outcome.next
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }
}

/// A file's path, or a package's folder.
fn node_name(catalog: &Catalog, node: u32) -> String {
    let file = &catalog.files[node as usize];
    match file.language {
        Language::Go => format!("{}/", shown(&catalog.dir_path(file.dir))),
        _ => shown(&catalog.path(node)),
    }
}

fn locate_path(path: &Path, revision: Option<&str>, settings: &Settings) -> Result<Located, AnalysisError> {
    let path = source::admit_path(path, settings)?;
    if git::is_repository(&path) {
        let commit = git::resolve(git::open(&path, settings)?, revision)?;
        return Ok(Located {
            tree: Tree::Repository(Arc::new(commit.repository.clone())),
            commit: Some(commit),
            lease: None,
        });
    }
    if revision.is_some() {
        return Err(AnalysisError::Refused(
            "a folder that is no repository has no revisions".into(),
        ));
    }
    Ok(Located {
        tree: Tree::Folder(Arc::new(folder::open(&path)?)),
        commit: None,
        lease: None,
    })
}
