//! A plain folder. Every name is opened beneath the one before it and no link is followed, so that nobody who changes
//! the folder meanwhile leads out of it.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use crate::catalog::{self, Catalog, Reason, TOP};
use crate::error::AnalysisError;

/// Folders that hold what is installed or built, or another program's own.
const NOT_SOURCE: [&[u8]; 8] = [
    b".git",
    b".hg",
    b".svn",
    b"node_modules",
    b"__pycache__",
    b".venv",
    b".tox",
    b".mypy_cache",
];

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Opens the folder at the top.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, AnalysisError> {
    openat(rustix::fs::CWD, path, folder_flags(), Mode::empty())
        .map_err(|e| AnalysisError::NotFound(format!("{}: {e}", path.display())))
}

/// Opens `path` beneath `root`, name by name.
fn beneath(root: &OwnedFd, path: &[u8], last: OFlags) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    let mut names = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let flags = if names.peek().is_some() {
            folder_flags()
        } else {
            last
        };
        let from = at.as_ref().map_or(root.as_fd(), AsFd::as_fd);
        at = Some(openat(from, name, flags, Mode::empty())?);
    }
    at.ok_or(Errno::INVAL)
}

/// Reads files one after the other.
pub(crate) struct Files {
    root: Arc<OwnedFd>,
    /// The folder of the last: the next is mostly in the same.
    last: Option<(u32, OwnedFd)>,
}

impl Files {
    pub(crate) fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, last: None }
    }

    /// Fills `buffer` with a file's content.
    pub(crate) fn load(
        &mut self,
        catalog: &Catalog,
        file: &catalog::File,
        limit: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        let opened = self.open(catalog, file).map_err(|e| match e {
            Errno::LOOP => Reason::Link,
            _ => Reason::Unreadable,
        })?;
        read(opened, limit, buffer)
    }

    fn open(&mut self, catalog: &Catalog, file: &catalog::File) -> Result<File, Errno> {
        // Opening a pipe must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = match &mut self.last {
            _ if file.dir == TOP => &*self.root,
            Some((dir, folder)) if *dir == file.dir => folder,
            last => {
                let folder = beneath(&self.root, &catalog.dir_path(file.dir), folder_flags())?;
                &last.insert((file.dir, folder)).1
            }
        };
        beneath(from, catalog.name_of(file), flags).map(File::from)
    }
}

fn read(file: File, limit: usize, buffer: &mut Vec<u8>) -> Result<(), Reason> {
    let meta = file.metadata().map_err(|_| Reason::Unreadable)?;
    if !meta.is_file() {
        return Err(Reason::NotAFile);
    }
    if meta.len() > limit as u64 {
        return Err(Reason::TooLarge);
    }
    // One more than there is shows its end without another look. It may grow meanwhile.
    buffer.reserve_exact(meta.len() as usize + 1);
    let read = file.take(limit as u64 + 1).read_to_end(buffer);
    match read {
        Err(_) => Err(Reason::Unreadable),
        Ok(length) if length > limit => Err(Reason::TooLarge),
        Ok(_) => Ok(()),
    }
}

/// Lists what there is. `go_on` is asked before every folder.
pub(crate) fn list(
    root: &OwnedFd,
    catalog: &mut Catalog,
    mut go_on: impl FnMut(&mut Catalog) -> Result<bool, AnalysisError>,
) -> Result<(), AnalysisError> {
    let mut open = vec![TOP];
    while let Some(dir) = open.pop() {
        if !go_on(catalog)? {
            return Ok(());
        }
        let path = catalog.dir_path(dir);
        let listed = if path.is_empty() {
            openat(root, ".", folder_flags(), Mode::empty())
        } else {
            beneath(root, &path, folder_flags())
        };
        let Ok(fd) = listed else {
            catalog.skip(Reason::Unreadable, dir, b".");
            continue;
        };
        let Some(mut names) = names(&fd, catalog) else {
            catalog.skip(Reason::Unreadable, dir, b".");
            continue;
        };
        if dir != TOP {
            if names.iter().any(|(_, name)| name == b".git") {
                catalog.skip(Reason::Submodule, dir, b".");
                continue;
            }
            if names.iter().any(|(_, name)| name == b"CACHEDIR.TAG") {
                catalog.skip(Reason::Folder, dir, b".");
                continue;
            }
        }
        // The same report whatever order the file system keeps.
        names.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        let first = open.len();
        for (kind, name) in names {
            match kind {
                FileType::Directory if NOT_SOURCE.contains(&name.as_slice()) => {
                    catalog.skip(Reason::Folder, dir, &name);
                }
                FileType::Directory => open.extend(catalog.dir(dir, &name)),
                FileType::RegularFile => {
                    if !catalog.file(dir, &name, None) {
                        return Ok(());
                    }
                }
                FileType::Symlink => catalog.skip(Reason::Link, dir, &name),
                _ => catalog.skip(Reason::NotAFile, dir, &name),
            }
        }
        open[first..].reverse();
    }
    Ok(())
}

/// The names of a folder, as many as are still allowed.
fn names(fd: &OwnedFd, catalog: &mut Catalog) -> Option<Vec<(FileType, Vec<u8>)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if !catalog.entry() {
            break;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => statat(fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            kind => kind,
        };
        names.push((kind, name.to_vec()));
    }
    Some(names)
}
