//! The metrics API with a cluster around it and a board that tests write on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Registry;
use reqwest::{Certificate, Identity};
use scheduler::board::Board;
use scheduler::external::certificate::Files;
use scheduler::external::trust::Trust;
use scheduler::external::{Server, Settings};
use scheduler::observe::{LaneDepth, Observation};
use scheduler::signal::{Advice, Bound, Demand, Load, Scaling};
use serde_json::Value;
use shared::lifecycle::Tasks;
use shared::subject::Service;
use shared::telemetry::propagation::millis;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, Pair};
use crate::cluster::{Cluster, front_proxy};

/// The name under which the API server reaches the scheduler.
pub(crate) const HOST: &str = "weir-scheduler.weir.svc";
/// The path of a metric.
pub(crate) const DEPTH: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/weir_queue_depth";

pub(crate) struct Stage {
    pub(crate) url: String,
    pub(crate) board: Arc<Board>,
    pub(crate) cluster: Cluster,
    /// Vouches for the front proxy.
    pub(crate) front: Authority,
    /// Vouches for the scheduler.
    pub(crate) serving: Authority,
    pub(crate) files: Files,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: Option<Tasks>,
    trust: Trust,
    port: u16,
    _scratch: TempDir,
}

impl Stage {
    /// Services `github` (12 messages) and `slack` (3), and the config map in place.
    pub(crate) async fn new() -> Self {
        Self::with(Duration::from_secs(60), true).await
    }

    pub(crate) async fn with(interval: Duration, trusted: bool) -> Self {
        let front = Authority::new("front-proxy-ca");
        let cluster = Cluster::new(trusted.then(|| front_proxy(&front)));
        let client = cluster.client();
        let services = [("github", 12, 1_500), ("slack", 3, 250)];
        let stage = Self::of(&services, interval, front, cluster, client).await;
        if trusted {
            stage.trusted().await;
        }
        stage
    }

    /// Services with their depths and demands; `client` is the scheduler's way to the cluster.
    pub(crate) async fn of(
        queues: &[(&str, u64, u64)],
        interval: Duration,
        front: Authority,
        cluster: Cluster,
        client: kube::Client,
    ) -> Self {
        shared::lifecycle::install_tls();
        let scratch = tempfile::tempdir().unwrap();
        let serving = Authority::new("serving-ca");
        let files = Files {
            certificate: scratch.path().join("tls.crt"),
            key: scratch.path().join("tls.key"),
        };
        write(&files, &serving.server(HOST));
        let services: Vec<_> = queues
            .iter()
            .map(|(name, ..)| Service::new(*name).unwrap())
            .collect();
        let board = Arc::new(Board::new(&services, interval));
        for (name, depth, demand) in queues {
            put(&board, name, *depth, *demand);
        }
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            files: files.clone(),
        };
        let server = Server::new(&settings, client).await.unwrap();
        let (port, trust) = (server.address().unwrap().port(), server.trust());
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(shutdown.clone());
        let (shown, grace) = (Arc::clone(&board), Duration::from_secs(5));
        server.start(shown, &mut Registry::default(), &tasks, shutdown.clone(), grace);
        Self {
            url: format!("https://{HOST}:{port}"),
            board,
            cluster,
            front,
            serving,
            files,
            shutdown,
            tasks: Some(tasks),
            trust,
            port,
            _scratch: scratch,
        }
    }

    /// Waits until the config map is read.
    pub(crate) async fn trusted(&self) {
        eventually("the config map is read", async || {
            self.trust.front_proxy().is_ok()
        })
        .await;
    }

    /// A client with this certificate, or without one.
    pub(crate) fn client(&self, pair: Option<&Pair>) -> reqwest::Client {
        client(&self.serving.pem, self.port, pair)
    }

    /// The aggregator.
    pub(crate) fn aggregator(&self) -> reqwest::Client {
        self.client(Some(&self.front.client("front-proxy-client")))
    }

    /// What the aggregator is answered when it asks for `user`.
    pub(crate) async fn ask(&self, user: &str, path: &str) -> (u16, Value) {
        answer(
            self.aggregator()
                .get(format!("{}{path}", self.url))
                .header("X-Remote-User", user),
        )
        .await
    }
}

pub(crate) fn client(ca: &str, port: u16, pair: Option<&Pair>) -> reqwest::Client {
    builder(ca, port, pair).build().unwrap()
}

pub(crate) fn builder(ca: &str, port: u16, pair: Option<&Pair>) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(ca.as_bytes()).unwrap()])
        .resolve(HOST, ([127, 0, 0, 1], port).into())
        .no_proxy()
        .timeout(Duration::from_secs(20));
    match pair {
        Some(pair) => {
            let both = format!("{}{}", pair.certificate, pair.key);
            builder.identity(Identity::from_pem(both.as_bytes()).unwrap())
        }
        None => builder,
    }
}

/// Status and JSON of an answer; a failure is a `Status` object with the same code.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let code = answer.status().as_u16();
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
    if code >= 400 {
        assert_eq!(
            (&body["kind"], &body["apiVersion"], &body["status"]),
            (&"Status".into(), &"v1".into(), &"Failure".into())
        );
        assert_eq!(body["code"], code);
    }
    (code, body)
}

pub(crate) fn write(files: &Files, pair: &Pair) {
    std::fs::write(&files.certificate, &pair.certificate).unwrap();
    std::fs::write(&files.key, &pair.key).unwrap();
}

/// What a service's queue holds now, the oldest for 90 s.
pub(crate) fn put(board: &Board, service: &str, depth: u64, demand_milli: u64) {
    let now = millis(SystemTime::now());
    let observation = Observation {
        lanes: vec![LaneDepth {
            lane: "normal".into(),
            pending: depth,
            unacked: 0,
            waiting: depth,
            redelivered: 0,
        }],
        retrying: Some(7),
        dead: Some(9),
        oldest_at: Some(now - 90_000),
        observed_at: now,
    };
    let scaling = Scaling {
        demand: Demand {
            milli: demand_milli,
            load: Load {
                arrivals: 1.0,
                service_time: Some(1.0),
                pending: depth,
                unacked: 0,
            },
            bound: Bound::Load,
        },
        advice: Advice {
            workers: 2,
            load: 0.5,
        },
    };
    board.put(
        &Service::new(service).unwrap(),
        observation,
        Ok(scaling),
        tokio::time::Instant::now(),
    );
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
