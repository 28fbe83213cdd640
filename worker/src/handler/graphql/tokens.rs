//! A document split into its tokens. Source: the GraphQL specification, October 2021, section 2.1.

use std::ops::Range;

/// A token: what it is and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    /// `...`
    Spread,
    /// One of `! $ & ( ) : = @ [ ] { | }`.
    Mark(u8),
}

/// The tokens of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let run = |from: usize, more: fn(u8) -> bool| {
        let rest = bytes[from..].iter().position(|b| !more(*b));
        rest.map_or(bytes.len(), |length| from + length)
    };
    while let Some(&byte) = bytes.get(at) {
        let (kind, end) = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at = run(at, |b| b != b'\n' && b != b'\r');
                continue;
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                (Kind::Name, run(at, |b| b == b'_' || b.is_ascii_alphanumeric()))
            }
            b'-' | b'0'..=b'9' => {
                let more = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
                (Kind::Number, run(at + 1, more))
            }
            b'.' if bytes[at..].starts_with(b"...") => (Kind::Spread, at + 3),
            b'"' => (
                Kind::Text,
                string(bytes, at).ok_or("a text in query does not end")?,
            ),
            b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|' | b'}' => {
                (Kind::Mark(byte), at + 1)
            }
            _ => return Err("query holds a character that GraphQL does not have"),
        };
        tokens.push(Token { kind, at: at..end });
        at = end;
    }
    Ok(tokens)
}

/// Where a text ends that begins here.
fn string(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes[start..].starts_with(b"\"\"\"") {
        let mut at = start + 3;
        loop {
            let rest = bytes.get(at..)?;
            if rest.starts_with(b"\\\"\"\"") {
                at += 4;
            } else if rest.starts_with(b"\"\"\"") {
                return Some(at + 3);
            } else if rest.is_empty() {
                return None;
            } else {
                at += 1;
            }
        }
    }
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            b'\n' | b'\r' => return None,
            _ => at += 1,
        }
    }
}
