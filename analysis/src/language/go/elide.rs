//! What means nothing in Go: comments, and what strings hold if it looks like brackets.

use crate::elide::hollow::{Brackets, Header, hollow};
use crate::elide::{Elided, Scan, Telling, goes_on, trimmed, word_before};
use crate::words::Words;

static TELLING: Telling = Telling::new(b"\"'`/");

/// After these words, round brackets are no arguments.
const NO_CALL: [&[u8]; 19] = [
    b"case",
    b"chan",
    b"const",
    b"defer",
    b"else",
    b"for",
    b"func",
    b"go",
    b"if",
    b"import",
    b"interface",
    b"map",
    b"range",
    b"return",
    b"select",
    b"struct",
    b"switch",
    b"type",
    b"var",
];

static BRACKETS: Brackets = Brackets {
    header: |word| match word {
        b"func" => Header::Body,
        _ => Header::None,
    },
    may_be_empty: |before, bracket| {
        let text = trimmed(before);
        let word = word_before(text);
        if bracket != b'(' {
            return !matches!(word, b"struct" | b"interface");
        }
        // `[]byte(a)` makes one type of another, and what follows on a line's end is no call.
        let is_type = text[..text.len() - word.len()].ends_with(b"]") && !word.is_empty();
        let after = text
            .last()
            .is_some_and(|last| goes_on(*last) || matches!(last, b')' | b']'));
        after && !is_type && !before[text.len()..].contains(&b'\n') && !NO_CALL.contains(&word)
    },
};

/// `None` if something does not end: then nothing is certain.
pub(super) fn elide(source: &[u8], words: &Words) -> Option<Elided> {
    leave_out(source).map(|left| hollow(left, words, &BRACKETS))
}

fn leave_out(source: &[u8]) -> Option<Elided> {
    let mut scan = Scan::new(source, &TELLING);
    while scan.find() {
        let from = scan.at;
        match (source[from], scan.byte(from + 1)) {
            (b'/', b'/') => {
                scan.line_comment();
                scan.blank(from..scan.at);
            }
            (b'/', b'*') => {
                scan.block_comment(false)?;
                let rest = &source[scan.at..scan.line_end(scan.at)];
                // Its line's end would end a statement.
                if source[from..scan.at].contains(&b'\n') && !rest.trim_ascii().is_empty() {
                    return None;
                }
                scan.blank(from..scan.at);
            }
            (b'/', _) => scan.at += 1,
            (quote, _) => {
                let content = match quote {
                    b'`' => scan.raw()?,
                    _ => scan.quoted()?,
                };
                let held = &source[content.clone()];
                // It does not go on in the next line: one that seems to is not closed.
                if quote != b'`' && held.contains(&b'\n') {
                    return None;
                }
                // Others may name an import.
                if held.iter().any(|byte| b"()[]{};".contains(byte)) {
                    scan.cut(content);
                    scan.put(b'_');
                }
            }
        }
    }
    Some(scan.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::{elide, leave_out};
    use crate::language::Language;

    #[track_caller]
    fn to(source: &str, left: &str) {
        let elided = elide(source.as_bytes(), &Language::Go.grammar().words).unwrap();
        assert_eq!(String::from_utf8(elided.text).unwrap(), left);
    }

    #[test]
    fn comments_and_brackets_in_strings_are_left_out() {
        to("a // b\nc/* d\n */\ne", "a  \nc\n \ne");
        to(
            "import \"a/b\"; x = '(' + '\\'' + \"{\\\"\" + `)\n\\`",
            "import \"a/b\"; x = '_' + '\\'' + \"_\" + `\n_`",
        );
    }

    #[test]
    fn brackets_without_words_are_empty_in_bodies() {
        to("func a(b c) d { e(f, g(h))\n x.(i)(j) }", "func a(b c) d {\n}");
        to(
            "func a() { if b(c) { d() } return (e), f{g}, h.(i), j[k(l)](m) }",
            "func a() { if b() {} return (e), f{}, h.(i), j[k()]() }",
        );
        to(
            "func a() interface{} { type ( b struct { c d } ) }",
            "func a() interface{} { type ( b struct { c d } ) }",
        );
    }

    #[test]
    fn what_does_not_end_is_not_certain() {
        for source in ["a /*\n*/ + b", "\"a\nb\"", "'", "`", "/*"] {
            assert!(
                elide(source.as_bytes(), &Language::Go.grammar().words).is_none(),
                "{source}"
            );
        }
        assert!(leave_out(b"a / b").is_some());
    }
}
