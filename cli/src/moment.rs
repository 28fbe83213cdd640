//! Moments and spans as people read them.

use std::time::{Duration, SystemTime};

use shared::telemetry::propagation::rfc3339;

use crate::terminal::Span;

/// `now`, `250ms`, `4.2s`, `5m`.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.0005 => "now".into(),
        s if s < 0.9995 => format!("{:.0}ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1}s"),
        s => Span(s).to_string(),
    }
}

/// `in 4.2s`, or `now`.
pub(crate) fn within(seconds: f64) -> String {
    match span(seconds) {
        now if now == "now" => now,
        span => format!("in {span}"),
    }
}

/// `12:31:07 UTC (in 42s)`, with the date where it is another day's.
pub(crate) fn until(seconds: f64) -> String {
    let now = SystemTime::now();
    format!("{} ({})", clock(now, at(now, seconds)), within(seconds))
}

/// `12:31:07 UTC (42s ago)`, with the date where it was another day's.
pub(crate) fn since(millis: u64) -> String {
    let (now, then) = (SystemTime::now(), unix(millis));
    let ago = now.duration_since(then).unwrap_or_default().as_secs_f64();
    format!("{} ({} ago)", clock(now, then), Span(ago))
}

/// In how many seconds a moment is, below 0 when it has passed.
pub(crate) fn from_now(millis: u64) -> f64 {
    let (now, then) = (SystemTime::now(), unix(millis));
    match then.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64(),
    }
}

/// A moment that many seconds from now, RFC 3339.
pub(crate) fn stamp(seconds: f64) -> String {
    rfc3339(at(SystemTime::now(), seconds))
}

/// A moment that milliseconds since the Unix epoch name, bounded to what has a date.
pub(crate) fn unix(millis: u64) -> SystemTime {
    // The end of the year 9999.
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.min(253_402_300_799_000))
}

fn at(now: SystemTime, seconds: f64) -> SystemTime {
    // A century is for ever.
    now + Duration::from_secs_f64(seconds.clamp(0.0, 3.2e9))
}

fn clock(now: SystemTime, then: SystemTime) -> String {
    let (now, then) = (rfc3339(now), rfc3339(then));
    let part = |text: &str, from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    let time = part(&then, 11, 19);
    if part(&now, 0, 10) == part(&then, 0, 10) {
        format!("{time} UTC")
    } else {
        format!("{} {time} UTC", part(&then, 0, 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments_read_well() {
        for (seconds, text) in [
            (0.0, "now"),
            (-3.0, "now"),
            (0.25, "in 250ms"),
            (0.9999, "in 1.0s"),
            (4.21, "in 4.2s"),
            (42.4, "in 42s"),
            (600.0, "in 10m"),
        ] {
            assert_eq!(within(seconds), text);
        }
        let now = unix(1_795_248_000_000);
        assert_eq!(clock(now, now + Duration::from_secs(62)), "08:01:02 UTC");
        assert_eq!(
            clock(now, now + Duration::from_secs(86_400)),
            "2026-11-22 08:00:00 UTC"
        );
        assert!(until(f64::MAX).contains("UTC"));
        assert!(since(u64::MAX).contains("9999-12-31"));
    }
}
