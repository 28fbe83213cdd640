//! A private Postgres server.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf, absolute},
    process::{Output, Stdio},
};

use tokio::process::Command;

use super::{
    ServerError, binary,
    server::{Kind, Server},
    supervise::CommandLine,
};

mod owner;
mod standby;

use owner::Owner;

/// How to run a Postgres server.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Directory for the database cluster and the log; made if missing, and filled if it holds no cluster.
    pub data_dir: PathBuf,
    /// Loopback port; `None` takes a free one.
    pub port: Option<u16>,
    /// Wait for the disk before a commit is acknowledged. Otherwise `stop` keeps everything, but `kill` loses the
    /// commits of about the last 0.6 s (three times `wal_writer_delay`), and a dead machine may lose the cluster.
    pub durable: bool,
}

impl PostgresOptions {
    /// A free port, no waiting for the disk.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            port: None,
            durable: false,
        }
    }
}

/// A running private Postgres server. The user `weir` owns it and needs no password, on 127.0.0.1 only.
pub type Postgres = Server<PostgresKind>;

/// What a start needs to know.
#[derive(Debug)]
pub struct PostgresKind {
    bin: PathBuf,
    psql: PathBuf,
    data_dir: PathBuf,
    cluster: PathBuf,
    durable: bool,
    owner: Option<Owner>,
}

impl Server<PostgresKind> {
    /// Starts a server and returns when it answers a query.
    ///
    /// Postgres refuses to run as root. Under root it runs as the operating system's user `postgres`; where that
    /// user cannot walk into `data_dir`, the cluster is put into the system's temporary directory, under a name made
    /// from `data_dir`, and a warning says so: see [`cluster_dir`](Self::cluster_dir).
    pub async fn start(options: PostgresOptions) -> Result<Self, ServerError> {
        let (kind, port) = PostgresKind::new(options).await?;
        Self::launch(kind, port).await
    }

    /// `postgres://weir@127.0.0.1:<port>/<database>`
    pub fn url(&self, database: &str) -> String {
        format!("postgres://weir@127.0.0.1:{}/{database}", self.port())
    }

    /// Directory that holds the cluster: in the data directory, or elsewhere if the server's user cannot go there.
    pub fn cluster_dir(&self) -> &Path {
        &self.kind.cluster
    }

    /// Makes a database named `[a-z][a-z0-9_]{0,62}`; one that exists is left as it is.
    pub async fn create_database(&self, name: &str) -> Result<(), ServerError> {
        let valid = name.len() <= 63
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !valid {
            return Err(ServerError::DatabaseName(name.to_owned()));
        }
        match self
            .kind
            .query(self.port(), &format!("CREATE DATABASE \"{name}\""))
            .await
        {
            // SQLSTATE duplicate_database
            Err(ServerError::Program { message, .. }) if message.contains("42P04") => Ok(()),
            done => done,
        }
    }
}

impl PostgresKind {
    /// What the options ask for, and the port if they name one.
    async fn new(options: PostgresOptions) -> Result<(Self, Option<u16>), ServerError> {
        let PostgresOptions {
            data_dir,
            port,
            durable,
        } = options;
        let data_dir = absolute(&data_dir).map_err(ServerError::io(data_dir.display().to_string()))?;
        let bin = binary::find_postgres()?;
        let psql = binary::find_beside(&bin, "psql")?;
        fs::create_dir_all(&data_dir).map_err(ServerError::io(format!("making {}", data_dir.display())))?;
        let owner = Owner::needed().await?;
        let home = match &owner {
            Some(owner) => owner.reachable(&data_dir).await?,
            None => data_dir.clone(),
        };
        let kind = Self {
            bin,
            psql,
            cluster: home.join("cluster"),
            data_dir,
            durable,
            owner,
        };
        Ok((kind, port))
    }

