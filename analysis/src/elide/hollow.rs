//! Most of a source is functions' bodies, and most brackets in them hold nothing that means anything: arguments, fields,
//! blocks that do not branch. They are handed to the parser empty.

use std::mem::take;

use super::{Elided, Scan, Telling, word_at};
use crate::words::Words;

/// Brackets in brackets that are emptied by themselves; deeper ones go with what they are in.
const MAX_DEPTH: usize = 64;

static TELLING: Telling = Telling::new(b"()[]{};");

/// What the brackets after a word are, up to braces or a semicolon.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Header {
    #[default]
    None,
    /// A function's, whose body the braces are.
    Body,
    /// An import's.
    Import,
}

/// A language's brackets.
pub(crate) struct Brackets {
    /// What begins with one of the language's words.
    pub(crate) header: fn(&[u8]) -> Header,
    /// Whether a bracket after a text is still one of the same when it is empty. The text does not end with white space.
    pub(crate) may_be_empty: fn(&[u8], u8) -> bool,
}

#[derive(Default)]
struct Level {
    /// The bracket that ends it.
    closes: u8,
    header: Header,
    /// Whether it is in the body of a function.
    in_body: bool,
    /// Whether it is part of an import.
    kept: bool,
    /// If it may be emptied.
    content: Option<Content>,
}

struct Content {
    from: usize,
    /// How many words and how many emptied ones are before it.
    words: usize,
    emptied: usize,
}

/// `left` has neither comments nor brackets in strings. It stays as it is if its brackets do not match.
pub(crate) fn hollow(left: Elided, words: &Words, language: &Brackets) -> Elided {
    let Some(emptied) = empty(&left.text, words, language) else {
        return left;
    };
    let mut scan = Scan::new(&left.text, &TELLING);
    for (from, to) in emptied {
        scan.cut(from..to);
    }
    let hollowed = scan.finish();
    let mut pieces = left.pieces;
    pieces.extend(hollowed.pieces);
    Elided {
        text: hollowed.text,
        comments: left.comments,
        pieces,
    }
}

/// The ranges between brackets that are to be empty, in order.
fn empty(text: &[u8], words: &Words, language: &Brackets) -> Option<Vec<(usize, usize)>> {
    let marks = words.find(text);
    let (mut emptied, mut passed) = (Vec::new(), 0);
    let (mut levels, mut deep) = (vec![Level::default()], Vec::new());
    let mut scan = Scan::new(text, &TELLING);
    while scan.find() {
        let (at, sign) = (scan.at, text[scan.at]);
        scan.at += 1;
        let depth = levels.len();
        let level = levels.last_mut()?;
        while let Some(mark) = marks.get(passed).filter(|mark| (**mark as usize) < at) {
            passed += 1;
            if level.header == Header::None && deep.is_empty() {
                level.header = (language.header)(word_at(&text[*mark as usize..]));
            }
        }
        let closes = match sign {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            b';' => {
                if deep.is_empty() {
                    level.header = Header::None;
                }
                continue;
            }
            _ => {
                if let Some(closes) = deep.pop() {
                    (closes == sign).then_some(())?;
                    continue;
                }
                let level = levels.pop().filter(|level| level.closes == sign)?;
                if let Some(content) = level.content
                    && content.words == passed
                    && content.from < at
                {
                    emptied.truncate(content.emptied);
                    emptied.push((content.from, at));
                }
                continue;
            }
        };
        if depth > MAX_DEPTH {
            deep.push(closes);
            continue;
        }
        let may_be_empty = (language.may_be_empty)(text[..at].trim_ascii_end(), sign);
        let header = match sign {
            b'{' if may_be_empty => take(&mut level.header),
            _ => level.header,
        };
        let in_body = level.in_body || may_be_empty && sign == b'{' && header == Header::Body;
        let kept = level.kept || header == Header::Import;
        levels.push(Level {
            closes,
            header: Header::None,
            in_body,
            kept,
            content: (may_be_empty && in_body && !kept && sign != b'[').then_some(Content {
                from: at + 1,
                words: passed,
                emptied: emptied.len(),
            }),
        });
    }
    (levels.len() == 1 && deep.is_empty()).then_some(emptied)
}
