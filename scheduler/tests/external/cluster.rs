//! An API server as far as the metrics API and its clients need one: the config map, with a watch; access reviews; and
//! the aggregation layer, which passes requests on under the front proxy's certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures_util::stream;
use scheduler::external::certificate::{Certificate, Files};
use scheduler::external::connections::{self, STRANGERS, Strangers};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;

pub(crate) type Data = BTreeMap<String, String>;

/// The config map as a cluster of kubeadm's has it, with this CA.
pub(crate) fn front_proxy(ca: &Authority) -> Data {
    [
        ("client-ca-file", "not for us"),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-client-ca-file", ca.pem.as_str()),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    map: watch::Sender<(u64, Option<Data>)>,
    /// Users who may read metrics and documents.
    allowed: Mutex<BTreeSet<String>>,
    /// Every review that was asked for.
    reviews: Mutex<Vec<Value>>,
    away: Mutex<bool>,
    /// What clients must show; nothing when it is empty.
    token: Mutex<String>,
    /// Where requests for the API are passed on to, and as whom.
    backend: Mutex<Option<(String, reqwest::Client)>>,
}

impl Cluster {
    pub(crate) fn new(data: Option<Data>) -> Self {
        Self(Arc::new(Inner {
            map: watch::Sender::new((1, data)),
            allowed: Mutex::new(BTreeSet::from(["hpa".to_owned()])),
            reviews: Mutex::default(),
            away: Mutex::new(false),
            token: Mutex::default(),
            backend: Mutex::new(None),
        }))
    }

    /// Changes the config map.
    pub(crate) fn set(&self, data: Option<Data>) {
        self.0.map.send_modify(|(version, map)| {
            *version += 1;
            *map = data;
        });
    }

    pub(crate) fn allow(&self, user: &str, may: bool) {
        let mut allowed = self.0.allowed.lock().unwrap();
        if may {
            allowed.insert(user.to_owned())
        } else {
            allowed.remove(user)
        };
    }

    /// Reviews are answered, or not.
    pub(crate) fn away(&self, away: bool) {
        *self.0.away.lock().unwrap() = away;
    }

    /// Reviews and the config map are for those alone who show this token.
    pub(crate) fn demand(&self, token: &str) {
        *self.0.token.lock().unwrap() = format!("Bearer {token}");
    }

    fn known(&self, headers: &HeaderMap) -> bool {
        let token = self.0.token.lock().unwrap();
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        token.is_empty() || shown == Some(token.as_bytes())
    }

    pub(crate) fn reviews(&self) -> Vec<Value> {
        self.0.reviews.lock().unwrap().clone()
    }

    /// Passes requests for the API on.
    pub(crate) fn aggregate(&self, url: String, client: reqwest::Client) {
        *self.0.backend.lock().unwrap() = Some((url, client));
    }

    /// A client that needs no connection.
    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    /// Listens, without TLS; the URL.
    pub(crate) async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// Listens with TLS; the URL.
    pub(crate) async fn listen_tls(&self, files: Files) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let certificate = Arc::new(Certificate::read(files).unwrap());
        let (router, stop) = (self.router(), CancellationToken::new());
        let anybody = Strangers {
            lifetime: Duration::from_hours(1),
            ..STRANGERS
        };
        tokio::spawn(async move {
            let served = connections::serve(
                listener.into(),
                certificate,
                router,
                anybody,
                stop,
                Duration::ZERO,
            );
            served.await.unwrap();
        });
        url
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/api/v1/namespaces/kube-system/configmaps", get(maps))
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(review))
            .route(
                "/version",
                get(|| async { Json(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"})) }),
            )
            .route(
                "/api",
                get(|| async { Json(json!({"kind": "APIVersions", "versions": ["v1"]})) }),
            )
            .route("/api/{version}", get(core))
            .route("/apis", any(aggregated))
            .route("/apis/", any(aggregated))
            .route("/apis/{*rest}", any(aggregated))
            .with_state(self.clone())
    }
}

fn object(version: u64, data: &Data) -> Value {
    json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {
            "name": "extension-apiserver-authentication",
            "namespace": "kube-system",
            "resourceVersion": version.to_string(),
        },
        "data": data,
    })
}

async fn maps(
    State(cluster): State<Cluster>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if !cluster.known(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let wanted = "metadata.name=extension-apiserver-authentication";
    if query.get("fieldSelector").map(String::as_str) != Some(wanted) {
        // What the role extension-apiserver-authentication-reader does not cover.
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut changes = cluster.0.map.subscribe();
    let (version, data) = changes.borrow_and_update().clone();
    if query.get("watch").map(String::as_str) != Some("true") {
        let items: Vec<_> = data.iter().map(|data| object(version, data)).collect();
        let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}, "items": items});
        return Json(list).into_response();
    }
    let since: u64 = query["resourceVersion"].parse().unwrap();
    if since != version {
        changes.mark_changed();
    }
    let events = stream::unfold((changes, data), |(mut changes, before)| async move {
        changes.changed().await.ok()?;
        let (version, data) = changes.borrow_and_update().clone();
        let (kind, object) = match (&before, &data) {
            (_, Some(data)) => (
                if before.is_some() { "MODIFIED" } else { "ADDED" },
                object(version, data),
            ),
            (before, None) => ("DELETED", object(version, &before.clone().unwrap_or_default())),
        };
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        Some((Ok::<_, std::io::Error>(Bytes::from(line)), (changes, data)))
    });
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(events))
        .unwrap()
}

async fn review(
    State(cluster): State<Cluster>,
    headers: HeaderMap,
    Json(mut review): Json<Value>,
) -> Response {
    if !cluster.known(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if *cluster.0.away.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let user = review["spec"]["user"].as_str().unwrap_or_default().to_owned();
    let allowed = cluster.0.allowed.lock().unwrap().contains(&user);
    cluster.0.reviews.lock().unwrap().push(review["spec"].clone());
    review["status"] = json!({"allowed": allowed});
    (StatusCode::CREATED, Json(review)).into_response()
}

async fn core(Path(version): Path<String>) -> Response {
    let pods = json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"]});
    let list = json!({"kind": "APIResourceList", "groupVersion": version, "resources": [pods]});
    Json(list).into_response()
}

async fn aggregated(State(cluster): State<Cluster>, request: Request) -> Response {
    let Some((url, client)) = cluster.0.backend.lock().unwrap().clone() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut passed = client.request(request.method().clone(), format!("{url}{path}"));
    if let Some(accept) = request.headers().get(header::ACCEPT) {
        passed = passed.header(header::ACCEPT, accept);
    }
    let passed = passed
        .header("X-Remote-User", "hpa")
        .header("X-Remote-Group", "system:serviceaccounts");
    let answer = passed.send().await.unwrap();
    let status = answer.status();
    let kept = [header::CONTENT_TYPE, header::CACHE_CONTROL].into_iter();
    let headers: HeaderMap = kept
        .filter_map(|name| Some((name.clone(), answer.headers().get(&name)?.clone())))
        .collect();
    (status, headers, answer.bytes().await.unwrap()).into_response()
}
