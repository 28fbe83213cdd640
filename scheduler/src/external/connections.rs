//! TLS connections: a bounded number, HTTP/1 and HTTP/2, and their end in order. Client certificates are asked for and
//! their keys proven here; whose they are is judged for every request, by what the cluster says then.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use shared::serve::{Bounds, accept, builder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::front_proxy::Peer;

/// The API servers of a cluster hold a few connections each, and every probe one for a moment. The aggregator closes an
/// idle one after 90 s. Each group of a user is a header of its own.
const BOUNDS: Bounds = Bounds {
    connections: 512,
    silence: Duration::from_secs(120),
    head: 256 * 1024,
    headers: 2_000,
    streams: 250,
};
/// Longest time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long whoever shows no certificate may be silent: probes ask at once, and nobody else is to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
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
    let places = BOUNDS.places();
    let graceful = GracefulShutdown::new();
    let server = Arc::new(builder(BOUNDS));
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
    let patience = if peer.is_empty() { PATIENCE } else { BOUNDS.silence };
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
