//! GitHub: a primary limit an hour that its headers tell, and secondary limits that they do not.

use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

use super::headers::Headers;
use super::{Preset, Reading, Refusal, UNCOUNTED, error_body};
use crate::outbound::Answer;

const REST: &str = "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api";
const GRAPHQL: &str =
    "https://docs.github.com/en/graphql/overview/rate-limits-and-node-limits-for-the-graphql-api";
/// Shortest wait after a secondary limit that names none. Source: [`REST`], exceeding the rate limit.
const SECONDARY: Duration = Duration::from_secs(60);
/// How much of a body is searched for the words of a refusal, in bytes.
const WORDS: usize = 4096;

/// The primary limit is 5,000 an hour for a user, over all of their tokens together; 15,000 in Enterprise Cloud; an
/// App's installation has 5,000 to 12,500. The bursts are the project's: GitHub's windows are fixed.
pub(super) const PRESET: &[Preset] = &[
    Preset {
        dimension: "requests",
        rule: "5000 per hour, burst 100",
        source: REST,
    },
    // For REST calls; see [`points`]. As large a burst as that of `requests`, which is far slower in the long run.
    Preset {
        dimension: "points",
        rule: "900 per minute, burst 100",
        source: REST,
    },
    Preset {
        dimension: "content",
        rule: "80 per minute, burst 10",
        source: REST,
    },
    Preset {
        dimension: "content-hour",
        rule: "500 per hour, burst 50",
        source: REST,
    },
    // REST and GraphQL together.
    Preset {
        dimension: "at-once",
        rule: "100 at once",
        source: REST,
    },
    // Points that a query costs by its size, 1 at least.
    Preset {
        dimension: "graphql",
        rule: "5000 per hour, burst 100",
        source: GRAPHQL,
    },
    // A query is 1 and a mutation 5 of these.
    Preset {
        dimension: "graphql-minute",
        rule: "2000 per minute, burst 100",
        source: GRAPHQL,
    },
];

/// What a REST call costs of `points`: 1 to read, 5 to write. Source: rate limits for the REST API, calculating points
/// for the secondary rate limit.
pub fn points(method: &Method) -> u32 {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => 1,
        _ => 5,
    }
}

/// A refusal is a 403 or a 429 (GraphQL: a 200 with an error, too). How long to wait, in this order: `retry-after`;
/// with nothing remaining, until the reset; else a minute. Source: [`REST`] and [`GRAPHQL`], exceeding the rate limit.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let pool = match headers.word("x-ratelimit-resource") {
        None | Some("core") => "requests",
        Some("graphql") => "graphql",
        Some(_) => UNCOUNTED,
    };
    let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let standing = headers.standing(pool, names, Headers::epoch_seconds);
    let retry_after = headers.retry_after();

    let (refused, secondary) = match answer.status {
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            let words = words(answer);
            let named = answer.status == StatusCode::TOO_MANY_REQUESTS || words.contains("rate limit");
            (named, words.contains("secondary rate limit"))
        }
        StatusCode::OK if pool == "graphql" => graphql_error(answer),
        _ => (false, false),
    };
    let empty = standing.filter(|standing| standing.remaining == 0);
    let limited = matches!(
        answer.status,
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    );
    let refused = refused || (limited && (retry_after.is_some() || empty.is_some()));
    let refusal = refused.then(|| {
        let wait = retry_after.or(empty.map(|standing| standing.reset));
        // A secondary limit is the credential's, whatever the primary one says; an error of GraphQL names its own,
        // with or without headers that agree.
        let primary = !secondary && (empty.is_some() || !limited);
        let dimension = primary.then_some(pool);
        Refusal::new(dimension, wait.unwrap_or(SECONDARY))
    });
    Reading {
        standings: standing
            .into_iter()
            .filter(|s| s.dimension != UNCOUNTED)
            .collect(),
        refusal,
        // What has not changed costs nothing of the primary limit. Source: GitHub, best practices for using the REST
        // API, conditional requests.
        usage: if answer.status == StatusCode::NOT_MODIFIED {
            vec![("requests", 0)]
        } else {
            Vec::new()
        },
        absurd: headers.absurd,
    }
}

fn words(answer: &Answer) -> String {
    let start = &answer.body[..answer.body.len().min(WORDS)];
    String::from_utf8_lossy(start).to_ascii_lowercase()
}

