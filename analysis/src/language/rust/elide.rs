//! What means nothing in Rust is kept from the parser: comments, what strings hold, attributes, and what macros are given,
//! which is tokens to the grammar and no syntax. A parser takes its time by the token, and these are a third of them.

use std::ops::Range;

use super::hollow::hollow;
use crate::language::Elided;
use crate::words::Words;

/// After these words, a `!` and a bracket are no macro's.
const NO_MACRO: [&[u8]; 20] = [
    b"as", b"box", b"break", b"const", b"dyn", b"else", b"for", b"if", b"impl", b"in", b"let", b"match",
    b"move", b"mut", b"ref", b"return", b"unsafe", b"where", b"while", b"yield",
];
/// Longest character that is written with a backslash, in bytes: `'\u{1_0_f_f_f_f}'`, and some more.
const MAX_ESCAPE: usize = 24;

/// Bytes with which something may begin or end.
const TELLING: [bool; 256] = {
    let (mut telling, signs, mut at) = ([false; 256], b"\"'/#!()[]{}", 0);
    while at < signs.len() {
        telling[signs[at] as usize] = true;
        at += 1;
    }
    telling
};

enum Piece {
    /// With what is between its quotes; a character too.
    String(Range<usize>),
    Comment,
    /// A sign.
    Other,
}

struct Scan<'a> {
    source: &'a [u8],
    at: usize,
    /// Where what was copied ends.
    copied: usize,
    elided: Elided,
}

/// `None` if brackets do not match or something does not end: then nothing is certain.
pub(super) fn elide(source: &[u8], words: &Words) -> Option<Elided> {
    let Elided { text, comments } = leave_out(source)?;
    let text = hollow(&text, words)?;
    Some(Elided { text, comments })
}

fn leave_out(source: &[u8]) -> Option<Elided> {
    let mut scan = Scan {
        source,
        at: 0,
        copied: 0,
        elided: Elided {
            text: Vec::with_capacity(source.len()),
            comments: Vec::new(),
        },
    };
    if source.starts_with(b"#!") && scan.attribute(0).is_none() {
        // For the shell.
        scan.at = scan.line_end(0);
    }
    while scan.find() {
        let from = scan.at;
        match (scan.piece()?, source[from]) {
            (Piece::String(content), _) => scan.leave_out(content),
            (Piece::Comment, _) => scan.blank(from..scan.at),
            (Piece::Other, b'#') => {
                if let Some(bracket) = scan.attribute(from) {
                    scan.balance(bracket)?;
                    scan.blank(from..scan.at);
                }
            }
            (Piece::Other, b'!') => {
                if let Some(bracket) = scan.macro_bracket(from) {
                    scan.balance(bracket)?;
                    scan.leave_out(bracket + 1..scan.at - 1);
                }
            }
            (Piece::Other, _) => {}
        }
    }
    scan.elided.text.extend_from_slice(&source[scan.copied..]);
    Some(scan.elided)
}

