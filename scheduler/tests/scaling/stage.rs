//! A scheduler in this process, and what stands around it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use async_nats::jetstream;
use scheduler::Config;
use scheduler::api::{ScalingFigures, ScalingView};
use scheduler::keda::proto::external_scaler_client::ExternalScalerClient;
use scheduler::keda::proto::{GetMetricsRequest, ScaledObjectRef};
use shared::config::{Fleet, Reader};
use shared::topology;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

pub(super) const SOON: Duration = Duration::from_secs(10);
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn fleet(url: &str, settings: &[(&str, &str)]) -> Fleet {
    let mut environment = BTreeMap::from([
        ("WEIR_NATS_URL".to_owned(), url.to_owned()),
        ("WEIR_SERVICES".to_owned(), "github,http".to_owned()),
        ("WEIR_SHUTDOWN_DEADLINE".to_owned(), "9s".to_owned()),
    ]);
    for (name, value) in settings {
        environment.insert((*name).to_owned(), (*value).to_owned());
    }
    let mut reader = Reader::new(&environment);
    let fleet = Fleet::read(&mut reader);
    reader.finish(&[], fleet).unwrap().0
}

pub(super) struct Replica {
    pub(super) url: String,
    pub(super) keda: ExternalScalerClient<Channel>,
    keda_at: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), scheduler::RunError>>,
}

impl Replica {
    pub(super) async fn start(fleet: &Fleet) -> Self {
        Self::start_with(fleet, &[]).await
    }

    pub(super) async fn start_with(fleet: &Fleet, settings: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let keda = free();
        let mut environment = BTreeMap::from([
            ("WEIR_SCHEDULER_INTERVAL".to_owned(), "250ms".to_owned()),
            ("WEIR_SCHEDULER_KEDA_LISTEN".to_owned(), keda.to_string()),
        ]);
        for (name, value) in settings {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let mut reader = Reader::new(&environment);
        let mut config = Config::read(&mut reader);
        config.fleet = fleet.clone();
        let (config, _) = reader.finish(&Config::OWN, config).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(scheduler::run(config, listener, shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{keda}"))
            .unwrap()
            .connect_lazy();
        Self {
            url: format!("http://{listen}"),
            keda: ExternalScalerClient::new(channel),
            keda_at: keda,
            shutdown,
            task,
        }
    }

    /// Another connection of KEDA's.
    pub(super) async fn another(&self) -> ExternalScalerClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.keda_at)).unwrap();
        ExternalScalerClient::new(channel.connect().await.unwrap())
    }

    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        shared::lifecycle::install_tls();
        let answer = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(super) async fn scaling(&self, service: &str) -> Option<ScalingFigures> {
        let (status, body) = self.get("/api/scaling").await;
        let views: Vec<ScalingView> = (status == 200).then(|| serde_json::from_str(&body).unwrap())?;
        views.into_iter().find(|view| view.service == service)?.known
    }

    pub(super) async fn active(&self, service: &str) -> Result<bool, Code> {
        let answer = self
            .keda
            .clone()
            .is_active(trigger(&[("service", service)]))
            .await;
        answer
            .map(|answer| answer.into_inner().result)
            .map_err(|status| status.code())
    }

    pub(super) async fn metric(&self, service: &str, metric: &str) -> Result<f64, Code> {
        let asked = GetMetricsRequest {
            scaled_object_ref: Some(trigger(&[
                ("service", service),
                ("metric", metric),
                ("target", "1"),
            ])),
            metric_name: metric.to_owned(),
        };
        let answer = self
            .keda
            .clone()
            .get_metrics(asked)
            .await
            .map_err(|status| status.code())?;
        let [value] = &answer.into_inner().metric_values[..] else {
            panic!("not one value")
        };
        assert_eq!(value.metric_value, value.metric_value_float.ceil() as i64);
        Ok(value.metric_value_float)
    }

    /// Stops in order, however many connections say nothing.
    pub(super) async fn stop(self) {
        let _idle = TcpStream::connect(self.keda_at).await.unwrap();
        self.shutdown.cancel();
        timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }
}

pub(super) fn trigger(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let metadata = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ScaledObjectRef {
        name: "worker".into(),
        namespace: "weir".into(),
        scaler_metadata: metadata.collect::<HashMap<_, _>>(),
    }
}

pub(super) fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

pub(super) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> F,
) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(25)).await;
    }
}

pub(super) async fn publish(js: &jetstream::Context, events: usize) {
    for _ in 0..events {
        js.publish("events.github", "x".into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
}

/// A worker's word about what it does at once.
pub(super) async fn say(js: &jetstream::Context, fleet: &Fleet, concurrency: u32, rule: &str) {
    let now = format!(
        r#"{{"tag":"{{github:1}}","provider":"github","away":"stop","ahead":100,"at":1,"worker":"w","set":0,
            "concurrency":{concurrency},"timeout":30000,
            "limits":{{"requests":{{"rule":"{rule}","shadow":false,"apart":false}}}}}}"#
    );
    let bucket = topology::limits_bucket(js, &fleet.streams).await.unwrap();
    bucket.put("now.github", now.into()).await.unwrap();
}