    /// `program` of Postgres, run as the user who must run it.
    fn as_owner(&self, program: &str) -> Vec<OsString> {
        let mut argv = self.owner.as_ref().map(Owner::prefix).unwrap_or_default();
        argv.push(self.bin.join(program).into());
        argv
    }

    /// Makes the cluster unless it is there. It is made under another name first, so that a half-made one is never
    /// taken for a cluster.
    async fn initialize(&self) -> Result<(), ServerError> {
        if self.cluster.join("PG_VERSION").exists() {
            return Ok(());
        }
        let partial = self.cluster.with_extension("partial");
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ServerError::io(format!("removing {}", partial.display()))(error));
            }
            _ => {}
        }
        fs::create_dir(&partial).map_err(ServerError::io(format!("making {}", partial.display())))?;
        if let Some(owner) = &self.owner {
            owner.give(&partial)?;
        }
        let mut argv = self.as_owner("initdb");
        argv.push("--pgdata".into());
        argv.push(partial.clone().into());
        argv.extend(
            [
                "--username=weir",
                "--encoding=UTF8",
                "--locale=C",
                "--auth-host=trust",
                "--auth-local=reject",
            ]
            .map(OsString::from),
        );
        if !self.durable {
            argv.push("--no-sync".into());
        }
        run("initdb", &argv).await?;
        fs::rename(&partial, &self.cluster).map_err(ServerError::io(format!(
            "renaming {} to {}",
            partial.display(),
            self.cluster.display()
        )))
    }

    pub(super) async fn query(&self, port: u16, sql: &str) -> Result<(), ServerError> {
        let port = port.to_string();
        let arguments = [
            "-X",
            "-q",
            "-w",
            "-v",
            "VERBOSITY=verbose",
            "-h",
            "127.0.0.1",
            "-U",
            "weir",
            "-d",
            "postgres",
        ];
        let mut argv = vec![self.psql.clone().into_os_string()];
        argv.extend(
            arguments
                .into_iter()
                .chain(["-p", &port, "-c", sql])
                .map(OsString::from),
        );
        run("psql", &argv).await.map(drop)
    }
}

impl Kind for PostgresKind {
    const NAME: &'static str = "postgres";

    fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    async fn prepare(&mut self, port: u16) -> Result<CommandLine, ServerError> {
        self.initialize().await?;
        let mut argv = self.as_owner("postgres");
        argv.push("-D".into());
        argv.push(self.cluster.clone().into());
        argv.push("-p".into());
        argv.push(port.to_string().into());
        let mut settings = vec![
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
        ];
        if !self.durable {
            settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
        }
        argv.extend(
            settings
                .into_iter()
                .flat_map(|setting| ["-c".into(), setting.into()]),
        );
        // SIGTERM would wait until every client has gone; SIGINT sends them away. SIGQUIT ends at once and, unlike
        // SIGKILL, leaves no child and no shared memory behind.
        Ok(CommandLine {
            server: Self::NAME,
            argv,
            log: self.log(),
            soft: "INT",
            hard: "QUIT",
        })
    }

    async fn probe(&self, port: u16, pid: u32) -> Result<(), String> {
        // The eighth line says "ready" once the server takes queries; asking earlier fills its log with refusals.
        let state =
            fs::read_to_string(self.cluster.join("postmaster.pid")).map_err(|error| error.to_string())?;
        let lines: Vec<&str> = state.lines().map(str::trim).collect();
        if lines.first() != Some(&pid.to_string().as_str()) || lines.get(7) != Some(&"ready") {
            return Err("is still starting".into());
        }
        self.query(port, "SELECT 1")
            .await
            .map_err(|error| error.to_string())
    }
}

/// Runs a program to its end, with nothing of the environment that could send it to another server.
async fn run(program: &'static str, argv: &[OsString]) -> Result<Output, ServerError> {
    let failed = |message: String| ServerError::Program { program, message };
    let Some((binary, arguments)) = argv.split_first() else {
        return Err(failed("nothing to run".into()));
    };
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    let output = command
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
