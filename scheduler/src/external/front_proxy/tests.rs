use rcgen::{CertificateParams, DnType, KeyPair};

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
