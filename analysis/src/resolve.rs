//! Imports to the files they mean, by the repository's paths and manifests alone: nothing is run or installed.

mod c;
mod go;
mod java;
mod javascript;
mod python;
mod rust;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::catalog::{Catalog, Manifest};
use crate::facts::Import;
use crate::language::Language;
use crate::tree::Opened;

/// Largest manifest that is read, in bytes.
const MAX_MANIFEST: usize = 256 << 10;
/// Most files of one name that are compared.
const MAX_ALIKE: usize = 200;

/// What an import means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file of the repository.
    File(u32),
    /// Something that is not of this repository.
    External,
    /// Something of this repository that was not found.
    Unknown,
}

impl Target {
    fn or_unknown(file: Option<u32>) -> Self {
        file.map_or(Self::Unknown, Self::File)
    }
}

/// Finds files by path, by name and by what manifests call them.
#[derive(Debug)]
pub(crate) struct Resolver {
    catalog: Arc<Catalog>,
    hasher: RandomState,
    by_path: HashMap<u64, u32>,
    by_name: HashMap<u64, Vec<u32>>,
    /// The first Go file of a folder stands for its package.
    packages: HashMap<u32, u32>,
    go_folders: HashMap<String, u32>,
    /// The names of Python's files, without what follows the first dot, and of the folders that they are in.
    python_names: HashSet<u64>,
    /// Crates: folder, and name as it is written in paths.
    crates: HashMap<String, String>,
    crate_names: HashMap<String, String>,
    /// Go modules: path and folder, the longest path first.
    modules: Vec<(String, String)>,
    /// npm packages: name to folder.
    npm: HashMap<String, String>,
}

impl Resolver {
    pub(crate) fn new(catalog: Arc<Catalog>, contents: &mut Opened) -> Self {
        let mut this = Self {
            hasher: RandomState::new(),
            by_path: HashMap::with_capacity(catalog.files.len()),
            by_name: HashMap::new(),
            packages: HashMap::new(),
            go_folders: HashMap::new(),
            python_names: HashSet::new(),
            crates: HashMap::new(),
            crate_names: HashMap::new(),
            modules: Vec::new(),
            npm: HashMap::new(),
            catalog,
        };
        let catalog = this.catalog.clone();
        let mut python_folders = HashSet::new();
        for (at, file) in (0_u32..).zip(&catalog.files) {
            let path = this.hasher.hash_one(catalog.path(at).as_slice());
            this.by_path.entry(path).or_insert(at);
            match file.language {
                Language::Java | Language::C => {
                    let name = this.hasher.hash_one(catalog.file_name(at));
                    let alike = this.by_name.entry(name).or_default();
                    if alike.len() < MAX_ALIKE {
                        alike.push(at);
                    }
                }
                Language::Go => {
                    if let std::collections::hash_map::Entry::Vacant(slot) = this.packages.entry(file.dir) {
                        slot.insert(at);
                        let folder = String::from_utf8_lossy(&catalog.dir_path(file.dir)).into_owned();
                        this.go_folders.insert(folder, at);
                    }
                }
                Language::Python => {
                    let stem = catalog.file_name(at).split(|byte| *byte == b'.').next();
                    this.python_names
                        .insert(this.hasher.hash_one(stem.unwrap_or_default()));
                    if python_folders.insert(file.dir) {
                        let folder = catalog.dir_path(file.dir);
                        let names = folder.split(|byte| *byte == b'/');
                        this.python_names
                            .extend(names.map(|name| this.hasher.hash_one(name)));
                    }
                }
                Language::Rust | Language::JavaScript | Language::TypeScript | Language::Tsx => {}
            }
        }
        this.manifests(contents);
        this
    }

    fn manifests(&mut self, contents: &mut Opened) {
        let catalog = self.catalog.clone();
        for (kind, file) in &catalog.manifests {
            let Ok((_, content)) = contents.load(&catalog, file, MAX_MANIFEST) else {
                continue;
            };
            let text = String::from_utf8_lossy(&content);
            let folder = String::from_utf8_lossy(&catalog.dir_path(file.dir)).into_owned();
            match kind {
                Manifest::Cargo => {
                    if let Some(name) = rust::crate_name(&text) {
                        self.crate_names
                            .entry(name.clone())
                            .or_insert_with(|| folder.clone());
                        self.crates.insert(folder, name);
                    }
                }
                Manifest::Go => self
                    .modules
                    .extend(go::module(&text).map(|module| (module, folder))),
                Manifest::Npm => {
                    if let Some(name) = javascript::package_name(&text) {
                        self.npm.entry(name).or_insert(folder);
                    }
                }
            }
        }
        self.modules
            .sort_by_key(|(module, _)| std::cmp::Reverse(module.len()));
    }

