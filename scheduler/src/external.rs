//! The external metrics API of Kubernetes, `external.metrics.k8s.io/v1beta1`: what a stock HorizontalPodAutoscaler reads,
//! served by every replica over a TLS listener of its own.
//!
//! A request comes from the cluster's API server, which passes on what its users ask. [`connections`] takes it;
//! [`front_proxy`] tells from certificate and headers who asks, by what [`trust`] last read of the cluster;
//! [`access`] asks the cluster whether they may; [`values`] reads the board. Whatever is not known is an error (503)
//! and never a zero: an autoscaler holds still on an error, and scales on a zero.

pub mod accept;
pub mod access;
pub mod certificate;
pub mod connections;
pub mod discovery;
pub mod front_proxy;
pub mod selector;
pub mod status;
pub mod trust;
pub mod values;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::pki_types::UnixTime;
use serde_json::Value;
use shared::lifecycle::{OnEnd, OnShutdown, Tasks};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::{Access, Answer, Wish};
use self::certificate::{BadCertificate, Certificate, Files};
use self::front_proxy::{Peer, unescaped};
use self::selector::Selector;
use self::status::Failure;
use self::trust::Trust;
use crate::board::Board;
use crate::figures::Figure;

/// The API's group.
pub const GROUP: &str = "external.metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";
/// Answers of the API, by status; exposed with the suffix `_total`.
pub const ANSWERS: &str = "weir_metrics_api_answers";

/// When the certificate that is shown ends, in Unix seconds.
pub const CERTIFICATE_END: &str = "weir_metrics_api_certificate_not_after_seconds";

/// Settings of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `WEIR_SCHEDULER_METRICS_LISTEN`: where the API is served.
    pub listen: SocketAddr,
    /// `WEIR_SCHEDULER_TLS_CERT_FILE` and `WEIR_SCHEDULER_TLS_KEY_FILE`.
    pub files: Files,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CannotServe {
    /// Nobody can listen there.
    #[error("WEIR_SCHEDULER_METRICS_LISTEN: cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// There is no certificate to show.
    #[error("WEIR_SCHEDULER_TLS_CERT_FILE, WEIR_SCHEDULER_TLS_KEY_FILE: {0}")]
    Certificate(#[from] BadCertificate),
    /// There is no cluster whose users to know.
    #[error(
        "WEIR_SCHEDULER_METRICS_LISTEN: no Kubernetes cluster to ask (that of the pod, or the one that KUBECONFIG names): {0}"
    )]
    Cluster(String),
}

/// The API, listening and not serving yet.
pub struct Server {
    listener: Arc<TcpListener>,
    certificate: Arc<Certificate>,
    client: kube::Client,
    trust: Trust,
}

