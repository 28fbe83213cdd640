//! The data folder: its lock, and what is remembered in it from one run to the next.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng as _;

use crate::failure::Failure;
use crate::fleet::{FLEET_FILE, FleetFile, LOCK_FILE};

/// A log larger than this at the start of its part is put aside, in bytes.
const LOG_ASIDE: u64 = 16 << 20;
/// How often the lock is tried again: a command that looks whether the fleet runs holds it for a moment.
const LOCK_TRIES: u32 = 10;

/// The data folder of a running `weir up`.
pub(super) struct Folder {
    path: PathBuf,
    /// Held until the process ends, however it ends.
    _lock: File,
    ports: BTreeMap<String, u16>,
    pub(super) register: Register,
}

impl Folder {
    /// Makes the folder and locks it.
    pub(super) async fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Failed(format!("data folder {}: {error}", path.display()));
        fs::create_dir_all(path.join("logs")).map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        let lock = lock(&path).await?;
        let ignore = path.join(".gitignore");
        if !ignore.exists() {
            fs::write(ignore, "*\n").map_err(failed)?;
        }
        let ports = fs::read(path.join("ports.json")).ok();
        let ports = ports
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        let register = Register {
            path: path.join(FLEET_FILE),
            file: Arc::default(),
        };
        register.remove();
        Ok(Self {
            path,
            _lock: lock,
            ports,
            register,
        })
    }

    /// Where it is, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder or file of it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where a part writes its log; an old one that has grown large is put aside.
    pub(super) fn log(&self, part: &str) -> PathBuf {
        let log = self.path.join("logs").join(format!("{part}.log"));
        if fs::metadata(&log).is_ok_and(|meta| meta.len() > LOG_ASIDE) {
            let _ = fs::rename(&log, log.with_extension("log.1"));
        }
        log
    }

    /// A free loopback port for a part: the one it had last time, if that is free.
    pub(super) fn port(&mut self, part: &str) -> Result<u16, Failure> {
        let taken: Vec<u16> = self
            .ports
            .iter()
            .filter(|(name, _)| *name != part)
            .map(|(_, port)| *port)
            .collect();
        let usable = |port: &u16| !taken.contains(port) && is_free((Ipv4Addr::LOCALHOST, *port).into());
        let remembered = self.ports.get(part).copied().filter(usable);
        // Below the range from which systems take the ports of outgoing connections.
        let mut random = rand::rng();
        let port = remembered
            .or_else(|| (0..200).map(|_| random.random_range(20_000..32_000)).find(usable))
            .ok_or_else(|| Failure::Failed(format!("no free port found for {part}")))?;
        if remembered.is_none() {
            self.ports.insert(part.to_owned(), port);
            let json = serde_json::to_vec_pretty(&self.ports).map_err(Failure::failed)?;
            fs::write(self.path.join("ports.json"), json).map_err(Failure::at("writing ports.json"))?;
        }
        Ok(port)
    }

    /// The token for the events API and the file that only its owner may read, made at the first start.
    pub(super) fn token(&self) -> Result<(String, PathBuf), Failure> {
        let path = self.path.join("token");
        let failed = |error: io::Error| Failure::Failed(format!("token file {}: {error}", path.display()));
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok((text.trim().to_owned(), path)),
            Ok(_) => fs::remove_file(&path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let token = hex::encode(rand::rng().random::<[u8; 32]>());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        writeln!(file, "{token}").map_err(failed)?;
        Ok((token, path))
    }
}

async fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(LOCK_FILE);
    let failed = |error: io::Error| Failure::Failed(format!("lock {}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(failed)?;
                write!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    let mut owner = String::new();
    let _ = file.take(32).read_to_string(&mut owner);
    let pid = owner
        .trim()
        .parse()
        .map(|pid: u32| format!(" (pid {pid})"))
        .unwrap_or_default();
    Err(Failure::Failed(format!(
        "a `weir up` runs in {} already{pid}: stop it first, or use --data DIR",
        folder.display()
    )))
}

/// Whether somebody could listen there now.
pub(super) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// The file that tells other commands where the fleet is, kept true while parts are restarted.
#[derive(Debug, Clone)]
pub(super) struct Register {
    path: PathBuf,
    file: Arc<Mutex<Option<FleetFile>>>,
}

impl Register {
    /// Writes the file.
    pub(super) fn publish(&self, file: FleetFile) -> Result<(), Failure> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&file).map_err(Failure::at(self.path.display()))?;
        *held = Some(file);
        Ok(())
    }

    /// Notes that a part is another process now.
    pub(super) fn restarted(&self, part: &str, pid: u32) {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = held.as_mut() else { return };
        for record in file.parts.iter_mut().filter(|record| record.name == part) {
            record.pid = Some(pid);
        }
        // The urls in it stay right; a pid that is old harms nobody.
        let _ = self.write(file);
    }

    /// Takes the file away.
    pub(super) fn remove(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = fs::remove_file(&self.path);
    }

    /// Under another name first, so that nobody reads half of it; for its owner only, since URLs may hold passwords.
    fn write(&self, file: &FleetFile) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        let _ = fs::remove_file(&partial);
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?;
        out.write_all(&serde_json::to_vec_pretty(file)?)?;
        fs::rename(&partial, &self.path)
    }
}
