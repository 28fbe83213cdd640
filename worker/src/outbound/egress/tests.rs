use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// A service whose API is at home, and one exception.
fn egress() -> Egress {
    let allowed = ["10.1.0.0/16", "Build.Internal", "192.168.7.7", "fd12::/16"];
    let allowed: Vec<_> = allowed.iter().map(|text| text.parse().unwrap()).collect();
    Egress::new(
        &allowed,
        [
            "http://127.0.0.1:9000/api",
            "https://api.example",
            "http://[::1]:9000",
        ],
    )
}

#[test]
fn urls_that_lead_inside_however_they_are_written() {
    let egress = egress();
    for bad in [
        "http://127.0.0.1/",
        "http://127.0.0.1:6379/",
        "http://127.0.0.1:9001/api",
        "https://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://0/",
        "http://１２７.0.0.1/",
        "http://127.0.0.2:9000/",
        "http://user:password@10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]:9000/",
        "http://[64:ff9b::10.0.0.1]/",
        "http://[fd00:ec2::254]/",
        "http://[fd13::1]/",
        "http://10.2.0.1/",
        "http://api.example/",
        "https://api.example:8443/",
        "https://API.example.:8443/",
        "ftp://8.8.8.8/",
        "file:///etc/passwd",
        "data:text/plain,x",
        "unix:/run/x",
    ] {
        assert!(egress.check(&url(bad)).is_err(), "{bad}");
    }
    for good in [
        "http://127.0.0.1:9000/other",
        "http://[::1]:9000/",
        "https://api.example/x",
        "https://API.Example.:443/x",
        "https://8.8.8.8/",
        "https://[2606:50c0:8000::153]/",
        "http://10.1.2.3:8080/",
        "http://[::ffff:10.1.2.3]/",
        "http://192.168.7.7/",
        "http://[fd12::1]/",
        "http://build.internal/",
        "https://elsewhere.example:8443/",
    ] {
        assert_eq!(egress.check(&url(good)), Ok(()), "{good}");
    }
}

#[test]
fn names_are_judged_by_their_addresses() {
    let egress = egress();
    let at = |ips: &[&str]| -> Vec<SocketAddr> {
        let address = |ip: &&str| SocketAddr::new(ip.parse().unwrap(), 0);
        ips.iter().map(address).collect()
    };
    for (name, ips, left) in [
        ("evil.example", &["127.0.0.1"][..], 0),
        ("evil.example", &["10.0.0.1", "::1", "fe80::1"], 0),
        // Only what may be called is connected to.
        ("evil.example", &["8.8.8.8", "127.0.0.1"], 1),
        ("evil.example", &["::ffff:169.254.169.254"], 0),
        ("evil.example", &[], 0),
        ("fine.example", &["8.8.8.8", "2606:50c0:8000::153"], 2),
        ("inner.example", &["10.1.7.7"], 1),
        ("api.example", &["127.0.0.1"], 1),
        ("API.example.", &["10.9.9.9"], 1),
        ("build.internal", &["172.16.0.9"], 1),
        ("not.build.internal", &["172.16.0.9"], 0),
    ] {
        let may = egress.of_name(name, at(ips)).map_or(0, |may| may.len());
        assert_eq!(may, left, "{name} {ips:?}");
    }
}

#[test]
fn entries_of_the_setting() {
    for (text, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("[fd00::1]", "fd00::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("Host.Internal.", "host.internal"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(text.parse::<Allowed>().unwrap().to_string(), shown, "{text}");
    }
    for bad in [
        "",
        "10.0.0.0/33",
        "*.internal",
        "http://host",
        "host:80",
        "a b",
        "user@host",
        "10.0.0.0/8/8",
    ] {
        assert!(bad.parse::<Allowed>().is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_name_of_this_machine_is_not_connected_to() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let outbound = super::super::Outbound::new(1, false, Egress::default()).unwrap();
    for target in [
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.1:{port}/"),
    ] {
        let request = outbound.client().get(&target).build().unwrap();
        let failure = outbound.call(request, "test").await.unwrap_err();
        assert_eq!((failure.class(), &*failure.reason().code), ("permanent", REFUSED));
        assert!(failure.reason().detail.contains(SETTING), "{failure}");
    }
    let nobody = tokio::time::timeout(std::time::Duration::ZERO, listener.accept());
    assert!(nobody.await.is_err(), "nothing was connected");
}
