//! Reading figures and moments from headers that anybody may have written: what makes no sense is ignored and counted.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Standing;
use crate::outbound::Answer;

/// No limit is counted over more than a month: a reset further ahead is a mistake.
pub(super) const MAX_AHEAD: Duration = Duration::from_secs(32 * 86_400);
/// No limit is larger.
pub(super) const MAX_COUNT: u64 = 1_000_000_000_000_000;
/// No figure is longer, in bytes.
const MAX_TEXT: usize = 256;
const SECOND: Duration = Duration::from_secs(1);

/// The headers of one answer, and how many of them made no sense.
pub(super) struct Headers<'a> {
    map: &'a HeaderMap,
    /// The provider's clock, since the Unix epoch.
    clock: Duration,
    /// Headers that were ignored.
    pub(super) absurd: u32,
}

impl<'a> Headers<'a> {
    /// The headers of `answer`. Its `Date` is the provider's clock; without one it is `now`. A `Date` is cut to whole
    /// seconds, which makes waits up to a second longer, never shorter.
    pub(super) fn new(answer: &'a Answer, now: SystemTime) -> Self {
        let mut headers = Self {
            map: &answer.headers,
            clock: since_epoch(now),
            absurd: 0,
        };
        if let Some(date) = headers.read("date", |text| httpdate::parse_http_date(text).ok()) {
            headers.clock = since_epoch(date);
        }
        headers
    }

    /// Whether there is such a header.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A header as `parse` reads it. Several that say the same are one; several that differ are none, for nobody
    /// knows which of them is the provider's.
    pub(super) fn read<T>(&mut self, name: &str, parse: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let mut all = self.map.get_all(name).iter();
        let first = all.next()?;
        let same = all.all(|other| other == first);
        let text = first.to_str().ok().filter(|text| same && text.len() <= MAX_TEXT);
        let value = text.and_then(|text| parse(text.trim()));
        self.absurd += u32::from(value.is_none());
        value
    }

    /// A word.
    pub(super) fn word(&mut self, name: &str) -> Option<&'a str> {
        self.read(name, |text| (!text.is_empty()).then_some(text))
    }

    /// All lines of a header that is a list, joined.
    pub(super) fn list(&mut self, name: &str) -> Option<String> {
        let lines: Option<Vec<&str>> = self.map.get_all(name).iter().map(|v| v.to_str().ok()).collect();
        let joined = lines
            .map(|lines| lines.join(","))
            .filter(|text| text.len() <= 8 * MAX_TEXT);
        self.absurd += u32::from(joined.is_none());
        joined.filter(|text| !text.is_empty())
    }

    /// A whole number, at most [`MAX_COUNT`].
    pub(super) fn count(&mut self, name: &str) -> Option<u64> {
        self.read(name, digits)
    }

    /// A moment in seconds since the Unix epoch. It may come up to a second later than said: a second is added.
    pub(super) fn epoch_seconds(&mut self, name: &str) -> Option<Duration> {
        let clock = self.clock;
        self.read(name, |text| {
            until(clock, Duration::from_secs(digits(text)?), true)
        })
    }

    /// A moment in milliseconds since the Unix epoch.
    pub(super) fn epoch_millis(&mut self, name: &str) -> Option<Duration> {
        let clock = self.clock;
        self.read(name, |text| {
            until(clock, Duration::from_millis(digits(text)?), false)
        })
    }

    /// A moment as RFC 3339 writes it; a second is added to one without a fraction.
    pub(super) fn rfc3339(&mut self, name: &str) -> Option<Duration> {
        let clock = self.clock;
        self.read(name, |text| {
            let at = SystemTime::from(OffsetDateTime::parse(text, &Rfc3339).ok()?);
            until(clock, since_epoch(at), !text.contains('.'))
        })
    }

    /// A span as Go writes it (`6m0s`, `20ms`, `1h2m3.5s`), or plain seconds.
    pub(super) fn span(&mut self, name: &str) -> Option<Duration> {
        self.read(name, span)
    }

    /// Where the provider does not say what a reset is: seconds from now, a moment in seconds, or one in milliseconds,
    /// told apart by their size. Seconds from now are taken as they are: whoever sends them rounds up as for
    /// `Retry-After`.
    pub(super) fn any_reset(&mut self, name: &str) -> Option<Duration> {
        let clock = self.clock;
        self.read(name, |text| match digits(text) {
            Some(moment @ 1_000_000_000..1_000_000_000_000) => {
                until(clock, Duration::from_secs(moment), true)
            }
            Some(moment @ 1_000_000_000_000..) => until(clock, Duration::from_millis(moment), false),
            _ => span(text),
        })
    }

    /// How long the provider asks us to stay away: `Retry-After-Ms`, which OpenAI's and Anthropic's clients read first,
    /// else `Retry-After` in seconds, with a fraction or without, or as a date.
    pub(super) fn retry_after(&mut self) -> Option<Duration> {
        let millis = self.read("retry-after-ms", |text| bounded(decimal(text)? / 1_000.0));
        let clock = self.clock;
        let plain = self.read("retry-after", |text| match httpdate::parse_http_date(text) {
            Ok(date) => until(clock, since_epoch(date), false),
            Err(_) => bounded(decimal(text)?),
        });
        millis.or(plain)
    }

    /// Where a limit stands by the three headers `[limit, remaining, reset]`; `reset` reads the last one. `None` when
    /// one of the latter two is missing, or when more remains than there can be.
    pub(super) fn standing(
        &mut self,
        dimension: &'static str,
        names: [&str; 3],
        reset: impl FnOnce(&mut Self, &str) -> Option<Duration>,
    ) -> Option<Standing> {
        let limit = self.read(names[0], |text| digits(text).filter(|limit| *limit > 0));
        let remaining = self.count(names[1]);
        let reset = reset(self, names[2]);
        self.checked(dimension, limit, remaining?, reset?)
    }

    /// A standing whose figures agree. A little above the limit is what some buckets show, and as good as full; twice
    /// the limit is nonsense.
    pub(super) fn checked(
        &mut self,
        dimension: &'static str,
        limit: Option<u64>,
        remaining: u64,
        reset: Duration,
    ) -> Option<Standing> {
        if limit.is_some_and(|limit| remaining > limit.saturating_mul(2)) {
            self.absurd += 1;
            return None;
        }
        Some(Standing {
            dimension,
            limit,
            remaining: limit.map_or(remaining, |limit| remaining.min(limit)),
            reset,
        })
    }
}

