//! What means nothing in Rust: comments, what strings hold, attributes, and what macros are given, which is tokens to the
//! grammar and no syntax.

use std::ops::Range;

use crate::elide::hollow::{Brackets, Header, hollow};
use crate::elide::{Elided, Scan, Telling, trimmed, word_at, word_before};
use crate::words::Words;

/// After these words, a `!` and a bracket are no macro's.
const NO_MACRO: [&[u8]; 20] = [
    b"as", b"box", b"break", b"const", b"dyn", b"else", b"for", b"if", b"impl", b"in", b"let", b"match",
    b"move", b"mut", b"ref", b"return", b"unsafe", b"where", b"while", b"yield",
];
/// Longest character that is written with a backslash, in bytes: `'\u{1_0_f_f_f_f}'`, and some more.
const MAX_ESCAPE: usize = 24;

static TELLING: Telling = Telling::new(b"\"'/#!()[]{}");

static BRACKETS: Brackets = Brackets {
    header: |word| match word {
        b"fn" => Header::Body,
        b"use" => Header::Import,
        _ => Header::None,
    },
    may_be_empty: |before, _| word_before(trimmed(before)) != b"pub",
};

enum Piece {
    /// With what is between its quotes; a character too.
    String(Range<usize>),
    Comment,
    /// A sign.
    Other,
}

/// `None` if brackets do not match or something does not end: then nothing is certain.
pub(super) fn elide(source: &[u8], words: &Words) -> Option<Elided> {
    leave_out(source).map(|left| hollow(left, words, &BRACKETS))
}

fn leave_out(source: &[u8]) -> Option<Elided> {
    let mut rust = Rust {
        scan: Scan::new(source, &TELLING),
    };
    let start = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    if let Some(rest) = start.strip_prefix(b"#!")
        && !rest.trim_ascii_start().starts_with(b"[")
    {
        // For the shell.
        rust.scan.at = rust.scan.line_end(0);
    }
    while rust.scan.find() {
        let from = rust.scan.at;
        match (rust.piece()?, source[from]) {
            (Piece::String(content), _) => rust.scan.cut(content),
            (Piece::Comment, _) => rust.scan.blank(from..rust.scan.at),
            (Piece::Other, b'#') => {
                if let Some(bracket) = rust.attribute(from) {
                    rust.balance(bracket)?;
                    rust.scan.blank(from..rust.scan.at);
                }
            }
            (Piece::Other, b'!') => {
                if let Some(bracket) = rust.macro_bracket(from) {
                    rust.balance(bracket)?;
                    rust.scan.cut(bracket + 1..rust.scan.at - 1);
                }
            }
            (Piece::Other, _) => {}
        }
    }
    Some(rust.scan.finish())
}

struct Rust<'a> {
    scan: Scan<'a>,
}