#[derive(Debug)]
struct Api {
    board: Arc<Board>,
    trust: Trust,
    access: Access,
    answers: Family<CodeLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

/// The client for the cluster in which this process runs, or that `KUBECONFIG` names.
pub async fn cluster() -> Result<kube::Client, CannotServe> {
    let config = kube::Config::infer()
        .await
        .map_err(|error| CannotServe::Cluster(error.to_string()))?;
    kube::Client::try_from(config).map_err(|error| CannotServe::Cluster(error.to_string()))
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Listens and reads the certificate.
    pub async fn new(settings: &Settings, client: kube::Client) -> Result<Self, CannotServe> {
        let listen = settings.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| CannotServe::Listen(listen, error))?;
        Ok(Self {
            listener: Arc::new(listener),
            certificate: Arc::new(Certificate::read(settings.files.clone())?),
            client,
            trust: Trust::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it knows of the front proxy.
    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// Serves until `shutdown`, as tasks of `tasks`; requests in flight have `grace` then.
    pub fn start(
        self,
        board: Arc<Board>,
        registry: &mut Registry,
        tasks: &Tasks,
        shutdown: CancellationToken,
        grace: Duration,
    ) {
        let answers = Family::<CodeLabel, Counter>::default();
        let help = "Answers of the external metrics API";
        registry.register(ANSWERS, help, answers.clone());
        let help = "When the certificate that the external metrics API shows ends, in Unix time";
        registry.register(CERTIFICATE_END, help, self.certificate.end());
        let router = Router::new().fallback(answer).with_state(Arc::new(Api {
            board,
            trust: self.trust.clone(),
            access: Access::new(self.client.clone()),
            answers,
        }));
        let (trust, client) = (self.trust, self.client);
        tasks.spawn("front proxy", OnEnd::Restart, OnShutdown::Abort, move || {
            trust.clone().follow(client.clone())
        });
        let certificate = Arc::clone(&self.certificate);
        tasks.spawn("certificate", OnEnd::Restart, OnShutdown::Abort, move || {
            Arc::clone(&certificate).follow()
        });
        let (listener, certificate) = (self.listener, self.certificate);
        tasks.spawn("metrics API", OnEnd::Restart, OnShutdown::Wait, move || {
            connections::serve(
                Arc::clone(&listener),
                Arc::clone(&certificate) as _,
                router.clone(),
                connections::STRANGERS,
                shutdown.clone(),
                grace,
            )
        });
    }
}

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Whether the process is alive.
    Live,
    /// Whether it can answer.
    Ready,
    /// All groups.
    Groups,
    /// Our group.
    Group,
    /// Our metrics.
    Resources,
    /// The values of a metric.
    Values { namespace: String, metric: String },
    /// Something below `/apis` that is not there.
    Missing,
    /// Anything else. `/api` above all: who says that it is there makes some clients look for pods here.
    Foreign,
}

impl Target {
    fn of(path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["livez"] => Self::Live,
            ["readyz" | "healthz"] => Self::Ready,
            ["apis"] => Self::Groups,
            ["apis", GROUP] => Self::Group,
            ["apis", GROUP, VERSION] => Self::Resources,
            ["apis", GROUP, VERSION, "namespaces", namespace, metric]
                if !namespace.is_empty() && !metric.is_empty() =>
            {
                Self::Values {
                    namespace: unescaped(namespace),
                    metric: unescaped(metric),
                }
            }
            ["apis", ..] => Self::Missing,
            _ => Self::Foreign,
        }
    }
}

async fn answer(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let mut response = api.answer(&peer, &parts).await.unwrap_or_else(|failure| {
        tracing::debug!(path = parts.uri.path(), ?failure, "a request is refused");
        failure.into_response()
    });
    let uncached = HeaderValue::from_static("no-cache, private");
    response.headers_mut().insert(header::CACHE_CONTROL, uncached);
    let code = response.status().as_u16();
    api.answers.get_or_create(&CodeLabel { code }).inc();
    response
}

impl Api {
    async fn answer(&self, peer: &Peer, request: &Parts) -> Result<Response, Failure> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(Failure::method_not_allowed("metrics can only be read"));
        }
        let target = Target::of(request.uri.path());
        match &target {
            Target::Live => return Ok("ok".into_response()),
            Target::Ready => {
                let known = self.trust.front_proxy().map_err(Failure::unavailable);
                return known.map(|_| "ok".into_response());
            }
            Target::Foreign => return Err(Failure::not_found("there is no such page here")),
            _ => {}
        }
        self.authorize(peer, request, &target).await?;
        let wanted = accept::wanted(&request.headers);
        let plain = || wanted.contains(&accept::Wanted::PLAIN);
        let (media, document) = match target {
            Target::Groups => discovery::groups(&wanted).ok_or_else(Failure::not_acceptable)?,
            Target::Group if plain() => json(discovery::group()),
            Target::Resources if plain() => json(discovery::resources()),
            Target::Group | Target::Resources => return Err(Failure::not_acceptable()),
            Target::Values { metric, .. } => {
                let values = self.values(&metric, request.uri.query().unwrap_or_default())?;
                json(values::answer(&values, &wanted).ok_or_else(Failure::not_acceptable)?)
            }
            _ => {
                return Err(Failure::not_found(
                    "the server could not find the requested resource",
                ));
            }
        };
        Ok(([(header::CONTENT_TYPE, media)], document.to_string()).into_response())
    }

    async fn authorize(&self, peer: &Peer, request: &Parts, target: &Target) -> Result<(), Failure> {
        let proxy = self.trust.front_proxy().map_err(Failure::unavailable)?;
        let user = proxy
            .identify(peer, &request.headers, UnixTime::now())
            .map_err(|stranger| Failure::unauthorized(format!("Unauthorized: {stranger}")))?;
        let wish = match target {
            Target::Values { namespace, metric } => Wish::List {
                namespace: namespace.clone(),
                metric: metric.clone(),
            },
            _ => Wish::Read {
                path: request.uri.path().to_owned(),
            },
        };
        let answer = self.access.ask(&user, &wish).await;
        match answer.map_err(|error| Failure::unavailable(error.to_string()))? {
            Answer::Allowed => Ok(()),
            Answer::Denied(why) => Err(Failure::forbidden(denied(&user.name, &wish, &why))),
        }
    }

    fn values(&self, metric: &str, query: &str) -> Result<Vec<values::Item>, Failure> {
        let figure = Figure::named(metric).ok_or_else(|| {
            Failure::not_found(format!("there is no metric {metric:?} in {GROUP}/{VERSION}"))
        })?;
        let parameter = |wanted: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        if !matches!(parameter("watch").as_str(), "" | "0" | "false") {
            return Err(Failure::method_not_allowed("metrics cannot be watched"));
        }
        let selector = Selector::parse(&parameter("labelSelector"))
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        values::select(&self.board, figure, &selector)
            .map_err(|unknown| Failure::unavailable(unknown.to_string()))
    }
}

fn json(document: Value) -> (String, Value) {
    ("application/json".to_owned(), document)
}

fn denied(user: &str, wish: &Wish, why: &str) -> String {
    let what = match wish {
        Wish::Read { path } => format!("forbidden: User {user:?} cannot get path {path:?}"),
        Wish::List { namespace, metric } => format!(
            "{metric}.{GROUP} is forbidden: User {user:?} cannot list resource {metric:?} in API group {GROUP:?} in the namespace {namespace:?}"
        ),
    };
    if why.is_empty() {
        what
    } else {
        format!("{what}: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_for_what_they_say_and_nothing_else() {
        let values = |metric: &str| Target::Values {
            namespace: "default".into(),
            metric: metric.into(),
        };
        for (path, target) in [
            ("/livez", Target::Live),
            ("/readyz", Target::Ready),
            ("/healthz", Target::Ready),
            ("/apis", Target::Groups),
            ("/apis/", Target::Groups),
            ("/apis/external.metrics.k8s.io", Target::Group),
            ("/apis/external.metrics.k8s.io/v1beta1", Target::Resources),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/m",
                values("m"),
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/%6D",
                values("m"),
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/%",
                values("%"),
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/m/n",
                Target::Missing,
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces//m",
                Target::Missing,
            ),
            ("/apis/external.metrics.k8s.io/v1beta1/m", Target::Missing),
            ("/apis/external.metrics.k8s.io/v1", Target::Missing),
            ("/apis/apps/v1", Target::Missing),
            ("/apis//", Target::Missing),
            ("/apisx", Target::Foreign),
            ("//apis", Target::Foreign),
            ("/api", Target::Foreign),
            ("/openapi/v3", Target::Foreign),
            ("/", Target::Foreign),
            ("*", Target::Foreign),
        ] {
            assert_eq!(Target::of(path), target, "{path}");
        }
    }
}
