//! What the three servers have in common: a free port, readiness, restart, the end.

use std::{
    fs,
    future::Future,
    io::{Read as _, Seek as _, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use rand::Rng as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    ServerError,
    supervise::{CommandLine, Exit, Process, exited},
};

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long one look at a starting server may take.
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks at a starting server.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// How often a start is tried again because its port, or the memory of its killed predecessor, is still in use.
const ATTEMPTS: u32 = 10;
/// Pause before such another try, times the number of tries so far.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// How much of the log an error carries, in bytes.
const LOG_TAIL: u64 = 4096;

/// Kinds of server. Sealed: the trait lives in a private module.
pub trait Kind: Send + Sync {
    /// Name for messages.
    const NAME: &'static str;
    /// Directory that holds the server's files.
    fn data_dir(&self) -> &Path;
    /// File that gets what the server writes.
    fn log(&self) -> PathBuf;
    /// Prepares what the server reads at its start, and says how to run it.
    fn prepare(&mut self, port: u16) -> impl Future<Output = Result<CommandLine, ServerError>> + Send;
    /// Asks the server on `port` whether it is process `pid` and ready; `Err` says what is missing.
    fn probe(&self, port: u16, pid: u32) -> impl Future<Output = Result<(), String>> + Send;
}

/// A private server on a loopback port. Dropping it kills the server at once and waits until it is gone.
#[derive(Debug)]
pub struct Server<K> {
    pub(super) kind: K,
    port: u16,
    process: Process,
}

impl<K: Kind> Server<K> {
    pub(super) async fn launch(mut kind: K, port: Option<u16>) -> Result<Self, ServerError> {
        let dir = kind.data_dir();
        fs::create_dir_all(dir).map_err(ServerError::io(format!("making {}", dir.display())))?;
        let (port, process) = start(&mut kind, port).await?;
        Ok(Self { kind, port, process })
    }

    /// The loopback port it listens on; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's own process id (the one of its last start).
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Directory that holds its data.
    pub fn data_dir(&self) -> &Path {
        self.kind.data_dir()
    }

    /// File that gets what it writes.
    pub fn log(&self) -> PathBuf {
        self.kind.log()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.process.exit().borrow().is_none()
    }

    /// Resolves when the server of the last start has ended, for whatever reason. Borrows nothing.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<K> {
        exited(self.process.exit())
    }

    /// Ends it in order; SIGKILL when it takes longer than 20 s. Returns at once when it has already ended.
    pub async fn stop(&mut self) -> Result<Exit, ServerError> {
        self.process.stop().await
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<Exit, ServerError> {
        self.process.kill().await
    }

    /// Stops it if it runs, and starts it again on the same port and data. Returns when it answers.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.process.stop().await?;
        let (_, process) = start(&mut self.kind, Some(self.port)).await?;
        self.process = process;
        Ok(())
    }
}

async fn start<K: Kind>(kind: &mut K, port: Option<u16>) -> Result<(u16, Process), ServerError> {
    let mut attempt = 1;
    loop {
        let on = match port {
            Some(port) => port,
            None => free_port()?,
        };
        match start_on(kind, on).await {
            Err(ServerError::Start { tail, .. }) if attempt < ATTEMPTS && tail.contains("in use") => {
                sleep(RETRY_AFTER * attempt).await;
                attempt += 1;
            }
            done => return done.map(|process| (on, process)),
        }
    }
}

async fn start_on<K: Kind>(kind: &mut K, port: u16) -> Result<Process, ServerError> {
    let line = kind.prepare(port).await?;
    let log_start = fs::metadata(&line.log).map_or(0, |meta| meta.len());
    let process = Process::spawn(&line).await?;
    let what = match ready(kind, port, process.pid(), process.exit()).await {
        Ok(()) => return Ok(process),
        Err(what) => what,
    };
    drop(process);
    let tail = log_tail(&line.log, log_start);
    Err(ServerError::Start {
        server: K::NAME,
        port,
        what,
        log: line.log,
        tail,
    })
}

async fn ready<K: Kind>(
    kind: &K,
    port: u16,
    pid: u32,
    exit: watch::Receiver<Option<Exit>>,
) -> Result<(), String> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut ended = std::pin::pin!(exited(exit));
    loop {
        let probe = async {
            timeout(PROBE_WITHIN, kind.probe(port, pid))
                .await
                .unwrap_or_else(|_| Err("does not answer".into()))
        };
        let missing = tokio::select! {
            exit = &mut ended => return Err(format!("{exit} before it was ready")),
            outcome = probe => match outcome {
                Ok(()) => return Ok(()),
                Err(missing) => missing,
            },
        };
        if Instant::now() >= deadline {
            return Err(format!(
                "was not ready within {} s: {missing}",
                READY_WITHIN.as_secs()
            ));
        }
        sleep(PROBE_EVERY).await;
    }
}

/// A loopback port nobody listens on. It lies below the range from which systems take the ports of outgoing
/// connections: a client that keeps reconnecting to a port inside that range may end up connected to itself.
pub(super) fn free_port() -> Result<u16, ServerError> {
    let mut random = rand::rng();
    (0..100)
        .map(|_| random.random_range(20_000..32_000))
        .find(|port| is_free(*port))
        .ok_or_else(|| ServerError::Io {
            doing: "looking for a free loopback port".into(),
            source: std::io::ErrorKind::AddrInUse.into(),
        })
}

pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn log_tail(log: &Path, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_TAIL))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().unwrap_or_else(|error| format!("(not readable: {error})"))
}
