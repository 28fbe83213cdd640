//! Three private NATS servers that keep every message on each of them.

use std::{path::Path, time::Duration};

use async_nats::jetstream;
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{Membership, Nats, NatsOptions, ServerError, server::free_port};

/// How long the servers may take to agree.
const AGREED_WITHIN: Duration = Duration::from_secs(60);
/// How long one question may take.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Starts that are tried.
const TRIES: u32 = 5;
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A cluster of three, on loopback ports. Dropping it kills all of them.
#[derive(Debug)]
pub struct NatsCluster {
    /// Its servers.
    pub nodes: Vec<Nats>,
    names: Vec<String>,
}

impl NatsCluster {
    /// Starts three servers, each in its own directory under `dir`, and returns when JetStream answers.
    pub async fn start(dir: &Path) -> Result<Self, ServerError> {
        let mut tries = 1;
        loop {
            // A port that was free a moment ago may be somebody else's now.
            match Self::start_once(&dir.join(format!("cluster-{tries}"))).await {
                Err(ServerError::Start { tail, .. }) if tries < TRIES && tail.contains("in use") => {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn start_once(dir: &Path) -> Result<Self, ServerError> {
        let mut routes: Vec<u16> = Vec::new();
        while routes.len() < 3 {
            let port = free_port()?;
            if !routes.contains(&port) {
                routes.push(port);
            }
        }
        let names: Vec<String> = (1..=3).map(|n| format!("node-{n}")).collect();
        let start = |(port, name): (&u16, &String)| {
            Nats::start(NatsOptions {
                cluster: Some(Membership {
                    name: name.clone(),
                    port: *port,
                    routes: routes.clone(),
                }),
                ..NatsOptions::new(dir.join(name))
            })
        };
        let nodes = try_join_all(routes.iter().zip(&names).map(start)).await?;
        let cluster = Self { nodes, names };
        cluster
            .until("JetStream", async |js| js.query_account().await.ok().map(drop))
            .await?;
        Ok(cluster)
    }

    /// The addresses of all of them, separated by commas.
    pub fn urls(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Nats::url).collect();
        urls.join(",")
    }

    /// Which server leads a stream, by its place in `nodes`; waits until one does.
    pub async fn leader(&self, stream: &str) -> Result<usize, ServerError> {
        self.until("the stream's leader", async |js| {
            let found = js.get_stream(stream).await.ok()?;
            let leader = found.cached_info().cluster.as_ref()?.leader.clone()?;
            self.names.iter().position(|name| *name == leader)
        })
        .await
    }

    /// Has the stream's leader step down; returns when another one leads.
    pub async fn step_down(&self, stream: &str) -> Result<(), ServerError> {
        let before = self.leader(stream).await?;
        let asked = format!("STREAM.LEADER.STEPDOWN.{stream}");
        self.until("a leader that steps down", async |js| {
            let answer: serde_json::Value = js.request(asked.clone(), &json!({})).await.ok()?;
            answer["success"].as_bool().filter(|done| *done).map(drop)
        })
        .await?;
        self.until("another leader", async |js| {
            let found = js.get_stream(stream).await.ok()?;
            let leader = found.cached_info().cluster.as_ref()?.leader.clone()?;
            (leader != self.names[before]).then_some(())
        })
        .await
    }

    /// Waits until every copy of the stream is up to date.
    pub async fn in_step(&self, stream: &str) -> Result<(), ServerError> {
        self.until("all copies of the stream", async |js| {
            let found = js.get_stream(stream).await.ok()?;
            let cluster = found.cached_info().cluster.as_ref()?;
            let all = cluster.leader.is_some()
                && cluster.replicas.len() == self.nodes.len() - 1
                && cluster.replicas.iter().all(|copy| copy.current && !copy.offline);
            all.then_some(())
        })
        .await
    }

    async fn until<T>(
        &self,
        what: &str,
        look: impl AsyncFn(&jetstream::Context) -> Option<T>,
    ) -> Result<T, ServerError> {
        let end = Instant::now() + AGREED_WITHIN;
        let failed = |message: String| ServerError::Program {
            program: "nats-server",
            message,
        };
        let connecting = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = connecting
            .connect(self.nodes.iter().map(Nats::url).collect::<Vec<_>>())
            .await
            .map_err(|error| failed(error.to_string()))?;
        let js = jetstream::new(client);
        loop {
            if let Ok(Some(found)) = timeout(ASK_WITHIN, look(&js)).await {
                return Ok(found);
            }
            if Instant::now() >= end {
                return Err(failed(format!(
                    "the cluster did not get {what} within {AGREED_WITHIN:?}"
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
