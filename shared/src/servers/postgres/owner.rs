//! The operating system's user that runs Postgres when we are root, and the directories it can reach.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::super::ServerError;

const USER: &str = "postgres";

/// The user `postgres`.
#[derive(Debug)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The user to run Postgres as; `None` when we are not root and run it ourselves.
    pub(super) async fn needed() -> Result<Option<Self>, ServerError> {
        if id(&["-u"]).await? != Some(0) {
            return Ok(None);
        }
        match (id(&["-u", USER]).await?, id(&["-g", USER]).await?) {
            (Some(uid), Some(gid)) => Ok(Some(Self { uid, gid })),
            _ => Err(ServerError::NoPostgresUser),
        }
    }

    /// What to put before a command line so that this user runs it. `setpriv` becomes the program, so the process id
    /// is the program's; `runuser` would stay as its parent.
    pub(super) fn prefix(&self) -> Vec<OsString> {
        let ids = [format!("--reuid={}", self.uid), format!("--regid={}", self.gid)];
        let mut argv: Vec<OsString> = vec!["setpriv".into()];
        argv.extend(ids.map(OsString::from));
        argv.extend(["--init-groups", "--"].map(OsString::from));
        argv
    }

    /// Makes `path` this user's.
    pub(super) fn give(&self, path: &Path) -> Result<(), ServerError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(ServerError::io(format!(
            "giving {} to the user {USER}",
            path.display()
        )))
    }

    /// `dir` if this user can walk into it, else a directory in the temporary directory that belongs to `dir`.
    pub(super) async fn reachable(&self, dir: &Path) -> Result<PathBuf, ServerError> {
        let mut argv = self.prefix();
        argv.extend(["test".into(), "-x".into(), dir.as_os_str().to_owned()]);
        let walks = Command::new(&argv[0])
            .args(&argv[1..])
            .current_dir("/")
            .status()
            .await
            .map_err(ServerError::io("running setpriv"))?;
        if walks.success() {
            return Ok(dir.to_owned());
        }
        let instead = std::env::temp_dir().join(format!("weir-postgres-{:016x}", fnv1a(dir)));
        self.own(&instead)
            .map_err(ServerError::io(format!("making {}", instead.display())))?;
        tracing::warn!(
            wanted = %dir.display(),
            used = %instead.display(),
            "the user {USER} cannot reach the data directory: the database cluster is kept elsewhere"
        );
        Ok(instead)
    }

    /// Makes `dir` for this user alone, or takes it if it is so already. Everybody may write where it stands, so one
    /// that somebody else made is refused.
    fn own(&self, dir: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => chown(dir, Some(self.uid), Some(self.gid)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let meta = fs::symlink_metadata(dir)?;
                if meta.is_dir() && meta.uid() == self.uid {
                    Ok(())
                } else {
                    Err(io::Error::other(
                        "it exists and is not a directory of the user postgres",
                    ))
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// A name for a path that is the same in every run and every build (64-bit FNV-1a).
fn fnv1a(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A number that the program `id` tells; `None` when there is no such user.
async fn id(arguments: &[&str]) -> Result<Option<u32>, ServerError> {
    let output = Command::new("id")
        .args(arguments)
        .output()
        .await
        .map_err(ServerError::io("running id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}
