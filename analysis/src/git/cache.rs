//! Fetched commits, kept within a number of bytes. One folder a commit, whole and never changed once it has its name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use url::Url;

use crate::settings::Settings;

/// What an unfinished fetch's folder begins with.
const UNFINISHED: &str = "fetch-";
/// What is locked while a commit is read, and touched when it is used.
const USED: &str = "weir-used";

/// The folder of fetched commits.
pub(crate) struct Cache {
    dir: PathBuf,
    bytes: u64,
    abandoned: Duration,
}

/// A commit that stays as long as this lives.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) path: PathBuf,
    _lock: File,
}

/// A folder that is removed unless it is kept.
pub(crate) struct Unfinished(Option<PathBuf>);

impl Unfinished {
    pub(crate) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = fs::remove_dir_all(path);
        }
    }
}

impl Cache {
    pub(crate) fn open(settings: &Settings, dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.canonicalize()?,
            bytes: settings.cache_bytes,
            abandoned: settings.fetch_time * 2,
        })
    }

    fn place(&self, url: &Url, id: gix::ObjectId) -> PathBuf {
        let server = hex::encode(&Sha256::digest(url.as_str())[..16]);
        self.dir.join(format!("{server}-{id}"))
    }

    /// A commit that is here.
    pub(crate) fn find(&self, url: &Url, id: gix::ObjectId) -> Option<Lease> {
        let path = self.place(url, id);
        let lock = File::options().append(true).open(path.join(USED)).ok()?;
        lock.try_lock_shared().ok()?;
        // Between opening and locking it may have been removed.
        path.join(USED).exists().then_some(())?;
        let _ = lock.set_modified(SystemTime::now());
        Some(Lease { path, _lock: lock })
    }

    /// A folder to fetch into.
    pub(crate) fn begin(&self) -> io::Result<Unfinished> {
        for number in 0..u32::MAX {
            let path = self
                .dir
                .join(format!("{UNFINISHED}{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Unfinished(Some(path))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives what was fetched its name, and makes room.
    pub(crate) fn keep(&self, mut fetched: Unfinished, url: &Url, id: gix::ObjectId) -> io::Result<Lease> {
        let lock = File::create(fetched.path().join(USED))?;
        lock.lock_shared()?;
        let place = self.place(url, id);
        let path = match fs::rename(fetched.path(), &place) {
            Ok(()) => {
                fetched.0 = None;
                place
            }
            // Somebody else has fetched the same meanwhile.
            Err(_) => {
                drop(lock);
                return self
                    .find(url, id)
                    .ok_or_else(|| io::Error::other("the cache's folder has changed"));
            }
        };
        self.make_room();
        Ok(Lease { path, _lock: lock })
    }

    /// Removes what was used longest ago until the rest fits. What is being read stays.
    fn make_room(&self) {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            let file = if unfinished { path.clone() } else { path.join(USED) };
            let used = fs::metadata(file)
                .and_then(|meta| meta.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            if unfinished {
                // Its process has died.
                if used.elapsed().is_ok_and(|age| age > self.abandoned) {
                    let _ = fs::remove_dir_all(path);
                }
                continue;
            }
            kept.push((used, size(&path), path));
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in kept {
            if bytes <= self.bytes {
                break;
            }
            let Ok(lock) = File::options().append(true).open(path.join(USED)) else {
                continue;
            };
            if lock.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok() {
                bytes -= size;
            }
        }
    }
}

fn size(dir: &Path) -> u64 {
    let (mut bytes, mut open) = (0, vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}
