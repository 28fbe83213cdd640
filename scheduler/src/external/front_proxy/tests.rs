use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::ClientCertVerified;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::*;

#[test]
fn keys_of_extras_are_decoded_where_they_can_be() {
    for (key, decoded) in [
        ("scopes", "scopes"),
        ("example.com%2fteam", "example.com/team"),
        ("%e2%82%ac", "€"),
        ("100%", "100%"),
        ("%4", "%4"),
        ("%zz", "%zz"),
        ("%+1", "%+1"),
        ("%ff", "%ff"),
    ] {
        assert_eq!(unescaped(key), decoded);
    }
}

#[test]
fn the_last_common_name_counts() {
    let named = |names: &[&str]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "front-proxy-client");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        common_name(certificate.der())
    };
    assert_eq!(named(&[]), None);
    assert_eq!(
        named(&["front-proxy-client"]).as_deref(),
        Some("front-proxy-client")
    );
    assert_eq!(common_name(&CertificateDer::from(vec![0x30, 0x80])), None);
}

#[test]
fn somebody_known_is_in_the_group_of_those_who_are() {
    let (params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    let ca = params.self_signed(&key).unwrap();
    let data = [
        (CA, ca.pem()),
        (NAMES, "[]".into()),
        (USERNAME_HEADERS, r#"["X-First", "X-Second"]"#.into()),
        (GROUP_HEADERS, r#"["X-Group"]"#.into()),
    ];
    let data = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let proxy = FrontProxy::read(&data).unwrap();
    assert!(proxy.takes_any_name());
    let user = |headers: &[(&'static str, &[u8])]| {
        let value = |value: &[u8]| HeaderValue::from_bytes(value).unwrap();
        let headers = headers
            .iter()
            .map(|(name, text)| (HeaderName::from_static(name), value(text)));
        proxy.user(&headers.collect())
    };
    let named = user(&[
        ("x-first", b""),
        ("x-second", "jürgen".as_bytes()),
        ("x-extra-a", b"b"),
    ])
    .unwrap();
    assert_eq!(
        (named.name.as_str(), named.groups, named.extra.len()),
        ("jürgen", vec![AUTHENTICATED.to_owned()], 0)
    );
    let nobody = user(&[
        ("x-first", ANONYMOUS.as_bytes()),
        ("x-group", UNAUTHENTICATED.as_bytes()),
    ])
    .unwrap();
    assert_eq!(nobody.groups, [UNAUTHENTICATED]);
    let twice = user(&[("x-first", b"a"), ("x-group", AUTHENTICATED.as_bytes())]).unwrap();
    assert_eq!(twice.groups, [AUTHENTICATED]);
    assert_eq!(user(&[("x-first", b"\xff")]), Err(Stranger::Unreadable));
    assert_eq!(
        user(&[("x-first", b"a"), ("x-group", b"\xff")]),
        Err(Stranger::Unreadable)
    );
    assert_eq!(user(&[]), Err(Stranger::NoUser));
}

/// Counts how often somebody is verified.
#[derive(Debug)]
struct Counted(Arc<dyn ClientCertVerifier>, AtomicUsize);

impl ClientCertVerifier for Counted {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.verify_client_cert(own, between, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[test]
fn a_certificate_is_verified_once_for_what_the_cluster_says_and_again_when_its_time_is_over() {
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let signed = || {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&key, &issuer).unwrap().der().clone()
    };
    let data = [
        (CA, ca.pem()),
        (NAMES, "[]".into()),
        (USERNAME_HEADERS, r#"["X-User"]"#.into()),
    ];
    let data = BTreeMap::from(data.map(|(key, value)| (key.to_owned(), value)));
    let proxy = || {
        let mut proxy = FrontProxy::read(&data).unwrap();
        let counted = Arc::new(Counted(Arc::clone(&proxy.ca), AtomicUsize::new(0)));
        proxy.ca = Arc::clone(&counted) as _;
        (Arc::new(proxy), counted)
    };
    let year = |year: u64| UnixTime::since_unix_epoch(Duration::from_hours((year - 1970) * 8_766 + 24));
    let ((first, verified), (second, again)) = (proxy(), proxy());
    let count = |counted: &Counted| counted.1.load(Ordering::SeqCst);
    let peer = Peer::new(&[signed()]);
    let proven = peer.proven();
    for at in 2025..2029 {
        assert_eq!(peer.prove(&first, year(at)), Ok(()));
        assert!(*proven.borrow());
    }
    assert_eq!(count(&verified), 1);
    assert_eq!(peer.prove(&second, year(2029)), Ok(()));
    assert_eq!((count(&verified), count(&again)), (1, 1));
    assert!(matches!(
        peer.prove(&second, year(2030)),
        Err(Stranger::WrongCa(_))
    ));
    assert!(!*proven.borrow());
    assert!(peer.prove(&second, year(2030)).is_err());
    assert_eq!((count(&verified), count(&again)), (1, 2));

    // Strangers, too, cost it once.
    let stranger = CertificateParams::default()
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap();
    let stranger = Peer::new(&[stranger.der().clone()]);
    for _ in 0..9 {
        assert!(matches!(
            stranger.prove(&first, year(2029)),
            Err(Stranger::WrongCa(_))
        ));
    }
    assert_eq!(count(&verified), 2);
    assert_eq!(
        Peer::new(&[]).prove(&first, year(2029)),
        Err(Stranger::NoCertificate)
    );
}
