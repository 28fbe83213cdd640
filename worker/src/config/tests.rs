use std::collections::BTreeMap;

use shared::config::Problems;

use super::*;
use crate::effect::Policy as Unknown;

fn read(pairs: &[(&str, &str)]) -> Result<Config, Problems> {
    let env: BTreeMap<_, _> = pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    let mut reader = Reader::new(&env);
    let config = Config::read(&mut reader);
    reader.finish(&OWN, config).map(|(config, _)| config)
}

#[test]
fn defaults_are_those_of_the_providers() {
    let config = read(&[("WEIR_POSTGRES_URL", "postgres://u@h/db")]).unwrap();
    let github = &config.services[0];
    assert_eq!((github.service.as_str(), github.concurrency), ("github", 20));
    assert_eq!(
        github.limits["requests"].rule.to_string(),
        "5000 per hour, burst 100"
    );
    let slack = &config.services[1];
    assert_eq!(
        slack.limits["requests"].rule.to_string(),
        "100 per minute, burst 20"
    );
    assert_eq!(
        (slack.concurrency, slack.urls[0].as_str()),
        (10, "https://slack.com/api")
    );
}

#[test]
fn what_is_not_recorded_cannot_be_once() {
    let none = ("WEIR_POSTGRES_URL", "none");
    let config = read(&[none]).unwrap();
    assert!(
        config
            .services
            .iter()
            .all(|service| service.unknown == Unknown::Retry)
    );
    let Problems(lines) = read(&[none, ("WEIR_SERVICE_GITHUB_UNKNOWN", "dead")]).unwrap_err();
    assert!(lines[0].contains("only retry is possible"), "{lines:?}");
}

#[test]
fn every_wrong_setting_is_named_at_once() {
    let Problems(lines) = read(&[
        ("WEIR_SERVICES", "github,acme,http"),
        ("WEIR_SERVICE_GITHUB_LIMIT", "lots"),
        ("WEIR_WORKER_ACCESS", "half"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "points: 900 per minute, burst 4"),
        ("WEIR_SERVICE_HTTP_LIMITS", "burst: 10 per second, burst 0"),
        ("WEIR_SERVICE_HTTP_LIMIT", "3 per 100ms"),
        ("WEIR_SERVICE_HTTP_REDIS_AWAY", "hope"),
        ("WEIR_SERVICE_HTTP_PROVIDER", "acme"),
        ("WEIR_SERVICE_HTTP_UNKNOWN", "perhaps"),
        ("WEIR_WORKER_KEEP", "7d"),
        ("WEIR_WORKER_PARTITION", "36h"),
        ("WEIR_WORKER_POSTGRES_CONNECTIONS", "20-60"),
        ("WEIR_LIMITS_START", "half"),
        ("WEIR_WORKER_PRIVATE_HOSTS", "10.0.0.0/8, http://inside"),
        ("WEIR_SERVICE_GITHUB_CONCURRENCY", "0"),
        ("WEIR_SERVICE_GITHUB_BREAKER", "half of them"),
        ("WEIR_SERVICE_GITHUB_URL", "https://a.example, b.example"),
        ("WEIR_SERVICE_GITHUB_RETRYS", "5s"),
        ("WEIR_SERVICE_GITHUB_CACHE", "2d"),
        ("WEIR_SERVICE_HTTP_CACHE", "5s"),
        ("WEIR_CACHE_MEMORY", "lots"),
        ("WEIR_SERVICE_HTTP_SECRET", "hunter2"),
        ("WEIR_POSTGRES_URL", "mysql://x"),
        ("WEIR_WORKER_SERVICES", "github,acme,http,jira,http"),
        ("WEIR_SERVICE_ACME_TOKEN", "hunter2\n"),
        ("WEIR_SERVICE_HTTP_TOKEN", "hunter2\r\nx: y"),
    ])
    .unwrap_err();
    for (setting, says) in [
        ("WEIR_WORKER_ACCESS", "neither off nor a share such as 100%"),
        ("WEIR_SERVICE_GITHUB_LIMIT", "5000 per hour"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "lets no call of 5 through"),
        ("WEIR_SERVICE_HTTP_LIMITS", "burst: has a burst of 0"),
        (
            "WEIR_SERVICE_HTTP_LIMIT ",
            "too short a period: WEIR_WORKER_AHEAD is 100ms",
        ),
        ("WEIR_SERVICE_HTTP_REDIS_AWAY", "stop or share"),
        ("WEIR_SERVICE_HTTP_PROVIDER", "anthropic"),
        ("WEIR_SERVICE_HTTP_UNKNOWN", "look-up, dead or retry"),
        ("WEIR_WORKER_KEEP", "shorter than WEIR_WORKER_INBOX"),
        ("WEIR_WORKER_PARTITION", "is not whole days"),
        (
            "WEIR_WORKER_POSTGRES_CONNECTIONS",
            "such as 20 or 5-20, at most 50",
        ),
        ("WEIR_LIMITS_START", "empty or full"),
        ("WEIR_WORKER_PRIVATE_HOSTS", "\"http://inside\", which is no host"),
        ("WEIR_SERVICE_GITHUB_CONCURRENCY", "not within 1"),
        (
            "WEIR_SERVICE_GITHUB_RETRYS",
            "did you mean WEIR_SERVICE_GITHUB_RETRIES?",
        ),
        ("WEIR_SERVICE_GITHUB_CACHE", "not within 0s and 1d"),
        ("WEIR_SERVICE_HTTP_CACHE", "unknown"),
        ("WEIR_CACHE_MEMORY", "lots"),
        ("WEIR_SERVICE_ACME_HANDLER", "is missing"),
        ("WEIR_SERVICE_HTTP_URL", "is missing"),
        (
            "WEIR_SERVICE_GITHUB_BREAKER",
            "write off, 50% of 10 in 30s, open 15s",
        ),
        (
            "WEIR_SERVICE_GITHUB_URL",
            "\"b.example\" must begin with http:// or https://",
        ),
        ("WEIR_SERVICE_HTTP_SECRET", "whsec_"),
        ("WEIR_POSTGRES_URL", "postgres://"),
        ("WEIR_WORKER_SERVICES", "\"jira\""),
        ("WEIR_WORKER_SERVICES", "names http twice"),
        ("WEIR_SERVICE_HTTP_TOKEN", "control character (U+000D) at byte 7"),
    ] {
        assert!(
            lines.iter().any(|l| l.starts_with(setting) && l.contains(says)),
            "{setting}: {lines:#?}"
        );
    }
    assert!(!lines.concat().contains("hunter2"), "a secret is never shown");
}
