//! TLS connections: a bounded number, HTTP/1 and HTTP/2, and their end in order. Client certificates are asked for and
//! their keys proven here; whose they are is judged when something is asked, by what the cluster says then.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use shared::serve::{Bounds, accept, all_ended, builder, connection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::front_proxy::Peer;

/// The API servers of a cluster hold a few connections each. The aggregator closes an idle one after 90 s. Each group of a
/// user is a header of its own.
const BOUNDS: Bounds = Bounds {
    connections: 512,
    silence: Duration::from_secs(120),
    head: 256 * 1024,
    headers: 2_000,
    streams: 250,
};
/// What whoever is not known yet may have. Every probe is one of them for a moment.
pub const STRANGERS: Strangers = Strangers {
    connections: 64,
    lifetime: Duration::from_secs(15),
};
/// Longest time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most certificates between a client's own and the root, and most bytes of all that it shows. Finding a path through
/// them takes time, which grows with each that could stand for another.
const MOST_BETWEEN: usize = 4;
const MOST_BYTES: usize = 16 * 1024;

/// What connections may have from which nothing was asked yet that the aggregator would ask. The others have places of
/// their own, which nobody else can take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strangers {
    /// Most of them at once; what is above waits in the kernel's backlog.
    pub connections: usize,
    /// How long each of them is open, whatever it asks.
    pub lifetime: Duration,
}

/// Serves connections until `stop`, then lets requests in flight finish for `grace` at most. Each request carries whoever
/// sends it as an extension, an [`Arc`] of [`Peer`].
///
/// # Errors
/// TLS cannot be spoken.
pub async fn serve(
    listener: Arc<TcpListener>,
    certificate: Arc<dyn ResolvesServerCert>,
    router: Router,
    strangers: Strangers,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), rustls::Error> {
    let server = Arc::new(Server {
        acceptor: TlsAcceptor::from(Arc::new(tls(certificate)?)),
        builder: builder(BOUNDS),
        router,
        strangers,
        unproven: Arc::new(Semaphore::new(strangers.connections)),
        proven: BOUNDS.places(),
        stop,
    });
    let mut connections = JoinSet::new();
    let stop = &server.stop;
    while let Some((stream, place)) = stop
        .run_until_cancelled(accept(&listener, &server.unproven))
        .await
    {
        while connections.try_join_next().is_some() {}
        // Answers are small and must not wait for the peer's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let server = Arc::clone(&server);
        connections.spawn(async move {
            if let Err(error) = server.connection(stream, place).await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    all_ended(connections, grace).await;
    Ok(())
}

struct Server {
    acceptor: TlsAcceptor,
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    strangers: Strangers,
    /// Places of those who are not known, or not any more.
    unproven: Arc<Semaphore>,
    /// Places of those of whom it was found that they are the aggregator when that was asked last.
    proven: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Server {
    async fn connection(&self, stream: TcpStream, mut place: OwnedSemaphorePermit) -> Result<(), String> {
        let until = Instant::now() + self.strangers.lifetime;
        let handshake = timeout(HANDSHAKE, self.acceptor.accept(stream));
        let stream = match self.stop.run_until_cancelled(handshake).await {
            None => return Ok(()),
            Some(Err(_)) => return Err("no TLS handshake in time".into()),
            Some(Ok(shaken)) => shaken.map_err(|error| error.to_string())?,
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = Arc::new(Peer::new(shown));
        let outstayed = pin!(self.outstayed(&mut place, peer.proven(), until));
        let router = self.router.clone().layer(Extension(peer));
        connection(
            &self.builder,
            stream,
            router,
            BOUNDS.silence,
            &self.stop,
            outstayed,
        )
        .await
    }

    /// Keeps a connection in the place that it is to have, and returns when its time is over.
    async fn outstayed(
        &self,
        place: &mut OwnedSemaphorePermit,
        mut proven: watch::Receiver<bool>,
        mut until: Instant,
    ) {
        let acquire = |places: &Arc<Semaphore>| Arc::clone(places).acquire_owned();
        loop {
            let place_of_its_own = async {
                // The peer is there for as long as its connection is, and places are never closed.
                proven.wait_for(|proven| *proven).await.ok()?;
                acquire(&self.proven).await.ok()
            };
            match timeout_at(until, place_of_its_own).await {
                Ok(Some(own)) => *place = own,
                Ok(None) | Err(_) => return,
            }
            if proven.wait_for(|proven| !*proven).await.is_err() {
                return;
            }
            until = Instant::now() + self.strangers.lifetime;
            match Arc::clone(&self.unproven).try_acquire_owned() {
                Ok(back) => *place = back,
                Err(_) => return,
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

/// Takes any client certificate of a bounded size, or none, when whoever shows it has its key. A certificate of a wrong CA is answered
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
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bytes = between.iter().map(|certificate| certificate.len()).sum::<usize>() + own.len();
        if between.len() > MOST_BETWEEN || bytes > MOST_BYTES {
            return Err(rustls::Error::General(format!(
                "a client shows {} certificates in {bytes} bytes",
                between.len() + 1
            )));
        }
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

#[cfg(test)]
mod tests;
