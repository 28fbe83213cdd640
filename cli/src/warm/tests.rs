//! What is said of warming.

use shared::warm::{Day, Mode};

use super::*;

fn service(day: Day) -> ServiceStatus {
    ServiceStatus {
        service: "github".into(),
        state: State::Live,
        ttl_ms: 900_000,
        keys: 1_234,
        sources: vec![Source {
            source: "rhythm".into(),
            live: true,
            precision: Some(0.9),
            judged: 64,
            needed: 40,
        }],
        day,
        calls_left: 7,
        silent_until_ms: None,
        paused: None,
        trouble: None,
    }
}

#[test]
fn what_was_only_noted_is_told_from_what_was_fetched() {
    let fetched = Day {
        looks: 1_000,
        right: 30,
        wrong: 10,
        shadow_right: 5,
        coverage: Some(0.05),
        hit_gain: Some(0.03),
        lead_ms: Some(336_000),
        ..Day::default()
    };
    let noted = Day {
        shadow_right: 3,
        shadow_wrong: 1,
        ..Day::default()
    };
    let status = Status {
        mode: Mode::On,
        off: None,
        at_ms: 0,
        paused: None,
        services: vec![service(fetched), service(noted)],
    };
    let text = table(&status).text();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[1].last(), Some(&"rhythm"));
    assert!(lines[1].contains(&"40") && lines[1].contains(&"75.0"), "{text}");
    assert!(lines[2].contains(&"(4)") && lines[2].contains(&"(75.0"), "{text}");
}

#[test]
fn pauses_and_silence_are_told_with_their_ends() {
    let mut silent = service(Day::default());
    silent.silent_until_ms = Some(3_660_000);
    silent.paused = Some(Pause {
        by: "ada".into(),
        at_ms: 0,
        until_ms: Some(120_000),
    });
    let told = sentences(&silent, 60_000).join("; ");
    assert!(told.contains("paused by ada"), "{told}");
    assert!(told.contains("silent for"), "{told}");
}

#[test]
fn why_nothing_is_kept_and_how_far_the_shadow_reaches_is_told() {
    let told = |name: &str, state: State| {
        let mut service = service(Day::default());
        (service.service, service.state) = (name.into(), state);
        service.sources[0].live = false;
        service.sources[0].judged = 12;
        service.sources[0].precision = None;
        sentences(&service, 0).join("; ")
    };
    let github = told("github", State::NotCached);
    assert!(github.contains("set WEIR_SERVICE_GITHUB_CACHE"), "{github}");
    let slack = told("slack", State::NotCached);
    assert!(
        slack.contains("nothing is kept") && !slack.contains("_CACHE"),
        "{slack}"
    );
    let other = told("my-reads", State::NotCached);
    assert!(other.contains("WEIR_SERVICE_MY_READS_CACHE if"), "{other}");
    assert!(told("github", State::Shadow).contains("rhythm 12 of 40"));
    assert_eq!(told("github", State::Off), "");
}
