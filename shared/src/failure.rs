//! What can go wrong with an event, in one closed type: it becomes an HTTP status at one edge of the house and an
//! ack, a retry or a dead letter at the other, without a default branch at either.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Longest detail kept of a failure, in bytes: it travels in headers.
pub const MAX_DETAIL: usize = 400;

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// May succeed later by itself: a timeout, a 503, a lost connection. Uses up an attempt.
    Transient {
        /// What happened.
        reason: Reason,
        /// How long the other side asked us to stay away.
        retry_after: Option<Duration>,
        /// Whether the call may have had its effect all the same: it was sent, and no answer said what became of it.
        unknown: bool,
    },
    /// Over a limit, ours or theirs: nothing is wrong with the event, and no attempt is used up.
    Throttled {
        /// What happened.
        reason: Reason,
        /// How long until it may be tried again.
        wait: Duration,
    },
    /// Fails the same way every time: a dead letter.
    Permanent {
        /// What happened.
        reason: Reason,
    },
}

impl Failure {
    /// A failure that may pass.
    pub fn transient(code: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        Self::Transient {
            reason: Reason::new(code, detail),
            retry_after: None,
            unknown: false,
        }
    }

    /// A call of which nobody knows whether it had its effect.
    pub fn unknown(code: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        Self::Transient {
            reason: Reason::new(code, detail),
            retry_after: None,
            unknown: true,
        }
    }

    /// A failure that stays.
    pub fn permanent(code: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        Self::Permanent {
            reason: Reason::new(code, detail),
        }
    }

    /// A limit that is in the way for `wait`.
    pub fn throttled(code: impl Into<Cow<'static, str>>, detail: impl fmt::Display, wait: Duration) -> Self {
        Self::Throttled {
            reason: Reason::new(code, detail),
            wait,
        }
    }

    /// What happened.
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Transient { reason, .. } | Self::Throttled { reason, .. } | Self::Permanent { reason } => {
                reason
            }
        }
    }

    /// One word for metrics and the audit log.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Transient { .. } => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Permanent { .. } => "permanent",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason())
    }
}

/// Why: a word to count and filter by, and a sentence for people. Fits a header: one line, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// One word, for example `timeout` or `http_404`.
    pub code: Cow<'static, str>,
    /// The sentence, at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

impl Reason {
    /// Takes a reason; the detail is cut to size and put on one line.
    pub fn new(code: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        let mut line: String = detail
            .to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if line.len() > MAX_DETAIL {
            let end = (0..=MAX_DETAIL - 3)
                .rev()
                .find(|i| line.is_char_boundary(*i))
                .unwrap_or(0);
            line.truncate(end);
            line.push('…');
        }
        Self {
            code: word(code.into()),
            detail: line,
        }
    }
}

/// Codes may come from outside (an API's own name for an error): at most 64 characters that fit any header, label and
/// column.
fn word(code: Cow<'static, str>) -> Cow<'static, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=64).contains(&code.len()) && code.chars().all(fits) {
        return code;
    }
    let clean: String = code
        .chars()
        .take(64)
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    if clean.is_empty() {
        "unnamed".into()
    } else {
        clean.into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_fit_a_header() {
        let reason = Reason::new("x", format!("two\r\nlines {}", "ä".repeat(500)));
        assert!(reason.detail.len() <= MAX_DETAIL, "{}", reason.detail.len());
        assert!(!reason.detail.contains(['\r', '\n']));
        assert!(reason.detail.ends_with('…'));
        assert_eq!(Reason::new("http_404", "").code, "http_404");
        assert_eq!(Reason::new("bad\r\nX: y\0", "").code, "bad__X__y_");
        assert_eq!(Reason::new(String::new(), "").code, "unnamed");
        assert_eq!(Reason::new("ü".repeat(500), "").code.len(), 64);
    }
}
