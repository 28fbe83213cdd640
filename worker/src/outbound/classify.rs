//! What a status means where the provider has no rules of its own: pure.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use shared::failure::{Failure, Reason};

use super::Answer;

/// How long the other side asks us to stay away: `Retry-After` as seconds or as a date. `None` when it is absent or
/// unreadable; never more than a day.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) if !text.starts_with('+') => Duration::from_secs(seconds),
        _ => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(wait.min(Duration::from_secs(86_400)))
}

/// When the answer was given, on the other side's clock.
pub fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

/// Success, or the failure that a status is by RFC 9110: 429 throttles; 408, 425 and 5xx may pass; every other status
/// stays, a redirect included. After a 5xx the effect is unknown, but for a 503 that says when to come again: that is a
/// server, or what stands before it, that refuses work; without it, it may be one that broke off.
pub fn by_status(answer: &Answer, now: SystemTime) -> Result<(), Failure> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let code = format!("http_{}", status.as_u16());
    let reason = Reason::new(code, excerpt(answer));
    let retry_after = retry_after(&answer.headers, now);
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS => Failure::Throttled {
            reason,
            wait: retry_after.unwrap_or(Duration::from_secs(30)),
        },
        // The request was not taken.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Failure::Transient {
            reason,
            retry_after,
            unknown: false,
        },
        StatusCode::SERVICE_UNAVAILABLE => Failure::Transient {
            reason,
            retry_after,
            unknown: retry_after.is_none(),
        },
        // Will not be different tomorrow.
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Failure::Permanent { reason },
        // A gateway that lost the answer says so, and a server that broke off may have done its work.
        _ if status.as_u16() >= 500 => Failure::Transient {
            reason,
            retry_after,
            unknown: true,
        },
        _ => Failure::Permanent { reason },
    })
}

/// The beginning of an answer's body, for people.
pub fn excerpt(answer: &Answer) -> String {
    let start = &answer.body[..answer.body.len().min(300)];
    let text = String::from_utf8_lossy(start);
    if text.trim().is_empty() {
        answer.status.canonical_reason().unwrap_or("no body").to_owned()
    } else {
        text.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let headers = headers
            .iter()
            .map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap()))
            .collect();
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: "why".into(),
            cut: false,
        }
    }

    #[test]
    fn every_status_has_its_failure() {
        let now = SystemTime::UNIX_EPOCH;
        for status in [200, 201, 204] {
            assert!(by_status(&answer(status, &[]), now).is_ok());
        }
        for status in [301, 400, 401, 403, 404, 410, 422, 501] {
            assert_eq!(
                by_status(&answer(status, &[]), now).unwrap_err().class(),
                "permanent",
                "{status}"
            );
        }
        for status in [408, 425, 500, 502, 503, 504, 529] {
            assert_eq!(
                by_status(&answer(status, &[]), now).unwrap_err().class(),
                "transient",
                "{status}"
            );
        }
        // Whoever says when to come again has not begun.
        let unknown = |status, headers: &[_]| match by_status(&answer(status, headers), now).unwrap_err() {
            Failure::Transient { unknown, .. } => unknown,
            other => panic!("{other:?}"),
        };
        assert!(unknown(500, &[]) && unknown(502, &[]) && unknown(504, &[]) && unknown(503, &[]));
        assert!(!unknown(408, &[]) && !unknown(425, &[]) && !unknown(503, &[("retry-after", "7")]));
        let throttled = by_status(&answer(429, &[("retry-after", "7")]), now).unwrap_err();
        assert!(matches!(throttled, Failure::Throttled { wait, .. } if wait.as_secs() == 7));
    }

    #[test]
    fn retry_after_in_both_forms_and_bounded() {
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 08:00:00 GMT").unwrap();
        let read =
            |text| retry_after(&answer(503, &[("retry-after", text)]).headers, now).map(|d| d.as_secs());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Sat, 21 Nov 2026 08:01:00 GMT"), Some(60));
        assert_eq!(
            read("Sat, 21 Nov 2020 08:01:00 GMT"),
            Some(0),
            "a date that has passed"
        );
        assert_eq!(read("99999999999"), Some(86_400));
        for bad in ["-1", "+1", "soon", "1.5", ""] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
