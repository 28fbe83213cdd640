//! The settings of the API, right and wrong.

use std::collections::BTreeMap;
use std::process::Command;

use scheduler::Config;
use shared::config::{Problems, Reader};

use crate::authority::Authority;

fn read(settings: &[(&str, &str)]) -> Result<(Config, String), Problems> {
    let own = |(name, value): &(&str, &str)| (format!("WEIR_SCHEDULER_{name}"), (*value).to_owned());
    let environment: BTreeMap<_, _> = settings.iter().map(own).collect();
    let mut reader = Reader::new(&environment);
    let config = Config::read(&mut reader);
    let (config, shown) = reader.finish(&Config::OWN, config)?;
    Ok((config, shown.to_string()))
}

#[test]
fn the_api_is_off_unless_it_is_given_an_address_and_a_certificate() {
    assert_eq!(read(&[]).unwrap().0.external, None);
    let pair = [
        ("TLS_CERT_FILE", "/tls/tls.crt"),
        ("TLS_KEY_FILE", "/tls/tls.key"),
    ];
    let Problems(lines) = read(&pair).unwrap_err();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[1].starts_with("WEIR_SCHEDULER_TLS_KEY_FILE is without effect"),
        "{lines:?}"
    );
    let all = [("METRICS_LISTEN", "0.0.0.0:6443"), pair[0], pair[1]];
    let (config, shown) = read(&all).unwrap();
    let external = config.external.unwrap();
    assert_eq!(external.listen.port(), 6443);
    assert_eq!(
        (external.files.certificate.to_str(), external.files.key.to_str()),
        (Some("/tls/tls.crt"), Some("/tls/tls.key"))
    );
    assert!(
        shown.contains("WEIR_SCHEDULER_METRICS_LISTEN=0.0.0.0:6443\n"),
        "{shown}"
    );
    assert!(
        shown.contains("WEIR_SCHEDULER_TLS_KEY_FILE=/tls/tls.key\n"),
        "{shown}"
    );

    let Problems(lines) = read(&all[..1]).unwrap_err();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("WEIR_SCHEDULER_TLS_CERT_FILE is missing"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("WEIR_SCHEDULER_TLS_KEY_FILE is missing"),
        "{lines:?}"
    );
    for wrong in ["6443", "localhost:6443", "0.0.0.0", ":6443", "0.0.0.0:66443"] {
        let Problems(lines) = read(&[("METRICS_LISTEN", wrong), pair[0], pair[1]]).unwrap_err();
        assert!(
            lines[0].starts_with("WEIR_SCHEDULER_METRICS_LISTEN cannot be read: must be an address"),
            "{lines:?}"
        );
    }
}

#[test]
fn files_that_cannot_serve_are_told_all_at_once_and_as_wrong_settings() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let run = |certificate: &str, key: &str, arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_weir-scheduler"))
            .args(arguments)
            .env("WEIR_SCHEDULER_METRICS_LISTEN", "127.0.0.1:1")
            .env("WEIR_SCHEDULER_TLS_CERT_FILE", path(certificate))
            .env("WEIR_SCHEDULER_TLS_KEY_FILE", path(key))
            .output()
            .unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let authority = Authority::new("serving");
    let [pair, other] = ["a", "b"].map(|name| authority.server(name));
    std::fs::write(path("tls.crt"), &pair.certificate).unwrap();
    std::fs::write(path("other.key"), &other.key).unwrap();
    std::fs::write(path("not-a.key"), &pair.certificate).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    let former = authority.server_from("a", 2020, 2021);
    std::fs::write(path("former.crt"), &former.certificate).unwrap();
    std::fs::write(path("former.key"), &former.key).unwrap();
    let made = Command::new("mkfifo").arg(path("pipe")).status().unwrap();
    assert!(made.success());
    for (certificate, key, says) in [
        (
            "no.crt",
            "no.key",
            &["no.crt cannot be read", "no.key cannot be read"][..],
        ),
        ("pipe", "empty", &["pipe cannot be read: no regular file"]),
        ("empty", "other.key", &["TLS_CERT_FILE", "holds no certificate"]),
        ("tls.crt", "empty", &["TLS_KEY_FILE", "holds no key"]),
        (
            "tls.crt",
            "not-a.key",
            &["TLS_KEY_FILE", "it is no private key in PEM"],
        ),
        (
            "tls.crt",
            "other.key",
            &["TLS_KEY_FILE", "holds no key that can be used"],
        ),
        (
            "former.crt",
            "former.key",
            &["TLS_CERT_FILE", "valid from", "and not now"],
        ),
    ] {
        let (code, said) = run(certificate, key, &[]);
        assert_eq!(code, Some(64), "{certificate} {key}: {said}");
        assert!(says.iter().all(|says| said.contains(says)), "{says:?}: {said}");
    }
    // Settings can be looked at where the files are not.
    assert_eq!(run("no.crt", "no.key", &["--print-config"]).0, Some(0));
}
