//! Private NATS, Redis and Postgres servers, run from this machine's binaries on loopback ports.
//!
//! `weir up`, tests and benchmarks use them; a deployment never does. A server started here keeps its data and its
//! log in a directory of the caller's, listens on 127.0.0.1 only, and ends with the process that started it, even if
//! that process is killed: see `supervise.rs`.
//!
//! | server | binary looked for in | data kept over `restart` |
//! |---|---|---|
//! | [`Nats`] | `WEIR_PRIVATE_NATS`, `.tools/bin`, `PATH` | always |
//! | [`Redis`] | `WEIR_PRIVATE_REDIS`, `.tools/bin`, `PATH` | when durable |
//! | [`Postgres`] | `WEIR_PRIVATE_POSTGRES` (a directory), `.tools/bin`, `PATH`, `/usr/lib/postgresql/*/bin` | after `stop`; when durable, after `kill` too |

use std::{io, path::Path, path::PathBuf};

use tempfile::TempDir;

mod binary;
mod cluster;
mod nats;
mod postgres;
mod redis;
mod server;
mod supervise;
#[cfg(test)]
mod tests;

pub use cluster::NatsCluster;
pub use nats::{Membership, Nats, NatsOptions};
pub use postgres::{Postgres, PostgresOptions};
pub use redis::{Redis, RedisOptions};
pub use server::Server;
pub use supervise::Exit;

/// Why a private server did not start, stop or answer.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The binary is nowhere to be found.
    #[error("{binary} was not found (looked {looked}): run `make setup`, or set {setting}")]
    Missing {
        /// Name of the binary.
        binary: &'static str,
        /// Environment variable that names it.
        setting: &'static str,
        /// Where it was looked for.
        looked: String,
    },
    /// A setting names a binary that is not there or cannot be run.
    #[error("{setting} names {path}, which holds no runnable {binary}")]
    NotRunnable {
        /// Name of the binary.
        binary: &'static str,
        /// Environment variable that names it.
        setting: &'static str,
        /// What the variable says.
        path: PathBuf,
    },
    /// A file or process of the server could not be made, read or waited for.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The server ended, or did not answer in time, while it was being started.
    #[error("{server} on port {port} {what}; the end of {log}:\n{tail}")]
    Start {
        /// Name of the server.
        server: &'static str,
        /// Loopback port it was to listen on.
        port: u16,
        /// What happened.
        what: String,
        /// Its log file.
        log: PathBuf,
        /// Last lines of the log that this start wrote.
        tail: String,
    },
    /// Another server runs on the same files.
    #[error("another {server} uses {log} and the data beside it: stop it, or use another directory")]
    Busy {
        /// Name of the server.
        server: &'static str,
        /// Its log file.
        log: PathBuf,
    },
    /// A program that prepares or asks a server failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// What it wrote to standard error.
        message: String,
    },
    /// The server is still alive although it was killed.
    #[error("{server} (pid {pid}) did not end after SIGKILL")]
    Unkillable {
        /// Name of the server.
        server: &'static str,
        /// Its process id.
        pid: u32,
    },
    /// A database name that is not `[a-z][a-z0-9_]{0,62}`.
    #[error("database name {0:?} is not [a-z][a-z0-9_]{{0,62}}")]
    DatabaseName(String),
    /// A path that a server's configuration cannot carry.
    #[error("{0:?} is not valid UTF-8, and the server's configuration needs the path as text")]
    PathNotText(PathBuf),
    /// This process is root, which Postgres refuses to run as, and there is no user to run it as.
    #[error(
        "Postgres refuses to run as root and there is no user `postgres`: run `make setup`, or run this as another user"
    )]
    NoPostgresUser,
}

impl ServerError {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// One of each server, quick rather than durable: what a test or a benchmark starts.
///
/// Dropping it kills the servers at once and waits until they are gone.
#[derive(Debug)]
pub struct Servers {
    /// NATS with JetStream, synced at the server's own interval.
    pub nats: Nats,
    /// Redis that keeps nothing over a restart.
    pub redis: Redis,
    /// Postgres without fsync, with the databases `postgres` and none of ours.
    pub postgres: Postgres,
    // Last, so that the directory goes after the servers that live in it.
    scratch: Option<TempDir>,
}

impl Servers {
    /// Starts all three at the same time, each in its own directory under `dir`.
    pub async fn start(dir: &Path) -> Result<Self, ServerError> {
        let (nats, redis, postgres) = tokio::try_join!(
            Nats::start(NatsOptions::new(dir.join("nats"))),
            Redis::start(RedisOptions::new(dir.join("redis"))),
            Postgres::start(PostgresOptions::new(dir.join("postgres"))),
        )?;
        Ok(Self {
            nats,
            redis,
            postgres,
            scratch: None,
        })
    }

    /// Starts all three in a directory of their own that goes when this is dropped.
    pub async fn start_scratch() -> Result<Self, ServerError> {
        let scratch = scratch_dir()?;
        let mut servers = Self::start(scratch.path()).await?;
        servers.scratch = Some(scratch);
        Ok(servers)
    }

    /// Stops all three in order; the first error is returned after every one was tried.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        let nats = self.nats.stop().await;
        let redis = self.redis.stop().await;
        let postgres = self.postgres.stop().await;
        nats.and(redis).and(postgres).map(drop)
    }
}

/// A temporary directory that the user `postgres` may walk into (a plain one is closed to it), removed on drop.
pub fn scratch_dir() -> Result<TempDir, ServerError> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix("weir-")
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir()
        .map_err(ServerError::io("making a temporary directory"))
}