    /// What stands for a file in the graph: itself, or in Go its package.
    pub(crate) fn node(&self, file: u32) -> u32 {
        let entry = &self.catalog.files[file as usize];
        match entry.language {
            Language::Go => self.packages.get(&entry.dir).copied().unwrap_or(file),
            _ => file,
        }
    }

    /// What each of the imports of a file means.
    pub(crate) fn resolve<T: AsRef<str>>(&self, file: u32, imports: &[Import<T>]) -> Vec<Target> {
        if imports.is_empty() {
            return Vec::new();
        }
        let Ok(path) = String::from_utf8(self.catalog.path(file)) else {
            return vec![Target::Unknown; imports.len()];
        };
        let imports = imports.iter().map(Import::borrowed);
        match self.catalog.files[file as usize].language {
            Language::Rust => {
                let here = rust::place(self, &path);
                imports.map(|import| rust::resolve(self, &here, import)).collect()
            }
            Language::Python => imports
                .map(|import| python::resolve(self, &path, import))
                .collect(),
            Language::JavaScript | Language::TypeScript | Language::Tsx => imports
                .map(|import| javascript::resolve(self, &path, import))
                .collect(),
            Language::Go => imports.map(|import| go::resolve(self, import)).collect(),
            Language::Java => imports.map(|import| java::resolve(self, &path, import)).collect(),
            Language::C => imports.map(|import| c::resolve(self, &path, import)).collect(),
        }
    }

    /// Whether a module or a package of this name may be in the repository.
    fn knows_python(&self, name: &str) -> bool {
        self.python_names.contains(&self.hasher.hash_one(name.as_bytes()))
    }

    /// The file at a path.
    fn find(&self, path: &str) -> Option<u32> {
        let at = *self.by_path.get(&self.hasher.hash_one(path.as_bytes()))?;
        (self.catalog.path(at) == path.as_bytes()).then_some(at)
    }

    /// The first of `base` followed by one of `ends` that is a file.
    fn find_any(&self, base: &str, ends: &[&str]) -> Option<u32> {
        let longest = ends.iter().map(|end| end.len()).max().unwrap_or_default();
        let mut path = String::with_capacity(base.len() + 1 + longest);
        ends.iter().find_map(|end| {
            path.clear();
            join_into(&mut path, base, end);
            self.find(&path)
        })
    }

    /// The file whose path ends with `tail`, of several the one nearest to `from`.
    fn find_tail(&self, tail: &str, from: &str) -> Option<u32> {
        let name = tail.rsplit('/').next()?;
        let alike = self.by_name.get(&self.hasher.hash_one(name.as_bytes()))?;
        let mut best: Option<(usize, u32)> = None;
        for at in alike {
            let path = self.catalog.path(*at);
            let Some(before) = path.strip_suffix(tail.as_bytes()) else {
                continue;
            };
            if !(before.is_empty() || before.ends_with(b"/")) {
                continue;
            }
            let near = path
                .iter()
                .zip(from.as_bytes())
                .take_while(|(a, b)| a == b)
                .count();
            if best.is_none_or(|(most, _)| near > most) {
                best = Some((near, *at));
            }
        }
        best.map(|(_, at)| at)
    }
}

/// The folder of a path; empty for the top.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path in a folder. An `end` that begins with a dot belongs to the name before it.
fn join(base: &str, end: &str) -> String {
    let mut path = String::with_capacity(base.len() + 1 + end.len());
    join_into(&mut path, base, end);
    path
}

fn join_into(path: &mut String, base: &str, end: &str) {
    path.push_str(base);
    if !(base.is_empty() || end.is_empty() || end.starts_with('.')) {
        path.push('/');
    }
    path.push_str(end);
}

/// `path` seen from a folder, without `.` and `..`; `None` if it leads out of the repository.
fn normal(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
