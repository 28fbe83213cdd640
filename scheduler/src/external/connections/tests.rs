#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::extract::Request;
use axum::http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::DropGuard;

use super::super::front_proxy::FrontProxy;
use super::*;

/// Far longer than anything here takes.
const LATEST: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_hours(1);

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Authority(CertificateDer<'static>, String, Issuer<'static, KeyPair>);

impl Authority {
    fn new(above: Option<&Self>) -> Self {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, key.serialize_pem());
        let own = match above {
            None => params.self_signed(&key),
            Some(above) => params.signed_by(&key, &above.2),
        };
        let own = own.unwrap();
        Self(own.der().clone(), own.pem(), Issuer::new(params, key))
    }

    fn client(&self, names: usize) -> Chain {
        let names: Vec<_> = (0..names).map(|name| format!("name-{name}.example")).collect();
        let (mut params, key) = (
            CertificateParams::new(names).unwrap(),
            KeyPair::generate().unwrap(),
        );
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let own = params.signed_by(&key, &self.2).unwrap();
        (vec![own.der().clone()], key.into())
    }

    fn proxy(&self) -> Arc<FrontProxy> {
        let data = [
            ("client-ca-file", self.1.as_str()),
            ("allowed-names", "[]"),
            ("username-headers", r#"["X-Remote-User"]"#),
        ];
        let data = data.map(|(key, value)| (format!("requestheader-{key}"), value.to_owned()));
        Arc::new(FrontProxy::read(&BTreeMap::from(data)).unwrap())
    }
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

struct Stage {
    address: SocketAddr,
    proxy: Arc<Mutex<Arc<FrontProxy>>>,
    _stop: DropGuard,
}

impl Stage {
    /// `/prove` asks whether it is the aggregator, as everything does that only the aggregator is answered.
    async fn new(front: &Authority, strangers: Strangers) -> Self {
        shared::lifecycle::install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (chain, key) = Authority::new(None).client(1);
        let provider = rustls::crypto::ring::default_provider();
        let shown = Shown(Arc::new(CertifiedKey::from_der(chain, key, &provider).unwrap()));
        let proxy = Arc::new(Mutex::new(front.proxy()));
        let known = Arc::clone(&proxy);
        let router = Router::new().fallback(
            move |Extension(peer): Extension<Arc<Peer>>, request: Request| async move {
                let proxy = Arc::clone(&known.lock().unwrap());
                let asked = request.uri().path() == "/prove";
                if asked && peer.prove(&proxy, UnixTime::now()).is_err() {
                    return StatusCode::UNAUTHORIZED;
                }
                StatusCode::OK
            },
        );
        let stop = CancellationToken::new();
        let listener = Arc::new(listener);
        let serve = serve(listener, Arc::new(shown), router, strangers, stop.clone(), LATEST);
        tokio::spawn(serve);
        Self {
            address,
            proxy,
            _stop: stop.drop_guard(),
        }
    }

    async fn connect(&self, chain: Option<&Chain>) -> std::io::Result<TlsStream<TcpStream>> {
        let config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = match chain {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .unwrap(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect("scheduler".try_into().unwrap(), stream).await
    }

    /// A connection and the status of what it asked first.
    async fn asks(&self, chain: Option<&Chain>, path: &str) -> (TlsStream<TcpStream>, Option<u16>) {
        let connected = timeout(LATEST, self.connect(chain)).await;
        let mut stream = connected.expect("a place").unwrap();
        let status = ask(&mut stream, path).await;
        (stream, status)
    }
}

/// The status; `None` where the connection is closed.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> Option<u16> {
    let asked = async {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.ok()?);
        }
        String::from_utf8(answer).unwrap().split(' ').nth(1)?.parse().ok()
    };
    timeout(LATEST, asked).await.unwrap()
}

/// Asks on and on until the connection is closed.
async fn closed(stream: &mut TlsStream<TcpStream>, path: &str) {
    let asks = async {
        while ask(stream, path).await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LATEST, asks).await.expect("closed");
}

