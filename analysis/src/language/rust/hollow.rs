//! Most of a source is functions' bodies, and most brackets in them hold nothing that means anything: arguments, fields,
//! blocks that do not branch. They are handed to the parser empty.

use std::mem::take;

use super::elide::word_before;
use crate::words::Words;

/// Brackets in brackets that are emptied by themselves; deeper ones go with what they are in.
const MAX_DEPTH: usize = 64;

/// The word that says what the brackets after it are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Header {
    #[default]
    None,
    Fn,
    /// Up to its braces there may be a name that has brackets.
    Impl,
    Use,
}

#[derive(Default)]
struct Level {
    /// The bracket that ends it.
    closes: u8,
    header: Header,
    /// Whether it is in the body of a function.
    in_body: bool,
    /// Whether it is part of a name or of an import.
    kept: bool,
    /// Where it begins, and the number of words before it, if it may be emptied.
    content: Option<Content>,
}

struct Content {
    from: usize,
    /// The same in what is handed on.
    length: usize,
    words: usize,
}

/// `text` has neither comments nor strings. `None` if its brackets do not match.
pub(super) fn hollow(text: &[u8], words: &Words) -> Option<Vec<u8>> {
    let marks = words.find(text);
    let (mut out, mut copied, mut passed) = (Vec::with_capacity(text.len()), 0, 0);
    let mut levels = vec![Level::default()];
    for (at, sign) in text.iter().enumerate() {
        if !matches!(sign, b'(' | b'[' | b'{' | b')' | b']' | b'}' | b';') {
            continue;
        }
        let depth = levels.len();
        let level = levels.last_mut()?;
        while let Some(mark) = marks.get(passed).filter(|mark| (**mark as usize) < at) {
            passed += 1;
            if level.header == Header::None {
                level.header = header(&text[*mark as usize..]);
            }
        }
        let closes = match sign {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            b';' => {
                level.header = Header::None;
                continue;
            }
            _ => {
                let level = levels.pop().filter(|level| level.closes == *sign)?;
                if let Some(content) = level.content.filter(|content| content.words == passed) {
                    out.truncate(content.length);
                    let emptied = text[content.from..at].iter();
                    out.extend(emptied.filter(|byte| **byte == b'\n'));
                    copied = at;
                }
                continue;
            }
        };
        let header = match sign {
            b'{' => take(&mut level.header),
            _ => level.header,
        };
        let named = header == Header::Use || header == Header::Impl && *sign != b'{';
        let mut inner = Level {
            closes,
            header: Header::None,
            in_body: level.in_body || header == Header::Fn && *sign == b'{',
            kept: level.kept || named,
            content: None,
        };
        let empties = inner.in_body && !inner.kept && *sign != b'[' && depth <= MAX_DEPTH;
        if empties && word_before(text[..at].trim_ascii_end()) != b"pub" {
            out.extend_from_slice(&text[copied..=at]);
            copied = at + 1;
            inner.content = Some(Content {
                from: copied,
                length: out.len(),
                words: passed,
            });
        }
        levels.push(inner);
    }
    out.extend_from_slice(&text[copied..]);
    (levels.len() == 1).then_some(out)
}

fn header(word: &[u8]) -> Header {
    match word {
        [b'f', b'n', ..] => Header::Fn,
        [b'i', b'm', ..] => Header::Impl,
        [b'u', b's', ..] => Header::Use,
        _ => Header::None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::hollow;
    use crate::language::Language;

    #[track_caller]
    fn to(source: &str, left: &str) {
        let out = hollow(source.as_bytes(), &Language::Rust.grammar().words).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), left);
    }

    #[test]
    fn brackets_without_words_are_empty_in_bodies() {
        to("fn a(b: C) -> D { e(f);\n g { h: [i] } }", "fn a(b: C) -> D {\n}");
        to(
            "fn a() { b(c)?; d(e(f)); { g\n(h) } }",
            "fn a() { b()?; d(); {\n} }",
        );
        to(
            "fn a() { if b(c) { d } else { e } [f(g)] }",
            "fn a() { if b() {} else {} [f()] }",
        );
        to(
            "fn a() -> impl B { c(d || e, (f, g)) }",
            "fn a() -> impl B { c(d || e, ()) }",
        );
    }

    #[test]
    fn names_and_imports_are_kept() {
        for kept in [
            "struct A { b: (C, D) } struct E(F); fn g(h: I);",
            "fn a() { use b::{c, {d, e}}; }",
            "fn a() { impl B for &(C, D) { fn e() {} } }",
            "fn a() { mod b { pub (crate) mod c {} } }",
        ] {
            to(kept, kept);
        }
    }

    #[test]
    fn deep_ones_go_with_what_they_are_in() {
        let deep = format!("fn a() {{ if {}\n{} }}", "(".repeat(100_000), ")".repeat(100_000));
        to(&deep, "fn a() { if (\n) }");
    }

    #[test]
    fn brackets_match_or_nothing_is_certain() {
        for source in ["(", ")", "fn a() { (] }", "fn a() { } }"] {
            assert!(hollow(source.as_bytes(), &Language::Rust.grammar().words).is_none());
        }
    }
}
