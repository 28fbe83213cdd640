//! The files of a repository that are to be read: paths once, in little memory, and what was passed over.

use std::collections::BTreeMap;

use gix::ObjectId;
use serde::{Deserialize, Serialize};

use crate::language::Language;
use crate::settings::Settings;

/// Longest path, in bytes.
const MAX_PATH: usize = 4096;
/// Most bytes of all names together.
const MAX_NAMES: usize = 64 << 20;
/// Most manifests that are read.
const MAX_MANIFESTS: usize = 10_000;
/// Most paths told of one reason.
const SAMPLES: usize = 5;

/// Why something was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Larger than `file_bytes`.
    TooLarge,
    /// Holds a zero byte: no text.
    Binary,
    /// A symbolic link: never followed.
    Link,
    /// Another repository inside of this one: not entered.
    Submodule,
    /// Deeper than `depth`.
    TooDeep,
    /// A path of more than 4096 bytes.
    PathTooLong,
    /// Took longer than `file_time`. It is tried again by the next analysis.
    TimedOut,
    /// Took more memory than `file_memory`. It is not tried again until it may take more.
    TooCostly,
    /// A device, a pipe or a socket.
    NotAFile,
    /// Could not be read, or is not what its hash says.
    Unreadable,
    /// A folder of installed or built things.
    Folder,
}

/// How much was passed over, with some paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub samples: Vec<String>,
}

/// What was passed over, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Skipped(pub BTreeMap<Reason, Passed>);

impl Skipped {
    pub(crate) fn add(&mut self, reason: Reason, path: impl FnOnce() -> String) {
        let passed = self.0.entry(reason).or_default();
        passed.count += 1;
        if passed.samples.len() < SAMPLES {
            passed.samples.push(path());
        }
    }

    /// How many for this reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.0.get(&reason).map_or(0, |passed| passed.count)
    }
}

/// A path for people and tables: bytes that are no UTF-8 are written `\xNN`, and a backslash `\\`.
pub fn shown(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.extend(["\\x".to_owned(), hex::encode([*byte])]);
        }
    }
    out
}

/// A file that says which names the repository gives itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manifest {
    Cargo,
    Go,
    Npm,
}

impl Manifest {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"Cargo.toml" => Self::Cargo,
            b"go.mod" => Self::Go,
            b"package.json" => Self::Npm,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Name {
    start: u32,
    len: u16,
}

#[derive(Debug)]
struct Dir {
    parent: u32,
    name: Name,
    /// Bytes of its whole path.
    path: u16,
    depth: u16,
}

/// A file of the catalog.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) dir: u32,
    name: Name,
    pub(crate) language: Language,
    /// Its blob, of a repository.
    pub(crate) blob: Option<ObjectId>,
}

/// The folder at the top.
pub(crate) const TOP: u32 = 0;

#[derive(Debug)]
pub(crate) struct Catalog {
    names: Vec<u8>,
    dirs: Vec<Dir>,
    pub(crate) files: Vec<File>,
    pub(crate) manifests: Vec<(Manifest, File)>,
    pub(crate) skipped: Skipped,
    /// Entries seen.
    pub(crate) entries: usize,
    /// The settings whose bounds were reached.
    pub(crate) reached: Vec<&'static str>,
    depth: usize,
    max_entries: usize,
    max_files: usize,
}

impl Catalog {
    pub(crate) fn new(settings: &Settings) -> Self {
        let top = Dir {
            parent: TOP,
            name: Name { start: 0, len: 0 },
            path: 0,
            depth: 0,
        };
        Self {
            names: Vec::new(),
            dirs: vec![top],
            files: Vec::new(),
            manifests: Vec::new(),
            skipped: Skipped::default(),
            entries: 0,
            reached: Vec::new(),
            depth: settings.depth,
            max_entries: settings.entries,
            max_files: settings.files,
        }
    }

    pub(crate) fn reach(&mut self, setting: &'static str) {
        if !self.reached.contains(&setting) {
            self.reached.push(setting);
        }
    }

    /// Counts an entry; false when there have been enough.
    pub(crate) fn entry(&mut self) -> bool {
        if self.entries >= self.max_entries || self.names.len() >= MAX_NAMES {
            self.reach("entries");
            return false;
        }
        self.entries += 1;
        true
    }

    pub(crate) fn skip(&mut self, reason: Reason, dir: u32, name: &[u8]) {
        // Built only for those that are told.
        let path = self.join(dir, name);
        self.skipped
            .add(reason, || shown(&path[..path.len().min(MAX_PATH)]));
    }

    /// Adds a folder, unless it is too deep.
    pub(crate) fn dir(&mut self, parent: u32, name: &[u8]) -> Option<u32> {
        let above = &self.dirs[parent as usize];
        let (depth, path) = (
            usize::from(above.depth) + 1,
            usize::from(above.path) + name.len() + 1,
        );
        if depth > self.depth || path > MAX_PATH {
            let reason = if depth > self.depth {
                Reason::TooDeep
            } else {
                Reason::PathTooLong
            };
            self.skip(reason, parent, name);
            return None;
        }
        let name = self.name(name);
        self.dirs.push(Dir {
            parent,
            name,
            path: path as u16,
            depth: depth as u16,
        });
        Some(self.dirs.len() as u32 - 1)
    }

    /// Adds a file if it is code or a manifest; false when there are enough.
    pub(crate) fn file(&mut self, dir: u32, name: &[u8], blob: Option<ObjectId>) -> bool {
        let manifest = Manifest::of(name);
        let language = Language::of(name);
        if manifest.is_none() && language.is_none() {
            return true;
        }
        if usize::from(self.dirs[dir as usize].path) + name.len() > MAX_PATH {
            self.skip(Reason::PathTooLong, dir, name);
            return true;
        }
        if let Some(kind) = manifest {
            if self.manifests.len() < MAX_MANIFESTS {
                let name = self.name(name);
                let file = File {
                    dir,
                    name,
                    language: Language::Rust,
                    blob,
                };
                self.manifests.push((kind, file));
            }
            return true;
        }
        if self.files.len() >= self.max_files {
            self.reach("files");
            return false;
        }
        if let Some(language) = language {
            let name = self.name(name);
            self.files.push(File {
                dir,
                name,
                language,
                blob,
            });
        }
        true
    }

    fn name(&mut self, name: &[u8]) -> Name {
        let start = self.names.len() as u32;
        self.names.extend_from_slice(name);
        Name {
            start,
            len: name.len() as u16,
        }
    }

    fn text(&self, name: Name) -> &[u8] {
        let start = name.start as usize;
        &self.names[start..start + usize::from(name.len)]
    }

    /// A folder's path, without a slash at its end; empty for the top.
    pub(crate) fn dir_path(&self, dir: u32) -> Vec<u8> {
        self.join(dir, b"")
    }

    fn join(&self, dir: u32, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut at = dir;
        while at != TOP {
            let dir = &self.dirs[at as usize];
            parts.push(self.text(dir.name));
            at = dir.parent;
        }
        parts.reverse();
        let mut path = parts.join(&b'/');
        if name.is_empty() {
            path.pop();
        }
        path
    }

    /// A file's path.
    pub(crate) fn path(&self, file: u32) -> Vec<u8> {
        self.join(self.files[file as usize].dir, self.file_name(file))
    }

    pub(crate) fn name_of(&self, file: &File) -> &[u8] {
        self.text(file.name)
    }

    /// A file's name.
    pub(crate) fn file_name(&self, file: u32) -> &[u8] {
        self.name_of(&self.files[file as usize])
    }
}