impl Rust<'_> {
    /// Goes over what begins here.
    fn piece(&mut self) -> Option<Piece> {
        let scan = &mut self.scan;
        match (scan.byte(scan.at), scan.byte(scan.at + 1)) {
            (b'"', _) => return self.string().map(Piece::String),
            (b'\'', _) => return self.quote(),
            (b'/', b'/') => scan.line_comment(),
            (b'/', b'*') => scan.block_comment(true)?,
            _ => {
                scan.at += 1;
                return Some(Piece::Other);
            }
        }
        Some(Piece::Comment)
    }

    /// Goes over a string; what is between its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let (source, open) = (self.scan.source, self.scan.at);
        let Some(hashes) = self.raw(open) else {
            return self.scan.quoted();
        };
        let mut at = open + 1;
        loop {
            at += source[at..].iter().position(|byte| *byte == b'"')?;
            let after = &source[at + 1..];
            if after.len() >= hashes && after[..hashes].iter().all(|byte| *byte == b'#') {
                self.scan.at = at + 1 + hashes;
                return Some(open + 1..at);
            }
            at += 1;
        }
    }

    /// The number of signs around a raw string whose first quote is at `open`; `None` if it is none.
    fn raw(&self, open: usize) -> Option<usize> {
        let before = &self.scan.source[..open];
        let hashes = before.iter().rev().take_while(|byte| **byte == b'#').count();
        let word = word_before(&before[..open - hashes]);
        matches!(word, b"r" | b"br" | b"cr").then_some(hashes)
    }

    /// Goes over a character, or the sign of a lifetime.
    fn quote(&mut self) -> Option<Piece> {
        let inside = self.scan.at + 1;
        let first = self.scan.byte(inside);
        let end = if first == b'\\' {
            let rest = &self.scan.source[inside..];
            let rest = &rest[..rest.len().min(MAX_ESCAPE)];
            // What follows the backslash may be a quote.
            inside + 2 + rest.iter().skip(2).position(|byte| *byte == b'\'')?
        } else {
            inside + (first.leading_ones() as usize).clamp(1, 4)
        };
        if self.scan.byte(end) != b'\'' {
            self.scan.at = inside;
            return Some(Piece::Other);
        }
        self.scan.at = end + 1;
        Some(Piece::String(inside..end))
    }

    /// The bracket of the attribute that begins with the `#` at `from`.
    fn attribute(&self, from: usize) -> Option<usize> {
        let bracket = from + 1 + usize::from(self.scan.byte(from + 1) == b'!');
        (self.scan.byte(bracket) == b'[').then_some(bracket)
    }

    /// The bracket of the macro whose `!` is at `from`: of a call, or of what `macro_rules!` defines.
    fn macro_bracket(&self, from: usize) -> Option<usize> {
        let name = word_before(&self.scan.source[..from]);
        let label = from
            .checked_sub(name.len() + 1)
            .map(|before| self.scan.source[before])
            == Some(b'\'');
        if name.is_empty() || label || NO_MACRO.contains(&name) {
            return None;
        }
        let mut bracket = self.past_space(from + 1);
        if name == b"macro_rules" {
            let defined = word_at(&self.scan.source[bracket..]);
            bracket = self.past_space(bracket + defined.len());
        }
        matches!(self.scan.byte(bracket), b'(' | b'[' | b'{').then_some(bracket)
    }

    fn past_space(&self, from: usize) -> usize {
        let rest = &self.scan.source[from..];
        from + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
    }

    /// Goes from a bracket past the one that closes it.
    fn balance(&mut self, bracket: usize) -> Option<()> {
        let mut open = Vec::new();
        self.scan.at = bracket;
        loop {
            if !self.scan.find() {
                return None;
            }
            let sign = self.scan.source[self.scan.at];
            if !matches!(self.piece()?, Piece::Other) {
                continue;
            }
            match sign {
                b'(' => open.push(b')'),
                b'[' => open.push(b']'),
                b'{' => open.push(b'}'),
                b')' | b']' | b'}' if open.pop() != Some(sign) => return None,
                _ => {}
            }
            if open.is_empty() {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::{elide, leave_out};
    use crate::language::Language;

    #[track_caller]
    fn to(source: &str, left: &str) {
        let elided = leave_out(source.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(elided.text).unwrap(), left);
    }

    #[test]
    fn what_means_nothing_is_left_out_but_for_its_lines() {
        to("a // b\nc", "a  \nc");
        to("a/* b /* \n */ c */d", "a\n d");
        to("a(\"b \\\" // c\n\", b\"d\")", "a(\"\n\", b\"\")");
        to("r\"\\\" br#\"\"\"# \"c\"", "r\"\" br#\"\"# \"\"");
        to("'\"' '\\'' '\\u{22}' b'/' '\u{e4}'", "'' '' '' b'' ''");
        to("#[a(\"]\")]b#![c[\nd]]e", " b\n e");
        to(
            "a!(b(c), ')', \"]\" /* ) */) d::e! {\n} f![]",
            "a!() d::e! {\n} f![]",
        );
        to("macro_rules! a { ($b) => { c!() } } d", "macro_rules! a {} d");
    }

    #[test]
    fn what_looks_like_it_is_kept() {
        for kept in [
            "if!(a) while!(b) a != (b) !(c)",
            "<'a> 'b: loop '",
            "a / b /c",
            "# [a] #",
            "#!/bin/sh 'a \" [\nb",
            "r#type",
        ] {
            to(kept, kept);
        }
    }

    #[test]
    fn comments_are_where_they_stand_in_the_source() {
        let elided = leave_out(b"a!(/* b */) // c\n#[d /*e*/]\n\"// f\"").unwrap();
        assert_eq!(elided.comments, [(3, 10), (12, 16), (21, 26)]);
    }

    #[test]
    fn what_does_not_end_or_match_is_not_certain() {
        for source in [
            "a!(", "a!(]", "#[", "/*", "/* /* */", "\"", "\"\\", "r#\"\"", "'\\", "a!(\")", "a!('\\",
        ] {
            assert!(leave_out(source.as_bytes()).is_none(), "{source}");
        }
    }

    #[test]
    fn any_bytes_do() {
        let pieces: [&[u8]; 27] = [
            b"\"",
            b"'",
            b"/",
            b"*",
            b"#",
            b"!",
            b"(",
            b")",
            b"[",
            b"]",
            b"{",
            b"}",
            b";",
            b"\\",
            b"r",
            b"\n",
            b"\xf0",
            b" ",
            b"?",
            b":",
            b" fn ",
            b" impl ",
            b" use ",
            b"pub",
            b" if ",
            b"a",
            b"macro_rules!",
        ];
        let words = &Language::Rust.grammar().words;
        let mut state = 1_u64;
        for _ in 0..30_000 {
            let mut source = Vec::new();
            for _ in 0..16 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                source.extend(pieces[(state >> 33) as usize % pieces.len()]);
            }
            let Some(elided) = elide(&source, words) else {
                continue;
            };
            let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').count();
            assert_eq!(lines(&elided.text), lines(&source));
            let mut comments = elided.comments.iter();
            assert!(comments.all(|(from, to)| from < to && *to <= source.len()));
            for (at, byte) in elided.text.iter().enumerate() {
                assert!(source.get(elided.origin(at)) == Some(byte) || matches!(byte, b' ' | b'\n'));
            }
        }
    }

    #[track_caller]
    fn hollowed(source: &str, left: &str) {
        let out = elide(source.as_bytes(), &Language::Rust.grammar().words).unwrap();
        assert_eq!(String::from_utf8(out.text).unwrap(), left);
    }

    #[test]
    fn brackets_without_words_are_empty_in_bodies() {
        hollowed("fn a(b: C) -> D { e(f);\n g { h: [i] } }", "fn a(b: C) -> D {\n}");
        hollowed(
            "fn a() { b(c)?; d(e(f)); { g\n(h) } }",
            "fn a() { b()?; d(); {\n} }",
        );
        hollowed(
            "fn a() { if b(c) { d } else { e } [f(g)] }",
            "fn a() { if b() {} else {} [f()] }",
        );
        hollowed(
            "fn a() -> impl B { c(d || e, (f, g)) }",
            "fn a() -> impl B { c(d || e, ()) }",
        );
    }

    #[test]
    fn imports_and_visibility_are_kept() {
        for kept in [
            "struct A { b: (C, D) } struct E(F); fn g(h: I);",
            "fn a() { use b::{c, {d, e}}; }",
            "fn a() { mod b { pub (crate) mod c {} } }",
        ] {
            hollowed(kept, kept);
        }
    }

    #[test]
    fn deep_ones_go_with_what_they_are_in() {
        let deep = format!("fn a() {{ if {}\n{} }}", "(".repeat(100_000), ")".repeat(100_000));
        hollowed(&deep, "fn a() { if (\n) }");
    }

    #[test]
    fn nothing_is_empty_where_brackets_do_not_match() {
        for kept in ["(", ")", "fn a() { (] }", "fn a() { (b) } }"] {
            hollowed(kept, kept);
        }
    }

    #[test]
    fn what_is_left_is_known_to_be_of_the_source() {
        let source = "fn a() { /* b */ c(\"d\"\n); e(f, g) }\n// h\nfn i() {}";
        let elided = elide(source.as_bytes(), &Language::Rust.grammar().words).unwrap();
        let left = String::from_utf8(elided.text.clone()).unwrap();
        assert_eq!(left, "fn a() {\n}\n \nfn i() {}");
        for (at, byte) in left
            .bytes()
            .enumerate()
            .filter(|(_, byte)| !byte.is_ascii_whitespace())
        {
            assert_eq!(source.as_bytes()[elided.origin(at)], byte);
        }
        assert_eq!(
            elided.origin(left.rfind("i()").unwrap()),
            source.rfind("i()").unwrap()
        );
        assert_eq!(elided.origin(left.find('}').unwrap()), source.find('}').unwrap());
    }
}
