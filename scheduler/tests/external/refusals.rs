//! Everybody who should not get an answer, one by one.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority::Authority;
use crate::cluster::front_proxy;
use crate::stage::{DEPTH, HOST, Stage, answer, eventually, put};

fn told(body: &Value) -> (&str, &str) {
    (
        body["reason"].as_str().unwrap(),
        body["message"].as_str().unwrap(),
    )
}

/// As `hpa`, who may, but with these headers and this certificate.
async fn as_hpa(stage: &Stage, client: &reqwest::Client) -> (u16, Value) {
    answer(
        client
            .get(format!("{}{DEPTH}", stage.url))
            .header("X-Remote-User", "hpa"),
    )
    .await
}

#[tokio::test]
async fn nobody_without_a_client_certificate_whatever_the_headers_say() {
    let stage = Stage::new().await;
    let stranger = stage.client(None);
    for path in [
        DEPTH,
        "/apis",
        "/apis/external.metrics.k8s.io/v1beta1",
        "/apis/nowhere",
    ] {
        let forged = stranger
            .get(format!("{}{path}", stage.url))
            .header("X-Remote-User", "system:admin")
            .header("X-Remote-Group", "system:masters")
            .header("Authorization", "Bearer abc");
        let (code, body) = answer(forged).await;
        assert_eq!(code, 401, "{path}");
        let (reason, message) = told(&body);
        assert_eq!(reason, "Unauthorized");
        assert!(
            message.contains("a client certificate of the API aggregator is required"),
            "{message}"
        );
    }
    assert!(stage.cluster.reviews().is_empty());
}

#[tokio::test]
async fn no_certificate_of_another_authority() {
    let stage = Stage::new().await;
    // The same name as the right one's, and even the authority is called the same.
    let other = Authority::new("front-proxy-ca");
    let forger = stage.client(Some(&other.client("front-proxy-client")));
    let (code, body) = as_hpa(&stage, &forger).await;
    assert_eq!((code, told(&body).0), (401, "Unauthorized"));
    assert!(told(&body).1.contains("not of the front proxy's CA"), "{body}");
}

/// Shows a certificate, and signs with a key that may be another's.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn no_certificate_whose_key_somebody_does_not_have() {
    let stage = Stage::new().await;
    let [right, other] = [0, 1].map(|_| stage.front.client("front-proxy-client"));
    let mut roots = RootCertStore::empty();
    let serving = CertificateDer::from_pem_slice(stage.serving.pem.as_bytes()).unwrap();
    roots.add(serving).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (key, known) in [(&right.key, true), (&other.key, false)] {
            let certificate = CertificateDer::from_pem_slice(right.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
            let shown = Shown(Arc::new(CertifiedKey::new(vec![certificate], key)));
            let config = ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots.clone())
                .with_client_cert_resolver(Arc::new(shown));
            let port = stage.url.rsplit(':').next().unwrap();
            let asked = async {
                let stream = TcpStream::connect(format!("127.0.0.1:{port}")).await?;
                let connector = TlsConnector::from(Arc::new(config));
                let mut stream = connector.connect(HOST.try_into().unwrap(), stream).await?;
                let request = format!(
                    "GET {DEPTH} HTTP/1.1\r\nHost: {HOST}\r\nX-Remote-User: hpa\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await?;
                Ok::<_, std::io::Error>(answer)
            };
            let answer = asked.await;
            assert_eq!(answer.is_ok(), known, "{version:?}: {answer:?}");
            assert!(answer.is_err() || answer.unwrap().starts_with("HTTP/1.1 200 "));
        }
    }
}

/// Whoever could hold a place without proving anything could hold them all.
#[tokio::test]
async fn nobody_who_proves_nothing_for_long() {
    let stage = Stage::new().await;
    let mut roots = RootCertStore::empty();
    let serving = CertificateDer::from_pem_slice(stage.serving.pem.as_bytes()).unwrap();
    roots.add(serving).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let port = stage.url.rsplit(':').next().unwrap();
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(HOST.try_into().unwrap(), stream).await.unwrap();
    let mut said = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut said)).await;
    // It may end without TLS's own goodbye.
    let _ = closed.expect("closed by the server");
    assert!(said.is_empty());
    let probe = stage.client(None);
    assert_eq!(answer(probe.get(format!("{}/livez", stage.url))).await.0, 200);
}

#[tokio::test]
async fn no_other_name_under_the_right_authority() {
    let stage = Stage::new().await;
    for name in [
        "front-proxy-client2",
        "kubernetes-admin",
        "",
        "Front-Proxy-Client",
        "system:masters",
    ] {
        let other = stage.client(Some(&stage.front.client(name)));
        let (code, body) = as_hpa(&stage, &other).await;
        assert_eq!(code, 401, "{name}");
        assert!(told(&body).1.contains("its name is not allowed"), "{body}");
    }
}

