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
    ("WEIR_SOURCE_MY_SHOP_TYPE", "body:/kind|header:X-Shop-Topic|order"),
    ("WEIR_SOURCE_MY_SHOP_TENANT", "body:/shop/id | none"),
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
    assert_eq!((shop.name.as_str(), shop.service.as_str()), ("my-shop", "http"));
    let Scheme::Hmac(generic) = &shop.scheme else {
        panic!("{:?}", shop.scheme)
    };
    assert_eq!(generic.signed.to_string(), "{id}.{timestamp}.{body}");
    assert_eq!(generic.timestamp.as_ref().unwrap().1, Duration::from_mins(1));
    for line in [
        "WEIR_SOURCE_MY_SHOP_TYPE=body:/kind|header:x-shop-topic|order",
        "WEIR_SOURCE_MY_SHOP_TENANT=body:/shop/id|none",
        "WEIR_SOURCE_MY_SHOP_KEY=",
        "WEIR_SOURCE_MY_SHOP_PRIORITY=9",
        "WEIR_SOURCE_GITHUB_PRIORITY=5",
    ] {
        assert!(
            shown.to_string().lines().any(|shown| shown == line),
            "{line} is not in:\n{shown}"
        );
    }
    for text in [shown.to_string(), format!("{config:?}")] {
        assert!(!text.contains("hunter2") && !text.contains("old,new"), "{text}");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let Problems(lines) = read(&[
        ("WEIR_SERVICES", "http"),
        ("WEIR_SOURCES", "github,acme,acme,Bad"),
        ("WEIR_SOURCE_GITHUB_KIND", "gitea"),
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
        "WEIR_SOURCE_GITHUB_KIND is \"gitea\": must be one of github, gitlab, linear, slack, stripe, standard, hmac",
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
fn every_kind_is_read_with_several_secrets() {
    let key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let public = "whpk_MCowBQYDK2VwAyEAMCowBQYDK2VwAyEAMCowBQYDK2U";
    for (kind, secrets) in [
        ("github", "old,new"),
        ("gitlab", &*format!("glpat-hush,{key}")),
        ("linear", "lin_wh_old,lin_wh_new"),
        ("slack", "old\nnew"),
        ("stripe", "whsec_old,whsec_new"),
        (
            "standard",
            &*format!("{key},C2FVsBQIhrscChlQIMV+b5sSYspob7oD,{public}"),
        ),
        ("hmac", "old,new"),
    ] {
        let mut settings = vec![
            ("WEIR_SERVICES", "http"),
            ("WEIR_SOURCES", "http"),
            ("WEIR_SOURCE_HTTP_KIND", kind),
            ("WEIR_SOURCE_HTTP_SECRETS", secrets),
        ];
        if kind == "hmac" {
            settings.push(("WEIR_SOURCE_HTTP_HEADER", "x-sig"));
        }
        let (config, shown) = read(&settings).unwrap();
        let debug = format!("{config:?}");
        assert!(debug.to_lowercase().contains(kind), "{debug}");
        for secret in secrets.split([',', '\n']) {
            assert!(
                !debug.contains(secret) && !shown.to_string().contains(secret),
                "{kind}"
            );
        }
    }
}

#[test]
fn secrets_and_places_that_cannot_be_are_told_at_once() {
    let Problems(lines) = read(&[
        ("WEIR_SERVICES", "http"),
        ("WEIR_SOURCES", "a,b,c,d"),
        ("WEIR_SOURCE_A_KIND", "standard"),
        ("WEIR_SOURCE_A_SERVICE", "http"),
        (
            "WEIR_SOURCE_A_SECRETS",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD,hunter2!",
        ),
        ("WEIR_SOURCE_B_KIND", "standard"),
        ("WEIR_SOURCE_B_SERVICE", "http"),
        ("WEIR_SOURCE_B_SECRETS", "whpk_aHVudGVyMg=="),
        ("WEIR_SOURCE_C_KIND", "standard"),
        ("WEIR_SOURCE_C_SERVICE", "http"),
        ("WEIR_SOURCE_C_SECRETS", "whsk_aHVudGVyMg=="),
        ("WEIR_SOURCE_D_KIND", "gitlab"),
        ("WEIR_SOURCE_D_SERVICE", "http"),
        ("WEIR_SOURCE_D_SECRETS", "token,whsec_"),
        ("WEIR_SOURCE_D_TYPE", "header:a b"),
        ("WEIR_SOURCE_D_ID", "fixed"),
        ("WEIR_SOURCE_D_TENANT", "body:path"),
        ("WEIR_SOURCE_D_KEY", "none|header:x-key"),
        ("WEIR_SOURCE_D_PRIORITY", "11"),
    ])
    .unwrap_err();
    let all = lines.join("\n");
    for part in [
        "WEIR_SOURCE_A_SECRETS cannot be read: secret 2 must be base64",
        "WEIR_SOURCE_B_SECRETS cannot be read: secret 1 must have 32 bytes",
        "WEIR_SOURCE_C_SECRETS cannot be read: secret 1 is a private key",
        "WEIR_SOURCE_D_SECRETS cannot be read: secret 2 must be base64",
        "WEIR_SOURCE_D_TYPE cannot be read: \"header:a b\" names no header",
        "WEIR_SOURCE_D_ID cannot be read: the constant \"fixed\" would make all deliveries one event",
        "WEIR_SOURCE_D_TENANT cannot be read: \"path\" is no JSON pointer",
        "WEIR_SOURCE_D_KEY cannot be read: \"none\" must stand last",
        "WEIR_SOURCE_D_PRIORITY cannot be read: the constant \"11\" must be a whole number from 1 to 10",
    ] {
        assert!(all.contains(part), "{part} is not in:\n{all}");
    }
    assert_eq!(lines.len(), 9, "{all}");
    assert!(!all.contains("hunter2") && !all.contains("aHVudGVyMg"), "{all}");
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
    let guide = include_str!("../../../docs/sources.md");
    for kind in source::kinds() {
        assert!(HELP.contains(kind), "{kind} is not in the help");
        assert_eq!(
            guide.matches(&format!("\n| `{kind}` |")).count(),
            2,
            "{kind} is not in docs/sources.md"
        );
    }
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
