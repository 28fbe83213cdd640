use std::time::Duration;

use super::*;
use crate::provider::{clock::Clock, exchange::ask};

const STANDING: Standing = Standing {
    limit: 50,
    used: 3,
    resets_at: Duration::from_secs(9),
    room_at: Duration::from_secs(9),
};

fn get(path: &str, extra: &[(&'static str, &str)]) -> Ask {
    let mut headers = vec![("authorization", "Bearer t")];
    headers.extend_from_slice(extra);
    ask(Method::GET, path, &headers, "")
}

#[test]
fn answers_carry_the_documented_headers() {
    let now = Clock::new(0).now();
    let reply = serve(&get("/repos/octo/cat", &[]), STANDING, now, &Kept::default());
    let header = |name: &str| reply.headers[name].to_str().unwrap_or_default();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(header("x-ratelimit-limit"), "50");
    assert_eq!(header("x-ratelimit-remaining"), "47");
    assert_eq!(header("x-ratelimit-used"), "3");
    assert_eq!(header("x-ratelimit-resource"), "core");
    let reset: u64 = header("x-ratelimit-reset").parse().unwrap_or_default();
    assert!(reset >= now.epoch_seconds(now.since_start) + 8);
    assert!(header("x-github-request-id").len() > 10);
    assert!(header("etag").starts_with("W/\""));
}

#[test]
fn a_known_etag_is_answered_304_and_counts_under_no_limit() {
    let now = Clock::new(0).now();
    let first = serve(&get("/user", &[]), STANDING, now, &Kept::default());
    let tag = first.headers["etag"].to_str().unwrap_or_default();
    let again = get("/user", &[("if-none-match", tag)]);
    assert!(demands(&GithubLimits::default(), &again).is_empty());
    let reply = serve(&again, STANDING, now, &Kept::default());
    assert_eq!((reply.status, reply.body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[test]
fn only_writes_face_the_secondary_limit() {
    let limits = GithubLimits::default();
    assert_eq!(
        demands(&limits, &get("/search/code", &[]))[0].limit,
        "github search"
    );
    let write = ask(
        Method::POST,
        "/repos/o/r/issues",
        &[("authorization", "Bearer t")],
        "{}",
    );
    let names: Vec<_> = demands(&limits, &write)
        .into_iter()
        .map(|one| one.limit)
        .collect();
    assert_eq!(names, ["github core", "github writes"]);
}

#[test]
fn refusals_tell_which_limit_and_when() {
    let limits = GithubLimits::default();
    let now = Clock::new(0).now();
    let full = Standing { used: 50, ..STANDING };
    let primary = Admission {
        breached: Some(0),
        standings: vec![full],
    };
    let reply = refuse(&limits, &get("/user", &[]), &primary, now, 0);
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert_eq!(reply.headers["x-ratelimit-remaining"], "0");
    assert!(!reply.headers.contains_key("retry-after"));
    let secondary = Admission {
        breached: Some(1),
        standings: vec![STANDING, full],
    };
    let reply = refuse(&limits, &get("/user", &[]), &secondary, now, 1);
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.headers["retry-after"], "9");
    assert_eq!(reply.headers["x-ratelimit-remaining"], "47");
    assert!(String::from_utf8_lossy(&reply.body).contains("secondary rate limit"));
}