#[tokio::test]
async fn no_certificate_whose_time_is_over_or_that_is_for_servers() {
    let stage = Stage::new().await;
    let former = stage.front.former_client("front-proxy-client");
    for pair in [former, stage.front.server("front-proxy-client")] {
        let (code, body) = as_hpa(&stage, &stage.client(Some(&pair))).await;
        assert_eq!(code, 401);
        assert!(told(&body).1.contains("not of the front proxy's CA"), "{body}");
    }
}

#[tokio::test]
async fn not_the_aggregator_itself_when_it_does_not_say_for_whom() {
    let stage = Stage::new().await;
    let aggregator = stage.aggregator();
    let (code, body) = answer(aggregator.get(format!("{}{DEPTH}", stage.url))).await;
    assert_eq!(code, 401);
    assert!(told(&body).1.contains("no header says for whom"), "{body}");
    let (code, _) = stage.ask("", DEPTH).await;
    assert_eq!(code, 401);
}

#[tokio::test]
async fn nobody_whom_the_cluster_does_not_let() {
    let stage = Stage::new().await;
    let request = stage
        .aggregator()
        .get(format!("{}{DEPTH}?labelSelector=service%3Dgithub", stage.url))
        .header("X-Remote-User", "jane")
        .header("X-Remote-Uid", "17")
        .header("X-Remote-Group", "dev")
        .header("X-Remote-Group", "ops")
        .header("X-Remote-Extra-Scopes%2FTeam", "a")
        .header("X-Remote-Extra-Scopes%2FTeam", "b");
    let (code, body) = answer(request).await;
    assert_eq!((code, told(&body).0), (403, "Forbidden"));
    assert_eq!(
        told(&body).1,
        r#"weir_queue_depth.external.metrics.k8s.io is forbidden: User "jane" cannot list resource "weir_queue_depth" in API group "external.metrics.k8s.io" in the namespace "default""#
    );
    let asked = serde_json::json!({
        "user": "jane",
        "uid": "17",
        "groups": ["dev", "ops", "system:authenticated"],
        "extra": {"scopes/team": ["a", "b"]},
        "resourceAttributes": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "resource": "weir_queue_depth",
            "namespace": "default",
            "verb": "list",
        },
    });
    assert_eq!(stage.cluster.reviews(), [asked]);
    // Documents, too, are for those whom the cluster lets read them. The aggregator need not ask itself.
    let (code, body) = stage.ask("jane", "/apis/external.metrics.k8s.io/v1beta1").await;
    assert_eq!(code, 403);
    assert!(
        told(&body)
            .1
            .contains(r#"cannot get path "/apis/external.metrics.k8s.io/v1beta1""#),
        "{body}"
    );
    let (code, _) = stage
        .ask("system:kube-aggregator", "/apis/external.metrics.k8s.io/v1beta1")
        .await;
    assert_eq!(code, 200);
    let (code, _) = stage.ask("system:kube-aggregator", DEPTH).await;
    assert_eq!(code, 403, "documents only");
}

#[tokio::test]
async fn nobody_while_the_cluster_gives_no_answer() {
    let stage = Stage::new().await;
    stage.cluster.away(true);
    let (code, body) = stage.ask("hpa", DEPTH).await;
    assert_eq!((code, told(&body).0), (503, "ServiceUnavailable"));
    stage.cluster.away(false);
    assert_eq!(
        stage.ask("hpa", DEPTH).await.0,
        200,
        "the failure is not remembered"
    );
    stage.cluster.away(true);
    assert_eq!(stage.ask("hpa", DEPTH).await.0, 200, "the answer is, for a while");
}

#[tokio::test]
async fn no_metric_that_there_is_not() {
    let stage = Stage::new().await;
    for metric in ["weir_queue_depths", "WEIR_QUEUE_DEPTH", "%2e%2e", "a%20b"] {
        let path = DEPTH.replace("weir_queue_depth", metric);
        let (code, body) = stage.ask("hpa", &path).await;
        assert_eq!((code, told(&body).0), (404, "NotFound"), "{metric}");
        // Whoever may not is not told what there is.
        assert_eq!(stage.ask("jane", &path).await.0, 403);
    }
}

#[tokio::test]
async fn no_selector_that_is_none() {
    let stage = Stage::new().await;
    for selector in [
        "service%3D%3D%3Dx",
        "service+in+github",
        "%2C",
        "service%3D_",
        "%00",
        "%ff",
    ] {
        let (code, body) = stage
            .ask("hpa", &format!("{DEPTH}?labelSelector={selector}"))
            .await;
        assert_eq!((code, told(&body).0), (400, "BadRequest"), "{selector}");
        assert!(told(&body).1.contains("label selector"), "{body}");
    }
}

