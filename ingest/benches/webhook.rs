//! What a webhook costs before it is published: route, source, signature, event, beside the bare HMAC of the same bytes.
//! `cargo bench -p ingest --bench webhook`. Arguments: `-- --samples 50 --calls 2000`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ingest::accept::{Accepted, webhook};
use ingest::body::Bodies;
use ingest::config::{Bounds, Config, Source};
use ingest::publish::Outgoing;
use ingest::verify::verify;
use sha2::Sha256;
use shared::config::Reader;
use shared::event::Event;
use tower::Service;

const SECRET: &str = "bench-secret";
/// A real webhook of GitHub, 7 KB.
const BODY: &[u8] = include_bytes!("../tests/fixtures/github/push.none.json");

/// What each request finds: the sources, and where bodies are read to.
struct App {
    sources: HashMap<String, Source>,
    bodies: Bodies,
}

fn sources() -> HashMap<String, Source> {
    let overridden = [
        ("WEIR_SOURCE_PICKED_TENANT", "body:/repository/owner/login|none"),
        ("WEIR_SOURCE_PICKED_KEY", "body:/ref|header:x-github-event"),
    ];
    let settings = [
        ("WEIR_SERVICES", "github"),
        ("WEIR_SOURCES", "github,picked"),
        ("WEIR_SOURCE_GITHUB_KIND", "github"),
        ("WEIR_SOURCE_GITHUB_SECRETS", SECRET),
        ("WEIR_SOURCE_PICKED_KIND", "github"),
        ("WEIR_SOURCE_PICKED_SECRETS", SECRET),
        ("WEIR_SOURCE_PICKED_SERVICE", "github"),
    ];
    let settings: BTreeMap<String, String> = settings
        .iter()
        .chain(&overridden)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut reader = Reader::new(&settings);
    let config = Config::read(&mut reader);
    let (config, _) = reader.finish(&Config::OWN, config).unwrap();
    config
        .sources
        .into_iter()
        .map(|source| (source.name.clone(), source))
        .collect()
}

fn hmac(key: &Hmac<Sha256>) -> [u8; 32] {
    let mut key = key.clone();
    key.update(BODY);
    key.finalize().into_bytes().into()
}

/// The headers that GitHub sends.
fn headers() -> HeaderMap {
    let signature = hex::encode(hmac(&Hmac::new_from_slice(SECRET.as_bytes()).unwrap()));
    let signature = format!("sha256={signature}");
    [
        ("host", "weir.example"),
        ("user-agent", "GitHub-Hookshot/044aadd"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-github-event", "push"),
        ("x-github-hook-id", "292430182"),
        ("x-github-hook-installation-target-id", "79929171"),
        ("x-github-hook-installation-target-type", "repository"),
        ("x-hub-signature", "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6"),
        ("x-hub-signature-256", &signature),
    ]
    .into_iter()
    .map(|(name, value)| {
        (
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        )
    })
    .collect()
}

fn accepted(source: &Source, headers: &HeaderMap, body: Bytes) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let delivery = verify(&source.scheme, headers, body, now).unwrap();
    match webhook(source, &delivery).unwrap() {
        Accepted::Event(event) => event,
        Accepted::Answer(_) => panic!("no event"),
    }
}

async fn door(State(app): State<Arc<App>>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path().strip_prefix("/webhooks/").unwrap_or_default();
    let source = &app.sources[name];
    let body = app.bodies.read(&parts.headers, body).await.unwrap();
    black_box(accepted(source, &parts.headers, body.bytes.clone()));
    StatusCode::ACCEPTED
}

/// The result of what never waits: its body is there already.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Microseconds a call takes, the median of many samples and their 5th and 95th percentiles.
fn measure(samples: usize, calls: usize, mut call: impl FnMut()) -> [f64; 3] {
    (0..calls).for_each(|_| call());
    let mut took: Vec<f64> = (0..samples)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_secs_f64() * 1e6 / calls as f64
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    [at(0.5), at(0.05), at(0.95)]
}

fn argument(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |text| text.parse().unwrap())
}

fn main() {
    // Bodies are read under a timeout, which asks for a runtime though it never rings.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let (samples, calls) = (argument("--samples", 50).max(1), argument("--calls", 2000).max(1));
    let (headers, body) = (headers(), Bytes::from_static(BODY));
    let app = Arc::new(App {
        sources: sources(),
        bodies: Bodies::new(&Bounds::default()),
    });
    let mut router = Router::new()
        .route("/webhooks/{source}", post(door))
        .with_state(Arc::clone(&app));
    let mut routed = |path: &str| {
        let mut request = Request::new(Body::from(body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = headers.clone();
        let response = now(router.call(request)).unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
    };
    let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let (github, picked) = (&app.sources["github"], &app.sources["picked"]);
    let bytes = BODY.len();
    println!(
        "{bytes} bytes, median of {samples} samples of {calls} calls, with their 5th and 95th percentiles\n"
    );
    println!("| a webhook of {bytes} bytes | microseconds a call | 5 % | 95 % |\n|---|---|---|---|");
    let row = |what: &str, [median, low, high]: [f64; 3]| {
        println!("| {what} | {median:.1} | {low:.1} | {high:.1} |");
    };
    let measured = |call: &mut dyn FnMut()| measure(samples, calls, call);
    row(
        "bare HMAC-SHA256",
        measured(&mut || {
            black_box(hmac(&key));
        }),
    );
    row(
        "signature and event",
        measured(&mut || {
            black_box(accepted(github, &headers, body.clone()));
        }),
    );
    row(
        "route, signature and event",
        measured(&mut || routed("/webhooks/github")),
    );
    row(
        "route, signature and event with tenant and key from elsewhere",
        measured(&mut || routed("/webhooks/picked")),
    );
    row(
        "signature, event, encoding and compressing",
        measured(&mut || {
            let event = accepted(github, &headers, body.clone());
            black_box(Outgoing::new(event, &picked.service, None));
        }),
    );
}
