//! Servers, a worker, and an endpoint that counts what is delivered to it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::kv::Store;
use futures_util::StreamExt;
use serde_json::Value;
use shared::config::fleet::Streams;
use shared::event::{Event, EventId};
use shared::limiter::live::Now;
use shared::servers::{Nats, NatsOptions, Redis, RedisOptions};
use shared::subject::{Service, headers};
use shared::topology;
use shared::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

pub(super) struct Stage {
    pub(super) nats: Nats,
    pub(super) redis: Redis,
    pub(super) js: jetstream::Context,
    pub(super) scratch: tempfile::TempDir,
}

/// What a command said.
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let nats = Nats::start(NatsOptions::new(scratch.path().join("nats")))
            .await
            .unwrap();
        let redis = Redis::start(RedisOptions::new(scratch.path().join("redis")))
            .await
            .unwrap();
        let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
        topology::ensure(&js, &[http()], &Streams::default())
            .await
            .unwrap();
        Self {
            nats,
            redis,
            js,
            scratch,
        }
    }

    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.scratch.path())
            .env("WEIR_NATS_URL", self.nats.url())
            .env("WEIR_REDIS_URL", self.redis.url())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> Said {
        let output = self
            .command(Path::new(WEIR))
            .args(arguments)
            .output()
            .await
            .unwrap();
        Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(super) async fn weir(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments).await;
        assert_eq!(
            said.code,
            Some(0),
            "weir {arguments:?}: {}{}",
            said.stdout,
            said.stderr
        );
        said.stdout
    }

    pub(super) async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.weir(arguments).await).unwrap()
    }

    pub(super) async fn fails(&self, arguments: &[&str], code: i32, says: &str) {
        let said = self.run(arguments).await;
        assert_eq!(said.code, Some(code), "weir {arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(says), "weir {arguments:?}: {}", said.stderr);
    }

    /// A worker that delivers events of `http` to `endpoint`.
    pub(super) fn worker(&self, endpoint: &str, limit: &str) -> Child {
        let program = Path::new(WEIR).with_file_name("weir-worker");
        assert!(program.exists(), "run `cargo build --workspace` first");
        let log = std::fs::File::create(self.scratch.path().join("worker.log")).unwrap();
        self.command(&program)
            .env("WEIR_POSTGRES_URL", "none")
            .env("WEIR_SERVICES", "http")
            .env("WEIR_SERVICE_HTTP_URL", endpoint)
            .env("WEIR_SERVICE_HTTP_LIMIT", limit)
            .env("WEIR_LIMITS_START", "full")
            .env("WEIR_WORKER_LISTEN", "127.0.0.1:0")
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub(super) async fn publish(&self, id: &str) {
        let event = Event::new(EventId::new(id).unwrap(), "test");
        let mut map = HeaderMap::new();
        map.insert(headers::MESSAGE_ID, id);
        let published = self
            .js
            .publish_with_headers("events.http", map, wire::encode(&event))
            .await;
        published.unwrap().await.unwrap();
    }

    /// Where workers say what is in force.
    pub(super) async fn limits(&self) -> Store {
        topology::limits_bucket(&self.js, &Streams::default())
            .await
            .unwrap()
    }

    /// What a worker says, once it says what is hoped for.
    pub(super) async fn now(&self, hoped: impl Fn(&Now) -> bool) -> Now {
        self.now_since(0, hoped).await
    }

    /// The same, of what is later than a revision. What is no word of a worker's is passed over.
    pub(super) async fn now_since(&self, revision: u64, hoped: impl Fn(&Now) -> bool) -> Now {
        let bucket = self.limits().await;
        let mut said = bucket.watch_with_history(http().limits_now()).await.unwrap();
        let mut last = None;
        let hear = async {
            while let Some(entry) = said.next().await {
                let entry = entry.unwrap();
                let Ok(now) = serde_json::from_slice::<Now>(&entry.value) else {
                    continue;
                };
                if entry.revision > revision && hoped(&now) {
                    return now;
                }
                last = Some(now);
            }
            unreachable!("a watch does not end")
        };
        let heard = timeout(Duration::from_secs(30), hear).await;
        heard.unwrap_or_else(|_| panic!("in vain: {last:?}"))
    }
}

pub(super) fn http() -> Service {
    Service::new("http").unwrap()
}

/// An endpoint that takes every delivery, and how many it has taken.
pub(super) async fn endpoint() -> (String, watch::Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (count, calls) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, count.clone()));
        }
    });
    (url, calls)
}

pub(super) async fn serve(mut stream: TcpStream, count: watch::Sender<u64>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                bytes.drain(..end + 4 + length);
                count.send_modify(|count| *count += 1);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                continue;
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

pub(super) async fn reached(calls: &mut watch::Receiver<u64>, wanted: u64) {
    let waited = timeout(Duration::from_secs(30), calls.wait_for(|calls| *calls >= wanted));
    let in_time = waited.await.is_ok();
    assert!(in_time, "only {} of {wanted} calls within 30 s", *calls.borrow());
}
