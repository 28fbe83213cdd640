//! Repositories: opened without anybody's configuration, read from their objects, never checked out.

pub(crate) mod budget;
pub(crate) mod cache;
pub(crate) mod fetch;
mod http;
mod inside;

use std::path::Path;

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::objs::FindExt;
use gix::objs::tree::EntryKind;

use crate::catalog::{Catalog, Reason, TOP};
use crate::error::AnalysisError;
use crate::settings::Settings;

/// What must not be chosen by the repository: memory. Bytes.
const OVERRIDES: [&str; 4] = [
    "core.deltaBaseCacheLimit=8388608",
    "gitoxide.objects.cacheLimit=0",
    "pack.threads=1",
    "core.logAllRefUpdates=false",
];

/// A commit to be read.
pub(crate) struct Commit {
    pub(crate) repository: gix::ThreadSafeRepository,
    pub(crate) id: ObjectId,
    tree: ObjectId,
}

fn options(settings: &Settings) -> gix::open::Options {
    let largest = format!("gitoxide.objects.allocLimit={}", settings.object_bytes);
    let overrides = OVERRIDES.into_iter().map(str::to_owned);
    gix::open::Options::isolated().cli_overrides(overrides.chain([largest]))
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> AnalysisError {
    AnalysisError::Broken(http::chain(&error))
}

/// Whether there is a repository right at `path`.
pub(crate) fn is_repository(path: &Path) -> bool {
    path.join(".git").symlink_metadata().is_ok()
        || (path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir())
}

/// Opens the repository at `path`, which is admitted already.
pub(crate) fn open(path: &Path, settings: &Settings) -> Result<gix::ThreadSafeRepository, AnalysisError> {
    inside::check(path, settings)?;
    options(settings).open(path).map_err(broken)
}

/// Opens a repository of the cache.
pub(crate) fn open_fetched(
    path: &Path,
    settings: &Settings,
) -> Result<gix::ThreadSafeRepository, AnalysisError> {
    options(settings).open_path_as_is(true).open(path).map_err(broken)
}

/// The commit that a branch, a tag, a full reference name or a full hash names; without one, HEAD's.
pub(crate) fn resolve(
    repository: gix::ThreadSafeRepository,
    revision: Option<&str>,
) -> Result<Commit, AnalysisError> {
    let local = repository.to_thread_local();
    let name = revision.unwrap_or("HEAD");
    let missing = || AnalysisError::NotFound(format!("there is no revision {name}"));
    let named = local.try_find_reference(name).ok().flatten();
    let id = match named {
        Some(mut reference) => reference.peel_to_id().map_err(|_| missing())?.detach(),
        None => ObjectId::from_hex(name.as_bytes()).map_err(|_| missing())?,
    };
    let commit = local
        .find_object(id)
        .map_err(|_| missing())?
        .peel_to_kind(gix::object::Kind::Commit)
        .map_err(|_| missing())?;
    let id = commit.id;
    let tree = commit.into_commit().tree_id().map_err(broken)?.detach();
    Ok(Commit { repository, id, tree })
}

/// Lists what there is. `go_on` is asked before every folder.
pub(crate) fn list(
    commit: &Commit,
    catalog: &mut Catalog,
    mut go_on: impl FnMut(&mut Catalog) -> Result<bool, AnalysisError>,
) -> Result<(), AnalysisError> {
    let repository = commit.repository.to_thread_local();
    let mut buffer = Vec::new();
    let mut open = vec![(TOP, commit.tree)];
    while let Some((dir, tree)) = open.pop() {
        if !go_on(catalog)? {
            return Ok(());
        }
        let Ok(tree) = repository.objects.find_tree_iter(&tree, &mut buffer) else {
            if dir == TOP {
                return Err(AnalysisError::Broken("the commit's tree is missing".into()));
            }
            catalog.skip(Reason::Unreadable, dir, b".");
            continue;
        };
        let first = open.len();
        for entry in tree {
            let Ok(entry) = entry else {
                catalog.skip(Reason::Unreadable, dir, b".");
                break;
            };
            if !catalog.entry() {
                return Ok(());
            }
            let name = entry.filename.as_bytes();
            let odd = name.is_empty() || name == b"." || name == b".." || name.contains(&b'/');
            match entry.mode.kind() {
                _ if odd => catalog.skip(Reason::Unreadable, dir, name),
                EntryKind::Tree => {
                    let id = entry.oid.to_owned();
                    open.extend(catalog.dir(dir, name).map(|dir| (dir, id)));
                }
                EntryKind::Blob | EntryKind::BlobExecutable => {
                    if !catalog.file(dir, name, Some(entry.oid.to_owned())) {
                        return Ok(());
                    }
                }
                EntryKind::Link => catalog.skip(Reason::Link, dir, name),
                EntryKind::Commit => catalog.skip(Reason::Submodule, dir, name),
            }
        }
        open[first..].reverse();
    }
    Ok(())
}

/// Fills `buffer` with a blob.
pub(crate) fn load(
    repository: &gix::Repository,
    blob: ObjectId,
    limit: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), Reason> {
    // Its size is known before it is unpacked.
    let header = repository.find_header(blob).map_err(|_| Reason::Unreadable)?;
    if header.kind() != gix::object::Kind::Blob {
        return Err(Reason::Unreadable);
    }
    if header.size() > limit as u64 {
        return Err(Reason::TooLarge);
    }
    repository
        .objects
        .find_blob(&blob, buffer)
        .map_err(|_| Reason::Unreadable)
        .map(|_| ())
}
