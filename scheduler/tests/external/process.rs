//! The whole process: settings, a real NATS server, the cluster by way of a kubeconfig.

use std::process::Stdio;
use std::time::Duration;

use scheduler::external::certificate::Files;
use shared::servers::{Nats, NatsOptions};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::authority::Authority;
use crate::clients::kubeconfig;
use crate::cluster::{Cluster, front_proxy};
use crate::stage::{DEPTH, HOST, answer, client, eventually, write};

#[tokio::test(flavor = "multi_thread")]
async fn the_process_serves_metrics_until_nats_is_gone_and_ends_in_order() {
    shared::lifecycle::install_tls();
    let scratch = tempfile::tempdir().unwrap();
    let mut nats = Nats::start(NatsOptions::new(scratch.path().join("nats")))
        .await
        .unwrap();
    let (front, serving) = (Authority::new("front"), Authority::new("serving"));
    let cluster = Cluster::new(Some(front_proxy(&front)));
    let path = |name: &str| scratch.path().join(name);
    let files = Files {
        certificate: path("tls.crt"),
        key: path("tls.key"),
    };
    write(&files, &serving.server(HOST));
    // As within a pod: TLS under the cluster's own authority, and a token.
    let own = Authority::new("cluster");
    let api = Files {
        certificate: path("api.crt"),
        key: path("api.key"),
    };
    write(&api, &own.server("localhost"));
    std::fs::write(path("ca.crt"), &own.pem).unwrap();
    cluster.demand("the-token");
    let url = cluster.listen_tls(api).await;
    let mut config: serde_json::Value = serde_json::from_str(&kubeconfig(&url)).unwrap();
    config["clusters"][0]["cluster"]["certificate-authority"] = path("ca.crt").to_str().unwrap().into();
    config["users"][0]["user"]["token"] = "the-token".into();
    std::fs::write(path("kubeconfig"), config.to_string()).unwrap();
    let free = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (listen, metrics) = (free(), free());
    let mut process = Command::new(env!("CARGO_BIN_EXE_weir-scheduler"))
        .env("KUBECONFIG", path("kubeconfig"))
        .env("WEIR_NATS_URL", nats.url())
        .env("WEIR_SERVICES", "github,slack")
        .env("WEIR_SCHEDULER_INTERVAL", "250ms")
        .env("WEIR_SCHEDULER_LISTEN", listen.to_string())
        .env("WEIR_SCHEDULER_METRICS_LISTEN", metrics.to_string())
        .env("WEIR_SCHEDULER_TLS_CERT_FILE", &files.certificate)
        .env("WEIR_SCHEDULER_TLS_KEY_FILE", &files.key)
        .env("WEIR_SHUTDOWN_DEADLINE", "9s")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pair = front.client("front-proxy-client");
    let aggregator = client(&serving.pem, metrics.port(), Some(&pair));
    let url = format!("https://{HOST}:{}{DEPTH}", metrics.port());
    let ask = async || {
        let asked = aggregator.get(&url).header("X-Remote-User", "hpa");
        match asked.try_clone().unwrap().send().await {
            Ok(_) => Some(answer(asked).await),
            Err(_) => None,
        }
    };
    let is = async |wanted: u16| ask().await.is_some_and(|(code, _)| code == wanted);
    eventually("metrics are served", async || is(200).await).await;
    let (_, body) = ask().await.unwrap();
    assert_eq!(body["items"].as_array().unwrap().len(), 2);
    let ready = reqwest::get(format!("http://{listen}/health/ready"))
        .await
        .unwrap();
    assert!(ready.text().await.unwrap().contains("front proxy"));
    let counted = reqwest::get(format!("http://{listen}/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        counted.contains("weir_metrics_api_answers_total{code=\"200\"}"),
        "{counted}"
    );
    assert!(
        counted.contains("weir_metrics_api_certificate_not_after_seconds 4070908800\n"),
        "{counted}"
    );
    let large = reqwest::Client::new()
        .get(format!("http://{listen}/health/live"))
        .header("X-Large", "x".repeat(40_000));
    assert_eq!(large.send().await.unwrap().status(), 431);

    nats.kill().await.unwrap();
    eventually("nothing is known without NATS", async || is(503).await).await;
    nats.restart().await.unwrap();
    eventually("it is known again", async || is(200).await).await;

    // Half a request must not keep the process.
    let mut half = tokio::net::TcpStream::connect(listen).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let pid = process.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let ended = timeout(Duration::from_secs(15), process.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(ended.success(), "{ended}");
}
