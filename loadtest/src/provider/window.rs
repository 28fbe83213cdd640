//! A limit as people write it: so many calls per span of time.

use std::{fmt, str::FromStr, time::Duration};

use shared::config::value::duration;

/// At most `calls` calls in any span of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Calls allowed, 1 to 1,000,000.
    pub calls: u32,
    /// The span they are counted over, 1 ms to 24 h.
    pub per: Duration,
}

/// Why a text is no [`Window`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no limit: {why}; write for example '50 per second' or '10 per 250ms'")]
pub struct BadWindow {
    text: String,
    why: &'static str,
}

/// Most calls a window may allow: the log keeps one time for each of them.
const MAX_CALLS: u32 = 1_000_000;
const MAX_SPAN: Duration = Duration::from_hours(24);

impl Window {
    /// A window of `calls` per `per`; no bounds are checked.
    pub const fn new(calls: u32, per: Duration) -> Self {
        Self { calls, per }
    }

    /// `calls` in any second.
    pub const fn per_second(calls: u32) -> Self {
        Self::new(calls, Duration::from_secs(1))
    }

    /// `calls` in any minute.
    pub const fn per_minute(calls: u32) -> Self {
        Self::new(calls, Duration::from_mins(1))
    }

    /// `calls` in any hour.
    pub const fn per_hour(calls: u32) -> Self {
        Self::new(calls, Duration::from_hours(1))
    }
}

impl FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let bad = |why| BadWindow {
            text: text.chars().take(64).collect(),
            why,
        };
        let (calls, span) = text
            .split_once(" per ")
            .or_else(|| text.split_once('/'))
            .ok_or_else(|| bad("no ' per ' in it"))?;
        let calls: u32 = calls
            .trim()
            .replace(['_', ','], "")
            .parse()
            .map_err(|_| bad("the number of calls is no whole number"))?;
        if calls == 0 || calls > MAX_CALLS {
            return Err(bad("the number of calls must be 1 to 1,000,000"));
        }
        let per = span_of(span.trim()).ok_or_else(|| bad("the span of time is unknown"))?;
        if per < Duration::from_millis(1) || per > MAX_SPAN {
            return Err(bad("the span of time must be 1 ms to 24 h"));
        }
        Ok(Self { calls, per })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.per.as_millis();
        match millis {
            1_000 => write!(f, "{} per second", self.calls),
            60_000 => write!(f, "{} per minute", self.calls),
            3_600_000 => write!(f, "{} per hour", self.calls),
            _ if millis.is_multiple_of(1_000) => write!(f, "{} per {}s", self.calls, millis / 1_000),
            _ => write!(f, "{} per {millis}ms", self.calls),
        }
    }
}

fn span_of(text: &str) -> Option<Duration> {
    Some(match text {
        "second" | "s" => Duration::from_secs(1),
        "minute" | "min" | "m" => Duration::from_mins(1),
        "hour" | "h" => Duration::from_hours(1),
        "day" | "d" => MAX_SPAN,
        _ => return duration(text).ok(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, window) in [
            ("50 per second", Window::per_second(50)),
            ("100 per minute", Window::per_minute(100)),
            ("5,000 per hour", Window::per_hour(5000)),
            ("5000/h", Window::per_hour(5000)),
            ("10 per 250ms", Window::new(10, Duration::from_millis(250))),
            ("3 per 5s", Window::new(3, Duration::from_secs(5))),
        ] {
            assert_eq!(text.parse::<Window>().unwrap(), window, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for text in [
            "",
            "50",
            "x per second",
            "0 per second",
            "5 per year",
            "5 per 48h",
            "-1/s",
        ] {
            let error = text.parse::<Window>().unwrap_err().to_string();
            assert!(error.contains("is no limit"), "{text}: {error}");
        }
    }

    #[test]
    fn shows_itself_as_it_is_written() {
        for text in [
            "50 per second",
            "100 per minute",
            "7 per hour",
            "9 per 250ms",
            "4 per 5s",
        ] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
    }
}
