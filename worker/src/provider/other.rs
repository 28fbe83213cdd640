//! Any other API: `Retry-After`, the `RateLimit` header of the IETF's draft in its three shapes, and `X-RateLimit-*`.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::headers::{Headers, MAX_AHEAD, digits};
use super::{DEFAULT_WAIT, Reading, Refusal, Standing, until_reset};
use crate::outbound::Answer;

/// More policies than this in one answer are not read.
const MAX_POLICIES: usize = 16;

/// Reads the dimension `requests`, from the newest of the headers that are there. A refusal is a 429 and concerns the
/// whole credential. Source: draft-ietf-httpapi-ratelimit-headers, 03 to 11.
pub(super) fn read(answer: &Answer, now: SystemTime) -> Reading {
    let mut headers = Headers::new(answer, now);
    let standing = if headers.has("ratelimit") {
        drafted(&mut headers)
    } else if headers.has("ratelimit-remaining") {
        separate(&mut headers, "ratelimit")
    } else {
        separate(&mut headers, "x-ratelimit")
    };
    let retry_after = headers.retry_after();
    let standings: Vec<Standing> = standing.into_iter().collect();
    let refusal = (answer.status == StatusCode::TOO_MANY_REQUESTS).then(|| {
        let wait = retry_after.or_else(|| until_reset(&standings, None));
        Refusal::new(None, wait.unwrap_or(DEFAULT_WAIT))
    });
    Reading {
        standings,
        refusal,
        usage: Vec::new(),
        absurd: headers.absurd,
    }
}

/// `RateLimit-Limit: 100` (or `100, 100;w=60`: the first figure binds), `-Remaining`, `-Reset`.
fn separate(headers: &mut Headers<'_>, prefix: &str) -> Option<Standing> {
    let first = |text: &str| text.split([',', ';']).next().and_then(|n| digits(n.trim()));
    let limit = headers.read(&format!("{prefix}-limit"), |text| first(text).filter(|n| *n > 0));
    let remaining = headers.count(&format!("{prefix}-remaining"));
    let reset = headers.any_reset(&format!("{prefix}-reset"));
    headers.checked("requests", limit, remaining?, reset?)
}

/// `RateLimit: "default";r=50;t=30` with `RateLimit-Policy: "default";q=100;w=60`, or, as it was before,
/// `RateLimit: limit=100, remaining=50, reset=30`.
fn drafted(headers: &mut Headers<'_>) -> Option<Standing> {
    let limits = headers.list("ratelimit")?;
    let policies = headers.list("ratelimit-policy").unwrap_or_default();
    let flat = limits.replace(',', ";");
    let before = Item::parse(&flat);
    let found = if before.get("remaining").is_some() {
        let limit = before.number("limit").filter(|limit| *limit > 0);
        let figures = before.number("remaining").zip(before.seconds("reset"));
        figures
            .map(|(remaining, reset)| Some((limit, remaining, reset)))
            .ok_or(Unreadable)
    } else {
        tightest(&limits, &policies)
    };
    let Ok(found) = found else {
        headers.absurd += 1;
        return None;
    };
    let (limit, remaining, reset) = found?;
    headers.checked("requests", limit, remaining, reset)
}

/// A header that says nothing that can be read.
struct Unreadable;

/// Limit, remainder and reset of one policy.
type Figures = (Option<u64>, u64, Duration);

/// Of the policies that count requests, the one that leaves least; those that say nothing of a time are left out.
fn tightest(limits: &str, policies: &str) -> Result<Option<Figures>, Unreadable> {
    let policies: Vec<Item<'_>> = split(policies, ',').map(Item::parse).collect();
    let mut tightest: Option<Figures> = None;
    for item in split(limits, ',').map(Item::parse) {
        let policy = policies.iter().find(|policy| policy.name == item.name);
        let unit = policy.and_then(|policy| policy.get("qu")).unwrap_or("requests");
        if !matches!(unit.trim_matches('"'), "requests" | "request") {
            continue;
        }
        let limit = policy
            .and_then(|policy| policy.number("q"))
            .filter(|limit| *limit > 0);
        let remaining = item.number("r").ok_or(Unreadable)?;
        // Without a reset, the policy's window is the longest that it can be.
        let reset = match item.get("t") {
            Some(_) => Some(item.seconds("t").ok_or(Unreadable)?),
            None => policy.and_then(|policy| policy.seconds("w")),
        };
        let figures = reset.map(|reset| (limit, remaining, reset));
        tightest = tightest.into_iter().chain(figures).min_by_key(|f| f.1);
    }
    Ok(tightest)
}

