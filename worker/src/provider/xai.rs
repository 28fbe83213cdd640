//! xAI: requests a second, hard, and tokens a minute, by team and model.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::headers::Headers;
use super::{DEFAULT_WAIT, Preset, Reading, Refusal, Standing, error_body, exhausted, openai, until_reset};
use crate::outbound::Answer;

const SOURCE: &str = "https://docs.x.ai/developers/rate-limits";
/// What `x-ratelimit-*` counts over.
const MINUTE: Duration = Duration::from_secs(60);

/// xAI's own figures depend on model and tier and stand in its console: from hundreds of requests a minute up. These
/// are the project's. A minute's requests cannot be spent in a second: the limit a second is a 60th of the minute's,
/// so that calls come one by one. The burst of `tokens` is the largest call there can be.
pub(super) const PRESET: &[Preset] = &[
    Preset {
        dimension: "requests",
        rule: "100 per minute, burst 1",
        source: SOURCE,
    },
    Preset {
        dimension: "requests-second",
        rule: "1 per 600ms",
        source: SOURCE,
    },
    Preset {
        dimension: "tokens",
        rule: "2_000_000 per minute, burst 100_000",
        source: SOURCE,
    },
];

/// Reads `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`. The resets mostly are not there: what remains then
/// remains for the minute that the limits count over.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let mut pool = |dimension: &'static str| {
        let names = ["limit", "remaining", "reset"].map(|part| format!("x-ratelimit-{part}-{dimension}"));
        let names = [&*names[0], &*names[1], &*names[2]];
        headers.standing(dimension, names, |headers, reset| {
            if headers.has(reset) {
                headers.span(reset)
            } else {
                Some(MINUTE)
            }
        })
    };
    let standings: Vec<Standing> = ["requests", "tokens"].into_iter().filter_map(&mut pool).collect();
    let retry_after = headers.retry_after();
    let mut absurd = headers.absurd;
    let usage = openai::total_tokens(answer, &mut absurd);
    let refusal = match answer.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN if lacks_money(answer) => {
            Some(Refusal::forever())
        }
        StatusCode::TOO_MANY_REQUESTS => {
            let dimension = exhausted(&standings);
            let wait = retry_after.or_else(|| until_reset(&standings, dimension));
            Some(Refusal::new(dimension, wait.unwrap_or(DEFAULT_WAIT)))
        }
        _ => None,
    };
    Reading {
        standings,
        refusal,
        usage: usage.into_iter().collect(),
        absurd,
    }
}

/// A team without credits is refused with a 429 or a 403 that only its sentence tells from others: «… has either used
/// all available credits or reached its monthly spending limit. …».
fn lacks_money(answer: &Answer) -> bool {
    let body = error_body(answer);
    let error = &body["error"];
    let sentence = error.as_str().or_else(|| error["message"].as_str());
    sentence.is_some_and(|text| text.contains("used all available credits"))
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::super::tests::{answer, at, seconds};
    use super::*;

    const HEADERS: [(&str, &str); 4] = [
        ("x-ratelimit-limit-requests", "480"),
        ("x-ratelimit-remaining-requests", "479"),
        ("x-ratelimit-limit-tokens", "4000000"),
        ("x-ratelimit-remaining-tokens", "3998500"),
    ];

    #[test]
    fn without_resets_the_minute_counts() {
        let body = r#"{"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1500}}"#;
        let reading = read(&answer(200, &HEADERS, body), at(0));
        let standing = |dimension, limit, remaining| Standing {
            dimension,
            limit: Some(limit),
            remaining,
            reset: MINUTE,
        };
        assert_eq!(
            reading.standings,
            [
                standing("requests", 480, 479),
                standing("tokens", 4_000_000, 3_998_500)
            ]
        );
        assert_eq!((reading.usage, reading.absurd), (vec![("tokens", 1500)], 0));
        let with_reset = [&HEADERS[..], &[("x-ratelimit-reset-requests", "1.5s")]].concat();
        let reading = read(&answer(200, &with_reset, ""), at(0));
        assert_eq!(reading.standings[0].reset, Duration::from_millis(1_500));
        let bad_reset = [&HEADERS[..], &[("x-ratelimit-reset-requests", "later")]].concat();
        let reading = read(&answer(200, &bad_reset, ""), at(0));
        assert_eq!((reading.standings.len(), reading.absurd), (1, 1));
    }

    #[test]
    fn refusals() {
        let body = r#"{"code":"Some resource has been exhausted","error":"Too many requests for team x and model grok-4."}"#;
        let empty = [
            ("x-ratelimit-limit-tokens", "4000000"),
            ("x-ratelimit-remaining-tokens", "0"),
        ];
        for (headers, dimension, wait) in [
            (&[][..], None, 30),
            (&HEADERS, None, 30),
            (&empty, Some("tokens"), 60),
            (&[("retry-after", "2")], None, 2),
        ] {
            let refusal = read(&answer(429, headers, body), at(0)).refusal;
            assert_eq!(
                refusal,
                Some(Refusal::new(dimension, seconds(wait))),
                "{headers:?}"
            );
        }
        let spent = r#"{"code":"x","error":"Your team 1 has either used all available credits or reached its monthly spending limit."}"#;
        for status in [429, 403] {
            let answer = answer(status, &[], spent);
            let reading = read(&answer, at(0));
            assert!(reading.refusal.unwrap().forever);
            let failure = Provider::Xai.failure(&answer, &reading, at(0)).unwrap_err();
            assert_eq!(failure.class(), "permanent");
        }
        assert_eq!(read(&answer(403, &[], "no"), at(0)).refusal, None);
    }
}
