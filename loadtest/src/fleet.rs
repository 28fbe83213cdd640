//! A fleet of real processes on private servers, for tests and benchmarks: started, killed, stopped, looked at.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream;
use shared::servers::{ServerError, Servers};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::fault::process::signal;

/// How long a service may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A fleet could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A private server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A process or file.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A binary is not where it should be.
    #[error("{0} is not built: `cargo build --workspace` (or `make test`) builds it")]
    NotBuilt(String),
    /// A service did not become ready.
    #[error("{name} is not ready after {READY_WITHIN:?}: {said}; the end of its log:\n{log}")]
    NotReady {
        /// Which.
        name: String,
        /// What it says when asked.
        said: String,
        /// The end of its log.
        log: String,
    },
    /// NATS.
    #[error("NATS: {0}")]
    Nats(#[from] async_nats::ConnectError),
    /// Postgres.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
}

/// Private servers and the services on them.
#[derive(Debug)]
pub struct Fleet {
    /// The servers.
    pub servers: Servers,
    /// Settings that every service gets.
    pub settings: BTreeMap<String, String>,
    dir: TempDir,
    count: u32,
}

/// One running service.
#[derive(Debug)]
pub struct Member {
    /// Its name and number.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// Its log.
    pub log: PathBuf,
    child: Child,
}

impl Fleet {
    /// Starts private servers; services come by [`start`](Self::start).
    pub async fn new(settings: &[(&str, &str)]) -> Result<Self, FleetError> {
        Self::on(Servers::start_scratch().await?, settings).await
    }

    /// A fleet on servers that run already.
    pub async fn on(servers: Servers, settings: &[(&str, &str)]) -> Result<Self, FleetError> {
        servers.postgres.create_database("weir").await?;
        let dir = shared::servers::scratch_dir()?;
        let own = [
            ("WEIR_NATS_URL", servers.nats.url()),
            ("WEIR_REDIS_URL", servers.redis.url()),
            ("WEIR_POSTGRES_URL", servers.postgres.url("weir")),
            ("WEIR_LOG_FORMAT", "pretty".into()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let given = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Self {
            servers,
            settings: own.into_iter().chain(given).collect(),
            dir,
            count: 0,
        })
    }

    /// Starts a service (`ingest`, `worker`, `scheduler`) and waits until it is ready.
    pub async fn start(&mut self, service: &str) -> Result<Member, FleetError> {
        self.start_with(service, &[]).await
    }

    /// The same, with settings of its own.
    pub async fn start_with(
        &mut self,
        service: &str,
        settings: &[(&str, &str)],
    ) -> Result<Member, FleetError> {
        let member = self.launch(service, settings)?;
        member.ready().await?;
        Ok(member)
    }

    /// Starts so many of a service at the same time and waits until all are ready.
    pub async fn start_many(
        &mut self,
        service: &str,
        count: usize,
        settings: &[(&str, &str)],
    ) -> Result<Vec<Member>, FleetError> {
        let members: Result<Vec<_>, _> = (0..count).map(|_| self.launch(service, settings)).collect();
        let members = members?;
        for member in &members {
            member.ready().await?;
        }
        Ok(members)
    }

    /// Starts a service and does not wait.
    pub fn launch(&mut self, service: &str, settings: &[(&str, &str)]) -> Result<Member, FleetError> {
        let binary = binary(&format!("weir-{service}"))?;
        self.count += 1;
        let name = format!("{service}-{}", self.count);
        let listen = free_address().map_err(at("looking for a free port"))?;
        let log = self.dir.path().join(format!("{name}.log"));
        let file = std::fs::File::create(&log).map_err(at("making a log file"))?;
        let child = Command::new(binary)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("WEIR_")))
            .envs(&self.settings)
            .env(format!("WEIR_{}_LISTEN", service.to_ascii_uppercase()), &listen)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(at(&name))?;
        Ok(Member {
            name,
            url: format!("http://{listen}"),
            log,
            child,
        })
    }

    /// JetStream on the fleet's NATS.
    pub async fn jetstream(&self) -> Result<jetstream::Context, FleetError> {
        Ok(jetstream::new(
            async_nats::connect(self.servers.nats.url()).await?,
        ))
    }

    /// The fleet's database.
    pub async fn database(&self) -> Result<PgPool, FleetError> {
        Ok(PgPool::connect(&self.servers.postgres.url("weir")).await?)
    }
}

impl Member {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) -> Result<(), FleetError> {
        let client = reqwest::Client::new();
        let url = format!("{}/health/ready", self.url);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let said = match client.get(&url).timeout(Duration::from_secs(1)).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                let text = std::fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().rev().take(20).collect();
                let log = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(FleetError::NotReady {
                    name: self.name.clone(),
                    said,
                    log,
                });
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Ends it without warning (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), FleetError> {
        self.child.kill().await.map_err(at(&self.name))
    }

    /// Asks it to stop (SIGTERM), waits at most `deadline`, and tells its exit code; `None` when it had to be killed.
    pub async fn stop(&mut self, deadline: Duration) -> Result<Option<i32>, FleetError> {
        self.terminate().await?;
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => Ok(status.map_err(at(&self.name))?.code()),
            Err(_) => {
                self.kill().await?;
                Ok(None)
            }
        }
    }

    /// Waits until it has ended by itself, at most `deadline`, and tells its exit code.
    pub async fn ended(&mut self, deadline: Duration) -> Result<Option<i32>, FleetError> {
        let status = timeout(deadline, self.child.wait()).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "still running");
        Ok(status.map_err(late).flatten().map_err(at(&self.name))?.code())
    }

    /// Sends SIGTERM and does not wait.
    pub async fn terminate(&self) -> Result<(), FleetError> {
        signal("TERM", self.pid()).await.map_err(at(&self.name))
    }
}

/// A binary of this workspace: beside the running program, or one folder up from a test's.
pub fn binary(name: &str) -> Result<PathBuf, FleetError> {
    let this = std::env::current_exe().map_err(at("finding this program"))?;
    let folders = [this.parent(), this.parent().and_then(Path::parent)];
    let found = folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| FleetError::NotBuilt(name.to_owned()))
}

fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn at(what: &str) -> impl FnOnce(io::Error) -> FleetError {
    move |source| FleetError::Io {
        what: what.to_owned(),
        source,
    }
}

/// A test that fails shows what its services said last.
impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let mut lines: Vec<&str> = text.lines().rev().take(30).collect();
            lines.reverse();
            let _ = writeln!(
                io::stderr(),
                "--- {}\n{}",
                entry.file_name().display(),
                lines.join("\n")
            );
        }
    }
}
