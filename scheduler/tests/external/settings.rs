//! The settings of the API, right and wrong.

use std::collections::BTreeMap;

use scheduler::Config;
use shared::config::{Problems, Reader};

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
    assert_eq!(read(&pair).unwrap().0.external, None);
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