/// An item of a structured field: a name and its parameters.
struct Item<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Item<'a> {
    fn parse(text: &'a str) -> Self {
        let name = split(text, ';').next().unwrap_or_default();
        let pair = |part: &'a str| {
            part.split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
        };
        Self {
            name: name.trim_matches('"'),
            parameters: split(text, ';').filter_map(pair).take(MAX_POLICIES).collect(),
        }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.parameters.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| *value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        digits(self.get(key)?)
    }

    fn seconds(&self, key: &str) -> Option<Duration> {
        let span = Duration::from_secs(self.number(key)?);
        (span <= MAX_AHEAD).then_some(span)
    }
}

/// The parts of a list, at most [`MAX_POLICIES`]; what stands in quotes is not split.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .take(MAX_POLICIES)
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::super::tests::{answer, at, seconds};
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Reading {
        super::read(&answer(200, headers, ""), at(1_800_000_000))
    }

    #[test]
    fn every_shape_of_the_headers() {
        let policy = ("ratelimit-policy", r#""default";q=100;w=60"#);
        let two = (
            "ratelimit-policy",
            r#""hour, all";q=1000;w=3600, "minute";q=100;w=60"#,
        );
        let bytes = ("ratelimit-policy", r#""size";q=65535;qu="content-bytes";w=10"#);
        let triple = |limit, remaining, reset| Some((limit, remaining, reset));
        for (headers, expected) in [
            (
                vec![("ratelimit", r#""default";r=50;t=30"#), policy],
                triple(Some(100), 50, 30),
            ),
            (
                vec![("ratelimit", r#""default";r=50;t=30"#)],
                triple(None, 50, 30),
            ),
            (
                vec![("ratelimit", "default;r=50;t=30"), policy],
                triple(Some(100), 50, 30),
            ),
            (
                vec![("ratelimit", r#""default";r=50"#), policy],
                triple(Some(100), 50, 60),
            ),
            (
                vec![
                    ("ratelimit", r#""hour, all";r=7;t=900"#),
                    ("ratelimit", r#""minute";r=99;t=3"#),
                    two,
                ],
                triple(Some(1000), 7, 900),
            ),
            (vec![("ratelimit", r#""size";r=5;t=3"#), bytes], None),
            (
                vec![("ratelimit", "limit=100, remaining=50, reset=5")],
                triple(Some(100), 50, 5),
            ),
            (
                vec![
                    ("ratelimit-limit", "100, 100;w=60, 1000;w=3600"),
                    ("ratelimit-remaining", "3"),
                    ("ratelimit-reset", "50"),
                ],
                triple(Some(100), 3, 50),
            ),
            (
                vec![
                    ("x-ratelimit-limit", "60"),
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1800000060"),
                ],
                triple(Some(60), 0, 61),
            ),
            (
                vec![
                    ("x-ratelimit-remaining", "5"),
                    ("x-ratelimit-reset", "1800000060000"),
                ],
                triple(None, 5, 60),
            ),
            (vec![("ratelimit", r#""default";r=50"#)], None),
            (vec![], None),
        ] {
            let reading = read(&headers);
            let standing = reading.standings.first();
            let found = standing.map(|s| (s.limit, s.remaining, s.reset.as_secs()));
            assert_eq!((found, reading.absurd), (expected, 0), "{headers:?}");
        }
    }

    #[test]
    fn nonsense_is_counted_and_ignored() {
        for value in [
            "x",
            "\"default\"",
            "\"default\";r=-1;t=3",
            "\"default\";r=5;t=-3",
            "\"default\";r=5;t=99999999999999",
            "\"default;r=5;t=3",
            "remaining=5",
            "\"a\", \"b\", \"c\";r=5;t=9",
            "limit=1, remaining=500, reset=5",
            "limit=9, remaining=5, reset=never",
        ] {
            let reading = read(&[("ratelimit", value)]);
            assert_eq!((reading.standings, reading.absurd), (vec![], 1), "{value}");
        }
    }

    #[test]
    fn refusals_wait_as_told() {
        let empty = [("ratelimit", r#""default";r=0;t=42"#)];
        for (headers, wait) in [
            (&[("retry-after", "7")][..], 7),
            (&empty, 42),
            (&[], 30),
            (&[("retry-after", "99999999999")], 30),
        ] {
            let answer = answer(429, headers, "");
            let reading = super::read(&answer, at(0));
            assert_eq!(reading.refusal, Some(Refusal::new(None, seconds(wait))));
            let failure = Provider::Other.failure(&answer, &reading, at(0)).unwrap_err();
            assert_eq!(
                (failure.class(), &*failure.reason().code),
                ("throttled", "http_429")
            );
        }
        let unavailable = answer(503, &[("retry-after", "7")], "");
        assert_eq!(super::read(&unavailable, at(0)).refusal, None);
    }
}
