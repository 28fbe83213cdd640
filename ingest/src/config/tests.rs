#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;

use shared::config::Problems;
use shared::config::reader::Shown;

use super::*;
use crate::verify::Scheme;

fn read(pairs: &[(&str, &str)]) -> Result<(Config, Shown), Problems> {
    let env: BTreeMap<String, String> = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let mut reader = Reader::new(&env);
    let config = Config::read(&mut reader);
    let own: Vec<&str> = Config::OWN.into_iter().chain(Fleet::OWN).collect();
    reader.finish(&own, config)
}

const FULL: &[(&str, &str)] = &[
    ("WEIR_SERVICES", "github,http"),
    ("WEIR_SOURCES", "github,my-shop"),
    ("WEIR_SOURCE_GITHUB_KIND", "github"),
    ("WEIR_SOURCE_GITHUB_SECRETS", "old,new"),
    ("WEIR_SOURCE_MY_SHOP_KIND", "hmac"),
    ("WEIR_SOURCE_MY_SHOP_SECRETS", "hunter2"),
    ("WEIR_SOURCE_MY_SHOP_SERVICE", "http"),
    ("WEIR_SOURCE_MY_SHOP_LIMIT", "10 per second, burst 5"),
    ("WEIR_SOURCE_MY_SHOP_PRIORITY", "9"),
    ("WEIR_SOURCE_MY_SHOP_HEADER", "X-Shop-Signature"),
    ("WEIR_SOURCE_MY_SHOP_ENCODING", "base64"),
    ("WEIR_SOURCE_MY_SHOP_PREFIX", "v1,"),
    ("WEIR_SOURCE_MY_SHOP_TIMESTAMP_HEADER", "X-Shop-Time"),
    ("WEIR_SOURCE_MY_SHOP_TOLERANCE", "60s"),
    ("WEIR_SOURCE_MY_SHOP_SIGNED", "{id}.{timestamp}.{body}"),
    ("WEIR_SOURCE_MY_SHOP_ID_HEADER", "X-Shop-Id"),
    ("WEIR_SOURCE_MY_SHOP_TYPE_HEADER", "X-Shop-Topic"),
];

#[test]
fn nothing_set_is_a_configuration_without_sources_and_tokens() {
    let (config, shown) = read(&[]).unwrap();
    assert!(config.sources.is_empty() && config.tokens.is_empty());
    assert_eq!(config.bounds, Bounds::default());
    assert!(
        shown.to_string().contains("WEIR_INGEST_MAX_BODY=26214400\n"),
        "{shown}"
    );
}

