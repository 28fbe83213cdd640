//! TLS connections: a bounded number, HTTP/1 and HTTP/2, and their end in order. Client certificates are asked for and
//! their keys proven here; whose they are is judged for every request, by what the cluster says then.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::front_proxy::Peer;

/// Most connections at once. The API servers of a cluster hold a few each, and every probe one for a moment.
const MOST_CONNECTIONS: usize = 512;
/// Longest time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be silent, and how long the head of a request may take. Above the 90 s after which the
/// aggregator closes an idle connection, so that it does that first and no request meets a closed one.
const SILENCE: Duration = Duration::from_secs(120);
/// The same for whoever shows no certificate: probes, which ask at once, and nobody else who is to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a request's head: each group of a user is a header of its own.
const MAX_HEAD: usize = 256 * 1024;
/// Most headers of an HTTP/1 request.
const MAX_HEADERS: usize = 2_000;
/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;
/// Pause after the listener failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `stop`, then lets requests in flight finish for `grace` at most. Each request carries the
/// certificates of whoever sends it as an extension, [`Peer`].
pub async fn serve(
    listener: Arc<TcpListener>,
    certificate: Arc<dyn ResolvesServerCert>,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(certificate)?));
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let server = Arc::new(builder());
    let mut connections = JoinSet::new();
    while let Some((stream, place)) = stop.run_until_cancelled(accept(&listener, &places)).await {
        while connections.try_join_next().is_some() {}
        // Answers are small and must not wait for the peer's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let (acceptor, server, router) = (acceptor.clone(), Arc::clone(&server), router.clone());
        let (watcher, stop) = (graceful.watcher(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let connection = connection(&acceptor, &server, stream, router, watcher, &stop);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    let _ = tokio::time::timeout_at(Instant::now() + grace, graceful.shutdown()).await;
    Ok(())
}

async fn connection(
    acceptor: &TlsAcceptor,
    server: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    watcher: Watcher,
    stop: &CancellationToken,
) -> Result<(), String> {
    let handshake = timeout(HANDSHAKE, acceptor.accept(stream));
    let stream = match stop.run_until_cancelled(handshake).await {
        None => return Ok(()),
        Some(Err(_)) => return Err("no TLS handshake in time".into()),
        Some(Ok(shaken)) => shaken.map_err(|error| error.to_string())?,
    };
    let peer: Peer = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
    let patience = if peer.is_empty() { PATIENCE } else { SILENCE };
    // Told by requests and not by bytes: neither the wait for the first one nor a peer that only answers pings has a
    // limit in the library.
    let (asked, mut asks) = watch::channel(0_u64);
    let tell = middleware::from_fn(move |request: Request, next: Next| {
        let asked = asked.clone();
        async move {
            asked.send_modify(|asks| *asks += 1);
            let answer = next.run(request).await;
            asked.send_modify(|asks| *asks += 1);
            answer
        }
    });
    let service = TowerToHyperService::new(router.layer(Extension(peer)).layer(tell));
    let served = server
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let mut served = pin!(watcher.watch(served));
    loop {
        tokio::select! {
            ended = &mut served => return ended.map_err(|error| error.to_string()),
            quiet = timeout(patience, asks.changed()) => if quiet.is_err() {
                return Err("nothing was asked for too long".into());
            }
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    builder
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        // The place first: what is not accepted waits in the kernel's backlog, and costs nothing here.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn tls(certificate: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let asked = Arc::new(Asked(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(asked)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes any client certificate, or none, when whoever shows it has its key. A certificate of a wrong CA is answered
/// with a status that says so and not with the end of the connection, and the CA may change under open connections.
#[derive(Debug)]
struct Asked(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Asked {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: clients would hold back a certificate of a CA that is not among them, and the CA may be another by now.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
