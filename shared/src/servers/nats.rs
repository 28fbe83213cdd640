//! A private NATS server with JetStream.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf, absolute},
};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpStream,
};

use super::{
    ServerError, binary,
    server::{Kind, Server, free_port, is_free},
    supervise::CommandLine,
};

/// How to run a NATS server.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Directory for JetStream's files, the configuration and the log; made if missing.
    pub data_dir: PathBuf,
    /// Loopback port; `None` takes a free one.
    pub port: Option<u16>,
    /// Sync every message to disk before it is acknowledged. Otherwise the server syncs every two minutes: what it
    /// acknowledged survives its own death, not the machine's.
    pub sync_always: bool,
    /// Largest message in bytes, headers included; `None` leaves the server's 1 MiB.
    pub max_payload: Option<u32>,
    /// Serve the monitoring pages on a free loopback port.
    pub monitor: bool,
    /// Most bytes that JetStream may keep in files; `None` for what the disk has.
    pub max_file_store: Option<u64>,
    /// The cluster that it belongs to: see [`NatsCluster`](super::NatsCluster).
    pub cluster: Option<Membership>,
    /// User and password without which nobody is let in.
    pub login: Option<(String, String)>,
}

/// One server's place in a cluster.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its name, by which the others know it again after a restart.
    pub name: String,
    /// Loopback port for the other servers.
    pub port: u16,
    /// Such ports of all of them.
    pub routes: Vec<u16>,
}

impl NatsOptions {
    /// A free port, the server's own sync interval and message size, no monitoring.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            port: None,
            sync_always: false,
            max_payload: None,
            monitor: false,
            max_file_store: None,
            cluster: None,
            login: None,
        }
    }
}

/// A running private NATS server.
pub type Nats = Server<NatsKind>;

/// What a start needs to know.
#[derive(Debug)]
pub struct NatsKind {
    binary: PathBuf,
    data_dir: PathBuf,
    sync_always: bool,
    max_payload: Option<u32>,
    monitor: bool,
    monitor_port: Option<u16>,
    max_file_store: Option<u64>,
    cluster: Option<Membership>,
    login: Option<(String, String)>,
    name: String,
}

impl Server<NatsKind> {
    /// Starts a server and returns when it answers.
    pub async fn start(options: NatsOptions) -> Result<Self, ServerError> {
        let NatsOptions {
            data_dir,
            port,
            sync_always,
            max_payload,
            monitor,
            max_file_store,
            cluster,
            login,
        } = options;
        let data_dir = absolute(&data_dir).map_err(ServerError::io(data_dir.display().to_string()))?;
        let binary = binary::find("nats-server", "WEIR_PRIVATE_NATS")?;
        let name = String::new();
        let kind = NatsKind {
            binary,
            data_dir,
            sync_always,
            max_payload,
            monitor,
            monitor_port: None,
            max_file_store,
            cluster,
            login,
            name,
        };
        Self::launch(kind, port).await
    }

    /// `nats://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// Where the monitoring pages are, if they were asked for. A restart keeps the port while it is
    /// free.
    pub fn monitor_url(&self) -> Option<String> {
        self.kind
            .monitor_port
            .map(|port| format!("http://127.0.0.1:{port}"))
    }
}

impl NatsKind {
    fn configuration(&self, port: u16) -> Result<String, ServerError> {
        let store = self.data_dir.join("jetstream");
        let store = store
            .to_str()
            .ok_or_else(|| ServerError::PathNotText(store.clone()))?;
        let sync = if self.sync_always {
            "sync_interval: always"
        } else {
            ""
        };
        let max_payload = self
            .max_payload
            .map(|bytes| format!("max_payload: {bytes}\n"))
            .unwrap_or_default();
        let monitor = self
            .monitor_port
            .map(|port| format!("http: \"127.0.0.1:{port}\"\n"))
            .unwrap_or_default();
        let store_limit = self
            .max_file_store
            .map(|bytes| format!("  max_file_store: {bytes}\n"))
            .unwrap_or_default();
        let cluster = self
            .cluster
            .as_ref()
            .map(Membership::configuration)
            .unwrap_or_default();
        // Debug quoting escapes quotes and backslashes the way this configuration reads them.
        let login = self
            .login
            .as_ref()
            .map(|(user, password)| format!("authorization {{ user: {user:?}, password: {password:?} }}\n"))
            .unwrap_or_default();
        Ok(format!(
            "server_name: {name:?}\nlisten: \"127.0.0.1:{port}\"\n{login}{max_payload}{monitor}jetstream {{\n  store_dir: {store:?}\n{store_limit}  {sync}\n}}\n{cluster}",
            name = self.name,
        ))
    }
}

impl Membership {
    fn configuration(&self) -> String {
        let routes: Vec<String> = self
            .routes
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .collect();
        format!(
            "cluster {{\n  name: weir\n  listen: \"127.0.0.1:{}\"\n  routes: [{}]\n}}\n",
            self.port,
            routes.join(", ")
        )
    }
}

impl Kind for NatsKind {
    const NAME: &'static str = "nats-server";

    fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join("nats.log")
    }

    async fn prepare(&mut self, port: u16) -> Result<CommandLine, ServerError> {
        // New with every start outside of a cluster, so that the probe cannot take somebody else's server on the same port for ours.
        self.name = match &self.cluster {
            Some(member) => member.name.clone(),
            None => format!("weir-{}", uuid::Uuid::now_v7().simple()),
        };
        if self.monitor && !self.monitor_port.is_some_and(is_free) {
            self.monitor_port = Some(free_port()?);
        }
        let file = self.data_dir.join("nats.conf");
        fs::write(&file, self.configuration(port)?)
            .map_err(ServerError::io(format!("writing {}", file.display())))?;
        Ok(CommandLine {
            server: Self::NAME,
            argv: vec![self.binary.clone().into(), "--config".into(), file.into()],
            log: self.log(),
            soft: "TERM",
            hard: "KILL",
        })
    }

    async fn probe(&self, port: u16, _pid: u32) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Info {
            server_name: String,
            #[serde(default)]
            jetstream: bool,
        }
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| error.to_string())?;
        let mut line = String::new();
        // The line is about 500 bytes; whoever else may listen there must not fill our memory.
        let mut greeting = BufReader::new(stream.take(64 * 1024));
        greeting
            .read_line(&mut line)
            .await
            .map_err(|error| error.to_string())?;
        let json = line
            .strip_prefix("INFO ")
            .ok_or("does not greet like a NATS server")?;
        let info: Info = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if info.server_name != self.name {
            return Err("another NATS server answers on this port".into());
        }
        if info.jetstream {
            Ok(())
        } else {
            Err("JetStream is not ready".into())
        }
    }
}