/// Whether an answer of GraphQL is a refusal, and whether for a secondary limit.
fn graphql_error(answer: &Answer) -> (bool, bool) {
    let body = error_body(answer);
    let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let secondary = errors.iter().any(|error| {
        let message = error["message"].as_str().unwrap_or_default();
        message.to_ascii_lowercase().contains("secondary rate limit")
    });
    // RATE_LIMITED by the documents, RATE_LIMIT as it comes.
    let primary = errors.iter().any(|error| {
        error["type"]
            .as_str()
            .is_some_and(|t| t.starts_with("RATE_LIMIT"))
    });
    (primary || secondary, secondary)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, at, seconds};
    use super::super::{Provider, Standing};
    use super::*;

    const DATE: (&str, &str) = ("date", "Fri, 15 Jan 2027 08:00:00 GMT"); // 1_800_000_000

    fn headers<'a>(resource: &'a str, remaining: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            DATE,
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", remaining),
            ("x-ratelimit-used", "58"),
            ("x-ratelimit-reset", "1800000090"),
            ("x-ratelimit-resource", resource),
        ]
    }

    fn read(status: u16, headers: &[(&str, &str)], body: &str) -> Reading {
        // Our clock is a day behind: the Date counts.
        super::read(&answer(status, headers, body), at(1_799_913_600))
    }

    #[test]
    fn standings_are_of_the_resource() {
        let of = |resource| read(200, &headers(resource, "4942"), "{}").standings;
        let standing = |dimension| Standing {
            dimension,
            limit: Some(5000),
            remaining: 4942,
            reset: seconds(91),
        };
        assert_eq!(of("core"), [standing("requests")]);
        assert_eq!(of("graphql"), [standing("graphql")]);
        assert_eq!(of("search"), []);
    }

    #[test]
    fn refusals_wait_as_documented() {
        let secondary = r#"{"message": "You have exceeded a secondary rate limit."}"#;
        let primary = r#"{"message": "API rate limit exceeded for user ID 1."}"#;
        let graphql = r#"{"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}"#;
        let graphql_as_it_comes = r#"{"errors": [{"type": "RATE_LIMIT", "code": "graphql_rate_limit"}]}"#;
        let graphql_secondary = r#"{"errors": [{"message": "You have exceeded a secondary rate limit"}]}"#;
        let with_retry = [headers("core", "4000"), vec![("retry-after", "17")]].concat();
        let both = [headers("core", "0"), vec![("retry-after", "17")]].concat();
        for (status, headers, body, dimension, wait) in [
            (403, headers("core", "0"), primary, Some("requests"), 91),
            (429, headers("core", "0"), "", Some("requests"), 91),
            (429, with_retry.clone(), secondary, None, 17),
            (403, with_retry, "", None, 17),
            (403, both, secondary, None, 17),
            (403, headers("core", "4000"), secondary, None, 60),
            (429, vec![], "", None, 60),
            (403, headers("search", "0"), primary, Some(UNCOUNTED), 91),
            (200, headers("graphql", "0"), graphql, Some("graphql"), 91),
            (
                200,
                headers("graphql", "5000"),
                graphql_as_it_comes,
                Some("graphql"),
                60,
            ),
            (200, headers("graphql", "9"), graphql_secondary, None, 60),
        ] {
            let refusal = read(status, &headers, body).refusal;
            assert_eq!(
                refusal,
                Some(Refusal::new(dimension, seconds(wait))),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn other_answers_are_no_refusals() {
        let forbidden = r#"{"message": "Resource not accessible by integration"}"#;
        for (status, headers, body) in [
            (403, headers("core", "42"), forbidden),
            (200, headers("core", "0"), "{}"),
            (200, headers("graphql", "0"), r#"{"data": {}}"#),
            (
                200,
                headers("core", "0"),
                r#"{"errors": [{"type": "RATE_LIMITED"}]}"#,
            ),
            (404, headers("core", "0"), "rate limit"),
            (500, vec![("retry-after", "9")], ""),
        ] {
            let answer = answer(status, &headers, body);
            let reading = super::read(&answer, at(0));
            assert_eq!(reading.refusal, None, "{status} {body}");
            let failure = Provider::Github.failure(&answer, &reading, at(0));
            assert_eq!(failure.is_ok(), status == 200);
        }
    }

    #[test]
    fn nonsense_is_ignored_and_counted() {
        let year_ahead = [
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1831536000"),
        ];
        let reading = read(403, &[&[DATE][..], &year_ahead].concat(), "rate limit exceeded");
        assert_eq!((reading.standings.len(), reading.absurd), (0, 1));
        assert_eq!(reading.refusal, Some(Refusal::new(None, SECONDARY)));
    }

    #[test]
    fn writing_costs_five_points() {
        assert_eq!(
            [Method::GET, Method::HEAD, Method::OPTIONS].map(|m| points(&m)),
            [1; 3]
        );
        assert_eq!(
            [Method::POST, Method::PATCH, Method::DELETE].map(|m| points(&m)),
            [5; 3]
        );
    }
}
