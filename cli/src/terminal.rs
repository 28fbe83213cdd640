//! What goes to standard output and standard error. A reader that has gone away (`weir … | head`) is no error.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::Write as _;

use serde::Serialize;

/// A line of the command's result, for people: nothing in it steers the terminal.
pub(crate) fn out(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{}", clean_lines(&line.to_string()));
}

/// A line of the command's result, for programs.
pub(crate) fn out_json(value: &impl Serialize) {
    let _ = writeln!(std::io::stdout(), "{}", json_line(value));
}

/// A value as one line of JSON. It may well end in a terminal: what could steer one is escaped, which readers undo.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    let mut line = String::new();
    for c in serde_json::to_string(value).unwrap_or_default().chars() {
        if steers(c) {
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

/// The bytes of the command's result.
pub(crate) fn out_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// A line about the command's work, for people: nothing in it steers the terminal.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", clean_lines(&line.to_string()));
}

/// Whether a terminal does something else with it than show it: control characters, separators of lines, and Unicode's
/// `Bidi_Control`, which shows text in another order than it has. All of them have four hexadecimal digits at most.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Text from outside with everything escaped that could steer a terminal, and at most `most` characters of it.
pub(crate) fn clean(text: &str, most: usize) -> Cow<'_, str> {
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
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;

    /// Unicode's `Bidi_Control`, its separators of lines, and control characters.
    const STEERS: &str = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{2029}\u{85}\u{7f}\u{9b}\u{1b}\u{0}";

    #[test]
    fn json_steers_no_terminal_and_says_the_same() {
        let value = serde_json::json!({ format!("name{STEERS}"): [STEERS, "plain ä", "\n\t"] });
        let line = json_line(&value);
        assert!(!line.chars().any(steers), "{line:?}");
        assert!(line.contains("\\u202e") && line.contains('ä'), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

    #[test]
    fn what_comes_from_outside_cannot_steer_the_terminal() {
        assert_eq!(clean("plain ä", 100), "plain ä");
        assert_eq!(clean("\x1b[2Jx\u{202e}", 100), "\\u{1b}[2Jx\\u{202e}");
        assert_eq!(clean("abcdef", 3), "abc…");
        for c in STEERS.chars() {
            assert_eq!(clean(&c.to_string(), 100), c.escape_unicode().to_string());
        }
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