/// Takes any certificate of the server's.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn the_aggregator_takes_no_place_of_strangers_once_it_is_known() {
    let front = Authority::new(None);
    let one = Strangers {
        connections: 1,
        lifetime: HOUR,
    };
    let stage = Stage::new(&front, one).await;
    let own = front.client(1);
    let mut held = Vec::new();
    for _ in 0..5 {
        let (stream, status) = stage.asks(Some(&own), "/prove").await;
        assert_eq!(status, Some(200));
        held.push(stream);
    }
    let (stranger, status) = stage.asks(None, "/livez").await;
    assert_eq!(status, Some(200));
    // All of them are still open, and the only place is taken by another.
    for stream in &mut held {
        assert_eq!(ask(stream, "/prove").await, Some(200));
    }
    drop(stranger);
    assert_eq!(stage.asks(None, "/prove").await.1, Some(401));
}

#[tokio::test]
async fn strangers_are_sent_away_whatever_they_ask_and_show() {
    let (front, other) = (Authority::new(None), Authority::new(None));
    let short = Strangers {
        connections: 8,
        lifetime: Duration::from_secs(1),
    };
    let stage = Stage::new(&front, short).await;
    let (own, others) = (front.client(1), other.client(1));
    let mut aggregator = loop {
        // Unless it is not quick enough itself.
        let (stream, status) = stage.asks(Some(&own), "/prove").await;
        if status == Some(200) {
            break stream;
        }
    };
    for (chain, path) in [
        (None, "/livez"),
        (None, "/prove"),
        (Some(&others), "/prove"),
        (Some(&own), "/livez"),
    ] {
        let (mut stream, _) = stage.asks(chain, path).await;
        closed(&mut stream, path).await;
    }
    let mut silent = stage.connect(Some(&others)).await.unwrap();
    let mut said = Vec::new();
    let _ = timeout(LATEST, silent.read_to_end(&mut said)).await.unwrap();
    assert!(said.is_empty());
    // Which is older than all of them.
    assert_eq!(ask(&mut aggregator, "/prove").await, Some(200));
    // It is a stranger, too, as soon as another authority is in force.
    *stage.proxy.lock().unwrap() = other.proxy();
    assert_eq!(ask(&mut aggregator, "/prove").await, Some(401));
    closed(&mut aggregator, "/prove").await;
}

#[tokio::test]
async fn chains_that_take_long_to_verify_are_refused_in_the_handshake() {
    let front = Authority::new(None);
    let stage = Stage::new(&front, STRANGERS).await;
    // One authority below the other, the last one first.
    let mut authorities = vec![Authority::new(Some(&front))];
    while authorities.len() < MOST_BETWEEN {
        authorities.insert(0, Authority::new(authorities.first()));
    }
    let (mut chain, key) = authorities[0].client(1);
    chain.extend(authorities.iter().map(|authority| authority.0.clone()));
    let longest = (chain, key);
    assert_eq!(stage.asks(Some(&longest), "/prove").await.1, Some(200));
    let mut longer = longest;
    longer.0.push(front.0.clone());
    let largest = front.client(700);
    assert!(largest.0[0].len() < MOST_BYTES, "{}", largest.0[0].len());
    assert_eq!(stage.asks(Some(&largest), "/prove").await.1, Some(200));
    let mut larger = largest;
    while larger.0.iter().map(|own| own.len()).sum::<usize>() <= MOST_BYTES {
        larger.0.push(front.client(100).0.remove(0));
    }
    assert!(larger.0.len() <= 1 + MOST_BETWEEN);
    for refused in [longer, larger] {
        let status = match timeout(LATEST, stage.connect(Some(&refused))).await.unwrap() {
            // With TLS 1.3 a client hears of it when it reads.
            Ok(mut stream) => ask(&mut stream, "/livez").await,
            Err(_) => None,
        };
        assert_eq!(status, None);
    }
}