#[tokio::test]
async fn no_figure_that_is_not_known_or_too_old() {
    let stage = Stage::with(Duration::from_millis(300), true).await;
    let all = async || stage.ask("hpa", DEPTH).await;
    eventually("the figures are too old", async || all().await.0 == 503).await;
    let (_, body) = all().await;
    assert_eq!(told(&body).0, "ServiceUnavailable");
    assert!(told(&body).1.contains("last observed"), "{body}");
    assert!(body["details"]["retryAfterSeconds"].is_null());
    // One that is known, one that is not: no sum, but each by itself.
    eventually("one of them is known again", async || {
        put(&stage.board, "slack", 3, 250);
        let (code, body) = stage
            .ask("hpa", &format!("{DEPTH}?labelSelector=service%3Dslack"))
            .await;
        code == 200 && body["items"][0]["value"] == "3"
    })
    .await;
    put(&stage.board, "slack", 3, 250);
    assert_eq!(all().await.0, 503);
}

#[tokio::test]
async fn nobody_before_the_cluster_says_who_its_aggregator_is_nor_when_it_takes_that_back() {
    let stage = Stage::with(Duration::from_secs(60), false).await;
    let aggregator = stage.aggregator();
    let code = async || as_hpa(&stage, &aggregator).await.0;
    eventually("the absence is known", async || code().await == 503).await;
    let probe = async |path: &str| {
        let answer = stage
            .client(None)
            .get(format!("{}{path}", stage.url))
            .send()
            .await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(
        (
            probe("/livez").await,
            probe("/readyz").await,
            probe("/healthz").await
        ),
        (200, 503, 503)
    );
    // Over one connection, on which each change is in force as soon as it is known.
    let good = front_proxy(&stage.front);
    stage.cluster.set(Some(good.clone()));
    eventually("the aggregator is known", async || code().await == 200).await;
    assert_eq!(
        (
            probe("/livez").await,
            probe("/readyz").await,
            probe("/healthz").await
        ),
        (200, 200, 200)
    );
    let with = |key: &str, value: &str| {
        let mut data = good.clone();
        data.insert(format!("requestheader-{key}"), value.to_owned());
        Some(data)
    };
    let without = |key: &str| {
        let mut data = good.clone();
        data.remove(&format!("requestheader-{key}"));
        Some(data)
    };
    let other = Authority::new("the next CA");
    for (what, data, refused) in [
        ("no CA", without("client-ca-file"), 503),
        (
            "a CA that is none",
            with(
                "client-ca-file",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
            503,
        ),
        ("an empty CA", with("client-ca-file", ""), 503),
        ("no names", without("allowed-names"), 503),
        (
            "names that are no JSON",
            with("allowed-names", "front-proxy-client"),
            503,
        ),
        ("no header of the user", without("username-headers"), 503),
        ("an empty list of those", with("username-headers", "[]"), 503),
        ("a header that is none", with("group-headers", r#"["a b"]"#), 503),
        ("an empty prefix", with("extra-headers-prefix", r#"[""]"#), 503),
        ("no map", None, 503),
        ("another CA", with("client-ca-file", &other.pem), 401),
        ("another name", with("allowed-names", r#"["somebody"]"#), 401),
        (
            "another header",
            with("username-headers", r#"["X-Their-User"]"#),
            401,
        ),
    ] {
        stage.cluster.set(data);
        eventually(what, async || code().await == refused).await;
        stage.cluster.set(Some(good.clone()));
        eventually(what, async || code().await == 200).await;
    }
    // Both authorities while one takes over from the other, and any name where the cluster allows any.
    stage.cluster.set(with(
        "client-ca-file",
        &format!("{}{}", other.pem, stage.front.pem),
    ));
    let next = stage.client(Some(&other.client("front-proxy-client")));
    eventually("both are trusted", async || as_hpa(&stage, &next).await.0 == 200).await;
    assert_eq!(code().await, 200);
    stage.cluster.set(with("allowed-names", "[]"));
    let anyone = stage.client(Some(&stage.front.client("anyone")));
    eventually("any name is allowed", async || {
        as_hpa(&stage, &anyone).await.0 == 200
    })
    .await;
}

#[tokio::test]
async fn nothing_but_reading_and_nothing_elsewhere() {
    let stage = Stage::new().await;
    let aggregator = stage.aggregator();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let (code, _) = answer(
            aggregator
                .request(method, format!("{}{DEPTH}", stage.url))
                .header("X-Remote-User", "hpa"),
        )
        .await;
        assert_eq!(code, 405);
    }
    assert_eq!(stage.ask("hpa", &format!("{DEPTH}?watch=true")).await.0, 405);
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/metrics",
        "/debug/pprof",
    ] {
        let (code, _) = answer(stage.client(None).get(format!("{}{path}", stage.url))).await;
        assert_eq!(code, 404, "{path}");
    }
    for path in [
        "/apis/apps/v1",
        "/apis/external.metrics.k8s.io/v1",
        "/apis/external.metrics.k8s.io/v1beta1/weir_queue_depth",
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default",
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/weir_queue_depth/github",
    ] {
        assert_eq!(stage.ask("hpa", path).await.0, 404, "{path}");
    }
    let protobuf = aggregator
        .get(format!("{}{DEPTH}", stage.url))
        .header("X-Remote-User", "hpa");
    let (code, _) = answer(protobuf.header("Accept", "application/vnd.kubernetes.protobuf")).await;
    assert_eq!(code, 406);
}
