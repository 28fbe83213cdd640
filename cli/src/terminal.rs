//! What goes to standard output and standard error. A reader that has gone away (`weir … | head`) is no error.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::Write as _;

/// A line of the command's result.
pub(crate) fn out(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The bytes of the command's result.
pub(crate) fn out_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// A line about the command's work, for people.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Text from outside with everything escaped that could steer a terminal, and at most `most` characters of it.
pub(crate) fn clean(text: &str, most: usize) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    if text.len() <= most && !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::new();
    let mut chars = text.chars();
    for c in chars.by_ref().take(most) {
        if steers(c) {
            let _ = write!(clean, "{}", c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    if chars.next().is_some() {
        clean.push('…');
    }
    Cow::Owned(clean)
}

/// Like [`clean`], line by line: line ends and tabs stay.
pub(crate) fn clean_lines(text: &str) -> String {
    text.split('\n')
        .map(|line| clean(&line.replace('\t', "    "), usize::MAX).into_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A span of time as people say it: `3s`, `5m`, `2h`, `4d`.
pub(crate) struct Span(pub(crate) f64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0);
        match seconds as u64 {
            0..120 => write!(f, "{seconds:.0}s"),
            s @ 120..7_200 => write!(f, "{}m", s / 60),
            s @ 7_200..172_800 => write!(f, "{}h", s / 3_600),
            s => write!(f, "{}d", s / 86_400),
        }
    }
}

/// The NATS client panics on some headers that any publisher can write. Its connection ends, which whoever uses it is told
/// as an error; people need not read how.
pub(crate) fn quiet_client() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_the_client = |place: &std::panic::Location<'_>| place.file().contains("async-nats");
        if !panic.location().is_some_and(of_the_client) {
            tell(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_steer_the_terminal() {
        assert_eq!(clean("plain ä", 100), "plain ä");
        assert_eq!(clean("\x1b[2Jx\u{202e}", 100), "\\u{1b}[2Jx\\u{202e}");
        assert_eq!(clean("abcdef", 3), "abc…");
        assert_eq!(clean_lines("a\tb\nc\r"), "a    b\nc\\u{d}");
    }

    #[test]
    fn spans_are_short() {
        for (seconds, text) in [
            (0.4, "0s"),
            (119.0, "119s"),
            (600.0, "10m"),
            (7_300.0, "2h"),
            (1e6, "11d"),
        ] {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}
