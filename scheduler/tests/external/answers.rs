//! What those get who may.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Version;
use scheduler::external::certificate::Certificate;
use serde_json::json;
use tokio::time::Instant;

use crate::authority::Authority;
use crate::stage::{DEPTH, HOST, Stage, answer, builder, client, eventually, write};

#[tokio::test]
async fn values_are_one_a_service_and_selected_by_label() {
    let stage = Stage::new().await;
    let (code, body) = stage.ask("hpa", DEPTH).await;
    assert_eq!(code, 200);
    assert_eq!(
        (&body["kind"], &body["apiVersion"]),
        (
            &json!("ExternalMetricValueList"),
            &json!("external.metrics.k8s.io/v1beta1")
        )
    );
    assert_eq!(body["items"][0]["metricName"], "weir_queue_depth");
    let at = body["items"][0]["timestamp"].as_str().unwrap();
    assert!(at.len() == 20 && at.ends_with('Z'), "{at}");
    let values = async |metric: &str, selector: &str| {
        let path = format!(
            "{}?labelSelector={selector}",
            DEPTH.replace("weir_queue_depth", metric)
        );
        let (code, body) = stage.ask("hpa", &path).await;
        assert_eq!(code, 200, "{body}");
        let items = body["items"].as_array().unwrap().iter();
        let text =
            |item: &serde_json::Value, key: &str| item[key].as_str().map(str::to_owned).unwrap_or_default();
        items
            .map(|item| {
                format!(
                    "{}={}",
                    text(&item["metricLabels"], "service"),
                    text(item, "value")
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(values("weir_queue_depth", "").await, ["github=12", "slack=3"]);
    assert_eq!(
        values("weir_oldest_age_seconds", "").await,
        ["github=90", "slack=90"]
    );
    assert_eq!(
        values("weir_worker_demand", "").await,
        ["github=1500m", "slack=250m"]
    );
    for (selector, chosen) in [
        ("service%3Dgithub", vec!["github=12"]),
        ("service%3D%3Dslack", vec!["slack=3"]),
        ("service!%3Dslack", vec!["github=12"]),
        ("service+in+(github,+slack)", vec!["github=12", "slack=3"]),
        ("service+notin+(github)", vec!["slack=3"]),
        ("service", vec!["github=12", "slack=3"]),
        ("!service", vec![]),
        ("service%3Dgithub,lane%3Dhigh", vec![]),
        ("service%3Dlinear", vec![]),
    ] {
        assert_eq!(values("weir_queue_depth", selector).await, chosen, "{selector}");
    }
}

#[tokio::test]
async fn a_table_is_given_to_those_who_print_one() {
    let stage = Stage::new().await;
    let get = stage
        .aggregator()
        .get(format!("{}{DEPTH}?labelSelector=service%3Dgithub", stage.url))
        .header("X-Remote-User", "hpa");
    let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let (code, body) = answer(get.header("Accept", kubectl)).await;
    assert_eq!(
        (code, &body["kind"], &body["apiVersion"]),
        (200, &json!("Table"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(
        body["columnDefinitions"].as_array().unwrap().len(),
        body["rows"][0]["cells"].as_array().unwrap().len()
    );
    assert_eq!(
        body["rows"][0]["cells"].as_array().unwrap()[..2],
        ["github", "12"]
    );
}

#[tokio::test]
async fn documents_say_what_there_is_in_the_form_that_is_wanted() {
    let stage = Stage::new().await;
    let resources = stage.ask("hpa", "/apis/external.metrics.k8s.io/v1beta1").await.1;
    let names: Vec<_> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "weir_queue_depth",
            "weir_oldest_age_seconds",
            "weir_worker_demand"
        ]
    );
    assert_eq!(
        stage.ask("hpa", "/apis/external.metrics.k8s.io").await.1["preferredVersion"]["version"],
        "v1beta1"
    );
    assert_eq!(
        stage.ask("hpa", "/apis").await.1["groups"][0]["name"],
        "external.metrics.k8s.io"
    );
    for version in ["v2", "v2beta1"] {
        let media = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let get = stage
            .aggregator()
            .get(format!("{}/apis", stage.url))
            .header("X-Remote-User", "system:kube-aggregator");
        let got = get
            .header("Accept", format!("{media},application/json;q=0.9"))
            .send()
            .await
            .unwrap();
        assert_eq!(got.headers()["content-type"], media.as_str());
        let body: serde_json::Value = got.json().await.unwrap();
        assert_eq!(
            body["items"][0]["versions"][0]["resources"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
    }
}

#[tokio::test]
async fn the_cluster_is_asked_once_in_a_while_and_not_for_its_masters() {
    let stage = Stage::new().await;
    for _ in 0..5 {
        assert_eq!(stage.ask("hpa", DEPTH).await.0, 200);
        assert_eq!(stage.ask("jane", DEPTH).await.0, 403);
    }
    assert_eq!(stage.cluster.reviews().len(), 2, "one for each of them");
    let master = stage
        .aggregator()
        .get(format!("{}{DEPTH}", stage.url))
        .header("X-Remote-User", "root");
    assert_eq!(
        answer(master.header("X-Remote-Group", "system:masters")).await.0,
        200
    );
    assert_eq!(stage.cluster.reviews().len(), 2);
    // Another namespace, metric, user or group is another question.
    stage.ask("hpa", &DEPTH.replace("default", "other")).await;
    stage
        .ask("hpa", &DEPTH.replace("weir_queue_depth", "weir_worker_demand"))
        .await;
    let grouped = stage
        .aggregator()
        .get(format!("{}{DEPTH}", stage.url))
        .header("X-Remote-User", "hpa");
    answer(grouped.header("X-Remote-Group", "more")).await;
    assert_eq!(stage.cluster.reviews().len(), 5);
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_and_users_may_have_many_groups() {
    let stage = Stage::new().await;
    let port = stage.url.rsplit(':').next().unwrap().parse().unwrap();
    let pair = stage.front.client("front-proxy-client");
    let builder = || builder(&stage.serving.pem, port, Some(&pair));
    for (client, version) in [
        (builder().http1_only(), Version::HTTP_11),
        (builder(), Version::HTTP_2),
    ] {
        let get = client.build().unwrap().get(format!("{}{DEPTH}", stage.url));
        let mut get = get.header("X-Remote-User", "hpa");
        for n in 0..1_500 {
            get = get.header(
                "X-Remote-Group",
                format!("{version:?}:a-group-with-a-long-name-{n}"),
            );
        }
        let got = get.send().await.unwrap();
        assert_eq!((got.status().as_u16(), got.version()), (200, version));
    }
    for review in stage.cluster.reviews() {
        assert_eq!(review["groups"].as_array().unwrap().len(), 1_501);
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown() {
    let stage = Stage::new().await;
    let next = Authority::new("next");
    let port = stage.url.rsplit(':').next().unwrap().parse().unwrap();
    let sees = async |ca: &str| {
        // A new connection each time.
        let probe = client(ca, port, None)
            .get(format!("{}/livez", stage.url))
            .send()
            .await;
        probe.is_ok()
    };
    assert!(sees(&stage.serving.pem).await && !sees(&next.pem).await);
    write(&stage.files, &next.server(HOST));
    eventually("the new certificate is shown", async || sees(&next.pem).await).await;
    assert!(!sees(&stage.serving.pem).await);
}

#[tokio::test]
async fn half_a_pair_is_not_taken_and_says_nothing_of_the_key() {
    let stage = Stage::new().await;
    let files = stage.files.clone();
    let certificate = Certificate::read(files.clone()).unwrap();
    assert!(!certificate.look().await.unwrap(), "nothing has changed");
    let renewed = stage.serving.server(HOST);
    for (path, text, told) in [
        (
            &files.certificate,
            renewed.certificate.as_str(),
            "tls.key holds no key that can be used",
        ),
        (
            &files.certificate,
            "",
            "tls.crt holds no certificate that can be used: there is none",
        ),
        (
            &files.certificate,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "tls.",
        ),
        (
            &files.key,
            "hush",
            "tls.key holds no key that can be used: it is no private key",
        ),
    ] {
        write(&files, &renewed);
        std::fs::write(path, text).unwrap();
        if path == &files.certificate && told.contains("tls.key") {
            // The new certificate beside the old key.
            std::fs::write(&files.key, &stage.serving.server(HOST).key).unwrap();
        }
        let error = certificate.look().await.unwrap_err().to_string();
        assert!(error.contains(told) && !error.contains("hush"), "{error}");
    }
    std::fs::remove_file(&files.key).unwrap();
    assert!(
        certificate
            .look()
            .await
            .unwrap_err()
            .to_string()
            .contains("tls.key cannot be read")
    );
    write(&files, &renewed);
    assert!(certificate.look().await.unwrap());
    assert!(!certificate.look().await.unwrap());
}

#[tokio::test]
async fn a_pair_that_nobody_would_take_is_not_shown() {
    let stage = Stage::new().await;
    let files = stage.files.clone();
    let certificate = Arc::new(Certificate::read(files.clone()).unwrap());
    let ends = || certificate.end().get();
    let at_first = ends();
    assert_eq!(at_first, 4_070_908_800, "the first day of 2099");
    let renewed = stage.serving.server_from(HOST, 2025, 2098);
    let mut junk = renewed.clone();
    junk.certificate += "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    for (pair, why) in [
        (stage.serving.server_from(HOST, 2020, 2021), "and not now"),
        (stage.serving.server_from(HOST, 2098, 2099), "and not now"),
        (junk, "one of them cannot be parsed"),
    ] {
        write(&files, &pair);
        let error = certificate.look().await.unwrap_err().to_string();
        assert!(error.contains("tls.crt") && error.contains(why), "{error}");
        assert_eq!(ends(), at_first);
        assert!(Certificate::read(files.clone()).is_err());
    }
    write(&files, &renewed);
    assert!(certificate.look().await.unwrap());
    assert_eq!(ends(), 4_039_372_800, "the first day of 2098");
}

#[tokio::test]
async fn requests_in_flight_are_answered_at_the_end_and_silent_connections_are_closed() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.ask("hpa", DEPTH).await.0, 200);
    // One that never shakes hands, one that does and says nothing.
    let port = stage.url.rsplit(':').next().unwrap();
    let _silent = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let idle = stage.aggregator();
    answer(
        idle.get(format!("{}{DEPTH}", stage.url))
            .header("X-Remote-User", "hpa"),
    )
    .await;
    stage.shutdown.cancel();
    let began = Instant::now();
    stage
        .tasks
        .take()
        .unwrap()
        .drain(began + Duration::from_secs(8))
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