#[test]
fn every_setting_is_read_and_none_shows_a_secret() {
    let (config, shown) = read(FULL).unwrap();
    assert_eq!(config.sources.len(), 2);
    let shop = &config.sources[1];
    assert_eq!(
        (shop.name.as_str(), shop.service.as_str(), shop.priority.get()),
        ("my-shop", "http", 9)
    );
    let Scheme::Hmac(generic) = &shop.scheme else {
        panic!("{:?}", shop.scheme)
    };
    assert_eq!(generic.signed.to_string(), "{id}.{timestamp}.{body}");
    assert_eq!(generic.timestamp.as_ref().unwrap().1, Duration::from_mins(1));
    for text in [shown.to_string(), format!("{config:?}")] {
        assert!(!text.contains("hunter2") && !text.contains("old,new"), "{text}");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let Problems(lines) = read(&[
        ("WEIR_SERVICES", "http"),
        ("WEIR_SOURCES", "github,acme,acme,Bad"),
        ("WEIR_SOURCE_GITHUB_KIND", "gitlab"),
        ("WEIR_SOURCE_ACME_KIND", "hmac"),
        ("WEIR_SOURCE_ACME_SECRETS", "s"),
        ("WEIR_SOURCE_ACME_SERVICE", "http"),
        ("WEIR_SOURCE_ACME_LIMIT", "lots"),
        ("WEIR_SOURCE_ACME_SIGNED", "{timestamp}.{body}"),
        ("WEIR_SOURCE_ACME_TOLERENCE", "5s"),
        ("WEIR_INGEST_MAX_BODY", "1GB"),
        ("WEIR_INGEST_MAX_BUFFERED", "1MB"),
        ("WEIR_INGEST_DRAIN_DELAY", "30s"),
        ("WEIR_TOKENS", "ci:zz:*"),
    ])
    .unwrap_err();
    let all = lines.join("\n");
    for part in [
        "WEIR_SOURCES has \"Bad\"",
        "WEIR_SOURCES names acme twice",
        "WEIR_SOURCE_GITHUB_KIND is \"gitlab\"",
        "WEIR_SOURCE_GITHUB_SECRETS is missing",
        "WEIR_SOURCE_GITHUB_SERVICE is github, which is not in WEIR_SERVICES",
        "WEIR_SOURCE_ACME_HEADER is missing",
        "WEIR_SOURCE_ACME_LIMIT cannot be read",
        "WEIR_SOURCE_ACME_SIGNED holds {timestamp}",
        "WEIR_SOURCE_ACME_TOLERENCE is unknown: did you mean WEIR_SOURCE_ACME_TOLERANCE?",
        "WEIR_INGEST_MAX_BODY cannot be read",
        "WEIR_INGEST_MAX_BUFFERED must be at least",
        "WEIR_INGEST_DRAIN_DELAY must be shorter",
        "WEIR_TOKENS cannot be read: entry 1 (ci)",
    ] {
        assert!(all.contains(part), "{part} is not in:\n{all}");
    }
    assert_eq!(lines.len(), 13, "{all}");
}

#[test]
fn a_time_that_is_not_signed_is_refused() {
    let Problems(lines) = read(&[
        ("WEIR_SERVICES", "http"),
        ("WEIR_SOURCES", "http"),
        ("WEIR_SOURCE_HTTP_KIND", "hmac"),
        ("WEIR_SOURCE_HTTP_SECRETS", "s"),
        ("WEIR_SOURCE_HTTP_HEADER", "x-sig"),
        ("WEIR_SOURCE_HTTP_TIMESTAMP_HEADER", "x-time"),
    ])
    .unwrap_err();
    assert!(
        lines[0].starts_with("WEIR_SOURCE_HTTP_SIGNED must hold {timestamp}"),
        "{lines:?}"
    );
}

#[test]
fn settings_of_another_kind_are_unknown() {
    let Problems(lines) = read(&[
        ("WEIR_SOURCES", "github"),
        ("WEIR_SOURCE_GITHUB_KIND", "github"),
        ("WEIR_SOURCE_GITHUB_SECRETS", "s"),
        ("WEIR_SOURCE_GITHUB_TOLERANCE", "5s"),
    ])
    .unwrap_err();
    assert_eq!(lines, ["WEIR_SOURCE_GITHUB_TOLERANCE is unknown"]);
}

#[test]
fn help_lists_every_setting() {
    let (_, shown) = read(FULL).unwrap();
    let shown = shown.to_string();
    // Only builds for tests know it.
    let told = |line: &&str| !line.starts_with(shared::failpoint::SETTING);
    for line in shown.lines().filter(told) {
        let name = line
            .split('=')
            .next()
            .unwrap()
            .replace("_GITHUB_", "_NAME_")
            .replace("_MY_SHOP_", "_NAME_");
        assert!(HELP.contains(&format!("  {name} ")), "{name} is not in the help");
    }
    assert!(HELP.contains(&format!("[{}]", Fleet::DEFAULT_SERVICES)));
}

/// The header of the source `x-id` and the id's header of the source `x` have one name.
#[test]
fn a_setting_that_two_sources_would_read_is_told() {
    let Problems(lines) = read(&[
        ("WEIR_SERVICES", "http"),
        ("WEIR_SOURCES", "x,x-id"),
        ("WEIR_SOURCE_X_KIND", "hmac"),
        ("WEIR_SOURCE_X_SECRETS", "s"),
        ("WEIR_SOURCE_X_SERVICE", "http"),
        ("WEIR_SOURCE_X_HEADER", "x-sig"),
        ("WEIR_SOURCE_X_ID_HEADER", "x-id-sig"),
        ("WEIR_SOURCE_X_ID_KIND", "hmac"),
        ("WEIR_SOURCE_X_ID_SECRETS", "s"),
        ("WEIR_SOURCE_X_ID_SERVICE", "http"),
    ])
    .unwrap_err();
    assert!(
        lines[0].starts_with("WEIR_SOURCE_X_ID_HEADER means two things"),
        "{lines:?}"
    );
}
