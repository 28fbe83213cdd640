//! A private Redis server.

use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf, absolute},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{
    ServerError, binary,
    server::{Kind, Server},
    supervise::CommandLine,
};

/// How to run a Redis server.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Directory for the append-only file and the log; made if missing.
    pub data_dir: PathBuf,
    /// Loopback port; `None` takes a free one.
    pub port: Option<u16>,
    /// Keep the data over a restart: an append-only file, synced every second. Otherwise nothing is written.
    pub durable: bool,
}

impl RedisOptions {
    /// A free port, nothing kept.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            port: None,
            durable: false,
        }
    }
}

/// A running private Redis server.
pub type Redis = Server<RedisKind>;

/// What a start needs to know.
#[derive(Debug)]
pub struct RedisKind {
    binary: PathBuf,
    data_dir: PathBuf,
    durable: bool,
}

impl Server<RedisKind> {
    /// Starts a server and returns when it answers.
    pub async fn start(options: RedisOptions) -> Result<Self, ServerError> {
        let RedisOptions {
            data_dir,
            port,
            durable,
        } = options;
        let data_dir = absolute(&data_dir).map_err(ServerError::io(data_dir.display().to_string()))?;
        let binary = binary::find("redis-server", "WEIR_PRIVATE_REDIS")?;
        Self::launch(
            RedisKind {
                binary,
                data_dir,
                durable,
            },
            port,
        )
        .await
    }

    /// `redis://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }
}

impl Kind for RedisKind {
    const NAME: &'static str = "redis-server";

    fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join("redis.log")
    }

    async fn prepare(&mut self, port: u16) -> Result<CommandLine, ServerError> {
        let port = port.to_string();
        let settings = [
            ("--port", port.as_str()),
            ("--bind", "127.0.0.1"),
            ("--daemonize", "no"),
            // A limiter's bucket that is evicted is a full bucket: better an error than a wrong answer.
            ("--maxmemory-policy", "noeviction"),
            ("--save", ""),
            ("--appendonly", if self.durable { "yes" } else { "no" }),
            ("--appendfsync", "everysec"),
        ];
        let mut argv: Vec<OsString> = vec![
            self.binary.clone().into(),
            "--dir".into(),
            self.data_dir.clone().into(),
        ];
        argv.extend(
            settings
                .into_iter()
                .flat_map(|(name, value)| [name.into(), value.into()]),
        );
        Ok(CommandLine {
            server: Self::NAME,
            argv,
            log: self.log(),
            soft: "TERM",
            hard: "KILL",
        })
    }

    async fn probe(&self, port: u16, pid: u32) -> Result<(), String> {
        let answer = ask(port).await.map_err(|error| error.to_string())?;
        if !answer.iter().any(|line| line == "+PONG") {
            return Err(answer
                .into_iter()
                .next()
                .unwrap_or_else(|| "closes the connection".into()));
        }
        if answer.contains(&format!("process_id:{pid}")) {
            Ok(())
        } else {
            Err("another Redis server answers on this port".into())
        }
    }
}

/// The lines a server answers to PING, INFO and QUIT.
async fn ask(port: u16) -> std::io::Result<Vec<String>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").await?;
    // The answer is about 1 KiB; whoever else may listen there must not fill our memory.
    let mut lines = BufReader::new(stream.take(64 * 1024)).lines();
    let mut answer = Vec::new();
    while let Some(line) = lines.next_line().await? {
        answer.push(line);
    }
    Ok(answer)
}
