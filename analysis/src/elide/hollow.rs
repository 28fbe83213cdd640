//! Most of a source is functions' bodies, and most brackets in them hold nothing that means anything: arguments, fields,
//! blocks that do not branch. They are handed to the parser empty.

use std::mem::take;
use std::ops::Range;

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
    /// Whether a bracket after a text is still one of the same when it is empty.
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
    for range in emptied {
        scan.cut(range);
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

/// What is between brackets that are to be empty, in order.
fn empty(text: &[u8], words: &Words, language: &Brackets) -> Option<Vec<Range<usize>>> {
    let marks = words.find(text);
    let mut open = Open::new(text, language);
    let mut scan = Scan::new(text, &TELLING);
    while scan.find() {
        while let Some(mark) = marks.get(open.words).filter(|mark| (**mark as usize) < scan.at) {
            open.word(*mark as usize)?;
        }
        match text[scan.at] {
            b';' => open.level()?.header = Header::None,
            b'(' => open.open(scan.at, b')')?,
            b'[' => open.open(scan.at, b']')?,
            b'{' => open.open(scan.at, b'}')?,
            _ => open.close(scan.at)?,
        }
        scan.at += 1;
    }
    (open.levels.len() == 1 && open.deep.is_empty()).then_some(open.emptied)
}

/// The brackets that are open at a place of a text.
struct Open<'a> {
    text: &'a [u8],
    language: &'a Brackets,
    /// The first is around everything.
    levels: Vec<Level>,
    /// What closes those that are deeper.
    deep: Vec<u8>,
    /// Words so far.
    words: usize,
    emptied: Vec<Range<usize>>,
}

impl<'a> Open<'a> {
    fn new(text: &'a [u8], language: &'a Brackets) -> Self {
        Self {
            text,
            language,
            levels: vec![Level::default()],
            deep: Vec::new(),
            words: 0,
            emptied: Vec::new(),
        }
    }

    fn level(&mut self) -> Option<&mut Level> {
        self.levels.last_mut()
    }

    fn word(&mut self, at: usize) -> Option<()> {
        self.words += 1;
        let header = (self.language.header)(word_at(&self.text[at..]));
        let level = self.level()?;
        if level.header == Header::None {
            level.header = header;
        }
        Some(())
    }

    fn open(&mut self, at: usize, closes: u8) -> Option<()> {
        if self.levels.len() > MAX_DEPTH {
            self.deep.push(closes);
            return Some(());
        }
        let may_be_empty = (self.language.may_be_empty)(&self.text[..at], self.text[at]);
        let (words, emptied) = (self.words, self.emptied.len());
        let level = self.level()?;
        let header = match closes {
            b'}' if may_be_empty => take(&mut level.header),
            _ => level.header,
        };
        let in_body = level.in_body || may_be_empty && closes == b'}' && header == Header::Body;
        let kept = level.kept || header == Header::Import;
        let content = Content {
            from: at + 1,
            words,
            emptied,
        };
        self.levels.push(Level {
            closes,
            header: Header::None,
            in_body,
            kept,
            content: (may_be_empty && in_body && !kept && closes != b']').then_some(content),
        });
        Some(())
    }

    /// `None` if it is not the one that was opened last.
    fn close(&mut self, at: usize) -> Option<()> {
        if let Some(closes) = self.deep.pop() {
            return (closes == self.text[at]).then_some(());
        }
        let level = self.levels.pop().filter(|level| level.closes == self.text[at])?;
        if let Some(content) = level.content
            && content.words == self.words
            && content.from < at
        {
            self.emptied.truncate(content.emptied);
            self.emptied.push(content.from..at);
        }
        Some(())
    }
}