impl Scan<'_> {
    /// Goes to the next byte that tells.
    fn find(&mut self) -> bool {
        let rest = &self.source[self.at..];
        let found = rest.iter().position(|byte| TELLING[usize::from(*byte)]);
        self.at += found.unwrap_or(rest.len());
        found.is_some()
    }

    fn byte(&self, at: usize) -> u8 {
        self.source.get(at).copied().unwrap_or_default()
    }

    fn line_end(&self, from: usize) -> usize {
        let rest = &self.source[from..];
        from + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
    }

    /// Goes over what begins here.
    fn piece(&mut self) -> Option<Piece> {
        let from = self.at;
        match (self.source[from], self.byte(from + 1)) {
            (b'"', _) => return self.string().map(Piece::String),
            (b'/', b'/') => self.at = self.line_end(from),
            (b'/', b'*') => self.block_comment()?,
            (b'\'', _) => return self.quote(),
            _ => {
                self.at += 1;
                return Some(Piece::Other);
            }
        }
        self.elided.comments.push((from, self.at));
        Some(Piece::Comment)
    }

    /// Goes over a string; what is between its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let (open, mut at) = (self.at, self.at + 1);
        if let Some(hashes) = self.raw(open) {
            let end = loop {
                at += self.source[at..].iter().position(|byte| *byte == b'"')?;
                let after = &self.source[at + 1..];
                if after.len() >= hashes && after[..hashes].iter().all(|byte| *byte == b'#') {
                    break at;
                }
                at += 1;
            };
            self.at = end + 1 + hashes;
            return Some(open + 1..end);
        }
        loop {
            at += self
                .source
                .get(at..)?
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\'))?;
            if self.source[at] == b'"' {
                self.at = at + 1;
                return Some(open + 1..at);
            }
            at += 2;
        }
    }

    /// The number of signs around a raw string whose first quote is at `open`; `None` if it is none.
    fn raw(&self, open: usize) -> Option<usize> {
        let before = &self.source[..open];
        let hashes = before.iter().rev().take_while(|byte| **byte == b'#').count();
        let word = word_before(&before[..open - hashes]);
        matches!(word, b"r" | b"br" | b"cr").then_some(hashes)
    }

    /// Goes over a character, or the sign of a lifetime.
    fn quote(&mut self) -> Option<Piece> {
        let inside = self.at + 1;
        let first = self.byte(inside);
        let end = if first == b'\\' {
            let rest = &self.source[inside..];
            let rest = &rest[..rest.len().min(MAX_ESCAPE)];
            // What follows the backslash may be a quote.
            inside + 2 + rest.iter().skip(2).position(|byte| *byte == b'\'')?
        } else {
            inside + (first.leading_ones() as usize).clamp(1, 4)
        };
        if self.byte(end) != b'\'' {
            self.at = inside;
            return Some(Piece::Other);
        }
        self.at = end + 1;
        Some(Piece::String(inside..end))
    }

    fn block_comment(&mut self) -> Option<()> {
        let mut depth = 0;
        loop {
            match (*self.source.get(self.at)?, self.byte(self.at + 1)) {
                (b'/', b'*') => depth += 1,
                (b'*', b'/') => depth -= 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// The bracket of the attribute that begins with the `#` at `from`.
    fn attribute(&self, from: usize) -> Option<usize> {
        let bracket = from + 1 + usize::from(self.byte(from + 1) == b'!');
        (self.byte(bracket) == b'[').then_some(bracket)
    }

    /// The bracket of the macro whose `!` is at `from`: of a call, or of what `macro_rules!` defines.
    fn macro_bracket(&self, from: usize) -> Option<usize> {
        let name = word_before(&self.source[..from]);
        if name.is_empty() || NO_MACRO.contains(&name) {
            return None;
        }
        let mut bracket = self.past_space(from + 1);
        if name == b"macro_rules" {
            let defined = &self.source[bracket..];
            let length = defined.iter().take_while(|byte| goes_on(**byte)).count();
            bracket = self.past_space(bracket + length);
        }
        matches!(self.byte(bracket), b'(' | b'[' | b'{').then_some(bracket)
    }

    fn past_space(&self, from: usize) -> usize {
        let rest = &self.source[from..];
        from + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
    }

    /// Goes from a bracket past the one that closes it.
    fn balance(&mut self, bracket: usize) -> Option<()> {
        let mut open = Vec::new();
        self.at = bracket;
        loop {
            if !self.find() {
                return None;
            }
            let sign = self.source[self.at];
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

    /// Leaves a range out, but for its lines.
    fn leave_out(&mut self, range: Range<usize>) {
        let text = &mut self.elided.text;
        text.extend_from_slice(&self.source[self.copied..range.start]);
        self.copied = range.end;
        let left_out = self.source[range].iter();
        text.extend(left_out.filter(|byte| **byte == b'\n'));
    }

    /// The same, where what is before and after must not become one word.
    fn blank(&mut self, range: Range<usize>) {
        self.leave_out(range);
        self.elided.text.push(b' ');
    }
}

/// Whether a word goes on with a byte. Beyond ASCII there are letters.
fn goes_on(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The word that ends a text.
pub(super) fn word_before(text: &[u8]) -> &[u8] {
    let length = text.iter().rev().take_while(|byte| goes_on(**byte)).count();
    &text[text.len() - length..]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::leave_out;

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
        let signs = [
            b"\"", b"'", b"/", b"*", b"#", b"!", b"(", b")", b"[", b"\\", b"r", b"\n", b"\xf0",
        ];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut source = Vec::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                source.extend(signs[(state >> 33) as usize % signs.len()]);
            }
            if let Some(elided) = leave_out(&source) {
                let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').count();
                assert_eq!(lines(&elided.text), lines(&source));
                assert!(
                    elided
                        .comments
                        .iter()
                        .all(|(from, to)| from < to && *to <= source.len())
                );
            }
        }
    }
}