fn since_epoch(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// How long from `clock` until `at`: zero when it has passed, `None` when it is absurdly far ahead.
fn until(clock: Duration, at: Duration, whole_seconds: bool) -> Option<Duration> {
    if at.saturating_sub(clock) > MAX_AHEAD {
        return None;
    }
    let later = if whole_seconds { SECOND } else { Duration::ZERO };
    Some((at + later).saturating_sub(clock).min(MAX_AHEAD))
}

/// Digits and nothing else, no more than [`MAX_COUNT`].
pub(super) fn digits(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number <= MAX_COUNT)
}

/// Numbers with units, at most [`MAX_AHEAD`] together; one number without a unit is seconds.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    loop {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number = decimal(&rest[..end])?;
        let units = &rest[end..];
        let unit = &units[..units.find(|c: char| c.is_ascii_digit()).unwrap_or(units.len())];
        seconds += number
            * match unit {
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                "" if rest.len() == text.len() => 1.0,
                _ => return None,
            };
        rest = &units[unit.len()..];
        if rest.is_empty() {
            break;
        }
    }
    bounded(seconds)
}

/// Digits with or without a fraction: no sign, no exponent, no words.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

fn bounded(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|span| *span <= MAX_AHEAD)
}

#[cfg(test)]
mod tests {
    use super::super::tests::answer;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn spans_as_go_writes_them() {
        for (text, millis) in [
            ("6m0s", 360_000),
            ("20ms", 20),
            ("1.5s", 1_500),
            ("1h2m3s", 3_723_000),
            ("2m59.56s", 179_560),
            ("0s", 0),
            ("0", 0),
            ("17", 17_000),
            ("0.25", 250),
            ("1500us", 1),
        ] {
            assert_eq!(span(text).map(|d| d.as_millis()), Some(millis), "{text:?}");
        }
        for bad in [
            "",
            "s",
            "-1s",
            "+1s",
            "1s2",
            "1e9s",
            "NaN",
            "inf",
            "1..5s",
            "5 s",
            "1d",
            "99999999h",
            "6m0s;",
            "1m1",
        ] {
            assert_eq!(span(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn waits_in_all_three_forms() {
        let of = |name: &str, text: &str| {
            let answer = answer(429, &[(name, text)], "");
            let mut headers = Headers::new(&answer, at(1_800_000_000));
            (headers.retry_after().map(|d| d.as_millis()), headers.absurd)
        };
        assert_eq!(of("retry-after", "17"), (Some(17_000), 0));
        assert_eq!(of("retry-after", "0.5"), (Some(500), 0));
        assert_eq!(
            of("retry-after", "Fri, 15 Jan 2027 08:01:00 GMT"),
            (Some(60_000), 0)
        );
        assert_eq!(of("retry-after", "Fri, 15 Jan 2021 08:01:00 GMT"), (Some(0), 0));
        assert_eq!(of("retry-after-ms", "3600000"), (Some(3_600_000), 0));
        assert_eq!(of("retry-after-ms", "20.5"), (Some(20), 0));
        for bad in [
            "-1",
            "soon",
            "",
            "1e3",
            "NaN",
            "31536000",
            "99999999999999999999999",
        ] {
            assert_eq!(of("retry-after", bad), (None, 1), "{bad:?}");
        }
    }

    #[test]
    fn moments_are_measured_by_the_providers_clock() {
        // The provider's clock is an hour ahead of ours.
        let date = httpdate::fmt_http_date(at(1_800_003_600));
        let answer = answer(
            200,
            &[
                ("date", date.as_str()),
                ("seconds", "1800003660"),
                ("millis", "1800003660500"),
                ("whole", "2027-01-15T09:01:00Z"),
                ("fraction", "2027-01-15T10:01:00.250+01:00"),
                ("past", "1800003000"),
                ("year-ahead", "1831539600"),
                ("retry-after", "Fri, 15 Jan 2027 09:00:30 GMT"),
            ],
            "",
        );
        let mut headers = Headers::new(&answer, at(1_800_000_000));
        assert_eq!(headers.epoch_seconds("seconds"), Some(Duration::from_secs(61)));
        assert_eq!(
            headers.epoch_millis("millis"),
            Some(Duration::from_millis(60_500))
        );
        assert_eq!(headers.rfc3339("whole"), Some(Duration::from_secs(61)));
        assert_eq!(headers.rfc3339("fraction"), Some(Duration::from_millis(60_250)));
        assert_eq!(headers.epoch_seconds("past"), Some(Duration::ZERO));
        assert_eq!(headers.retry_after(), Some(Duration::from_secs(30)));
        assert_eq!(headers.absurd, 0);
        assert_eq!(headers.epoch_seconds("year-ahead"), None);
        assert_eq!(headers.absurd, 1);
    }

    #[test]
    fn without_a_date_our_clock_serves() {
        for (date, absurd) in [(None, 0), (Some("yesterday"), 1)] {
            let mut all = vec![("reset", "1800000060")];
            all.extend(date.map(|date| ("date", date)));
            let answer = answer(200, &all, "");
            let mut headers = Headers::new(&answer, at(1_800_000_000));
            assert_eq!(headers.any_reset("reset"), Some(Duration::from_secs(61)));
            assert_eq!(headers.absurd, absurd);
        }
    }

    #[test]
    fn figures_that_make_no_sense_are_counted_once_each() {
        let bad = [
            "-1",
            "+1",
            "1.5",
            "",
            "NaN",
            "0x10",
            "1 2",
            "1,2",
            "18446744073709551616",
            "9999999999999999",
        ];
        for text in bad {
            let answer = answer(200, &[("n", text)], "");
            let mut headers = Headers::new(&answer, at(0));
            assert_eq!((headers.count("n"), headers.absurd), (None, 1), "{text:?}");
        }
        let answer = answer(
            200,
            &[("twice", "5"), ("twice", "6"), ("same", "7"), ("same", "7")],
            "",
        );
        let mut headers = Headers::new(&answer, at(0));
        assert_eq!(
            (headers.count("twice"), headers.count("same"), headers.absurd),
            (None, Some(7), 1)
        );
    }

    #[test]
    fn standings_agree_with_themselves() {
        let of = |limit: &str, remaining: &str| {
            let answer = answer(200, &[("l", limit), ("r", remaining), ("t", "9")], "");
            let mut headers = Headers::new(&answer, at(0));
            let standing = headers.standing("requests", ["l", "r", "t"], Headers::span);
            (standing.map(|s| (s.limit, s.remaining)), headers.absurd)
        };
        assert_eq!(of("100", "42"), (Some((Some(100), 42)), 0));
        assert_eq!(of("100", "101"), (Some((Some(100), 100)), 0));
        assert_eq!(of("100", "9000"), (None, 1));
        assert_eq!(of("0", "5"), (Some((None, 5)), 1));
        assert_eq!(of("-1", "-1"), (None, 2));
    }
}
