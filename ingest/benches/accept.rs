//! How many events ingest accepts, against a bare axum route that does the same publish and ack, in the same run:
//! `cargo bench -p ingest --bench accept`. Arguments: `-- --seconds 5 --rounds 3 --connections 64`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use hmac::{Hmac, KeyInit, Mac};
use ingest::config::Config;
use sha2::{Digest, Sha256};
use shared::config::Reader;
use shared::event::EventId;
use shared::servers::Servers;
use shared::telemetry::{self, LogFormat};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "bench";
const SECRET: &str = "bench-secret";
/// A real webhook of GitHub, 11 KB.
const WEBHOOK: &[u8] = include_bytes!("../tests/fixtures/github/issues.opened.json");

/// The floor: the body goes to the stream under a fresh id, and 202 follows the ack.
async fn bare(State(js): State<jetstream::Context>, body: Bytes) -> StatusCode {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", EventId::generate().as_str());
    match js
        .publish_with_headers("events.github", headers, body)
        .await
        .unwrap()
        .await
    {
        Ok(_) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// One keep-alive connection that asks as fast as it is answered.
async fn hammer(
    address: SocketAddr,
    request: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
    until: Instant,
    done: Arc<AtomicU64>,
) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 4096];
    while Instant::now() < until {
        stream.write_all(&request()).await.unwrap();
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "the server closed the connection");
            filled += read;
            let text = std::str::from_utf8(&buffer[..filled]).unwrap();
            let Some(head) = text.find("\r\n\r\n") else {
                continue;
            };
            let length = text[..head].lines().find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if filled >= head + 4 + length.unwrap_or(0) {
                assert!(text.starts_with("HTTP/1.1 202"), "{text}");
                break;
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn measure(
    address: SocketAddr,
    connections: usize,
    seconds: u64,
    request: impl Fn() -> Vec<u8> + Send + Sync + 'static,
) -> f64 {
    let request: Arc<dyn Fn() -> Vec<u8> + Send + Sync> = Arc::new(request);
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let until = start + Duration::from_secs(seconds);
    let hammers: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(hammer(address, request.clone(), until, done.clone())))
        .collect();
    for one in hammers {
        one.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

fn post_request(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A webhook as GitHub sends it, its delivery id a new one each time.
fn webhook_request() -> impl Fn() -> Vec<u8> + Send + Sync {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(WEBHOOK);
    let signature = hex::encode(mac.finalize().into_bytes());
    move || {
        let delivery = EventId::generate();
        let headers = format!(
            "content-type: application/json\r\nx-github-event: issues\r\nx-github-delivery: {delivery}\r\nx-hub-signature-256: sha256={signature}\r\n"
        );
        post_request("/webhooks/github", &headers, WEBHOOK)
    }
}

/// So that no run meets what another has left, or the stream's cap.
async fn empty(js: &jetstream::Context) {
    js.get_stream("WEIR_github").await.unwrap().purge().await.unwrap();
}

fn argument(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |text| text.parse().unwrap())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[tokio::main]
async fn main() {
    let (seconds, rounds) = (argument("--seconds", 5) as u64, argument("--rounds", 3));
    let connections = argument("--connections", 64);
    let telemetry = telemetry::init("weir-ingest", "warn", LogFormat::Json).unwrap();
    let servers = Servers::start_scratch().await.unwrap();
    let env: BTreeMap<String, String> = [
        ("WEIR_NATS_URL", servers.nats.url()),
        ("WEIR_SERVICES", "github".into()),
        (
            "WEIR_TOKENS",
            format!("bench:{}:*", hex::encode(Sha256::digest(TOKEN))),
        ),
        ("WEIR_SOURCES", "github".into()),
        ("WEIR_SOURCE_GITHUB_KIND", "github".into()),
        ("WEIR_SOURCE_GITHUB_SECRETS", SECRET.into()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let mut reader = Reader::new(&env);
    let config = Config::read(&mut reader);
    let (config, _) = reader.finish(&Config::OWN, config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(ingest::run(config, listener, shutdown.clone()));

    let js = jetstream::new(async_nats::connect(servers.nats.url()).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .tap_io(|io| drop(io.set_nodelay(true)));
    let floor = axum::serve::Listener::local_addr(&listener).unwrap();
    let route = Router::new().route("/", post(bare)).with_state(js.clone());
    let bare_server = tokio::spawn(async move { axum::serve(listener, route).await });

    while js.get_stream("WEIR_github").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let small = br#"{"v":1,"type":"order.paid","data":{"order":4711,"currency":"EUR","amount":1999,"note":"a small event"}}"#;
    let api = format!("content-type: application/json\r\nauthorization: Bearer {TOKEN}\r\n");
    let (mut small_floor, mut small_ours, mut large_floor, mut large_ours) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds {
        // In turn, so that a machine that drifts drifts for all.
        let request = post_request("/", "content-type: application/json\r\n", small);
        small_floor.push(measure(floor, connections, seconds, move || request.clone()).await);
        empty(&js).await;
        let request = post_request("/v1/events/github", &api, small);
        small_ours.push(measure(ours, connections, seconds, move || request.clone()).await);
        empty(&js).await;
        let request = post_request("/", "content-type: application/json\r\n", WEBHOOK);
        large_floor.push(measure(floor, connections, seconds, move || request.clone()).await);
        empty(&js).await;
        large_ours.push(measure(ours, connections, seconds, webhook_request()).await);
        empty(&js).await;
        let last = |figures: &[f64]| figures.last().copied().unwrap_or_default();
        println!(
            "round {round}: event {:.0}/s of {:.0}/s; webhook {:.0}/s of {:.0}/s",
            last(&small_ours),
            last(&small_floor),
            last(&large_ours),
            last(&large_floor)
        );
    }
    println!("\n{connections} connections, {seconds} s each, median of {rounds} rounds\n");
    println!("| accepted | bare axum, publish, ack | weir | ratio |\n|---|---|---|---|");
    let (floor, ours) = (median(small_floor), median(small_ours));
    println!(
        "| event of 100 bytes, token | {floor:.0}/s | {ours:.0}/s | {:.2} |",
        ours / floor
    );
    let (floor, ours) = (median(large_floor), median(large_ours));
    println!(
        "| webhook of {} bytes, signature | {floor:.0}/s | {ours:.0}/s | {:.2} |",
        WEBHOOK.len(),
        ours / floor
    );
    shutdown.cancel();
    running.await.unwrap().unwrap();
    bare_server.abort();
    telemetry.shutdown(Duration::from_secs(1)).await;
}
