//! Leaves out of a source what means nothing. A parser takes its time by the token, and of the greater part of them no
//! fact comes.

pub(crate) mod hollow;

use std::ops::Range;

/// A source without what means nothing in it. What is left means the same and stands in the same lines.
pub(crate) struct Elided {
    pub(crate) text: Vec<u8>,
    /// Where comments are in the source: ranges of bytes, in order.
    pub(crate) comments: Vec<(usize, usize)>,
    /// Where pieces of the text are in it and in what they come from, of each time that something was left out.
    pieces: Vec<Vec<(u32, u32)>>,
}

impl Elided {
    /// Where a byte of the text is in the source.
    pub(crate) fn origin(&self, at: usize) -> usize {
        let back = |at: usize, pieces: &Vec<(u32, u32)>| {
            let next = pieces.partition_point(|(left, _)| *left as usize <= at);
            let piece = next.checked_sub(1).map(|last| pieces[last]);
            piece.map_or(at, |(left, from)| from as usize + (at - left as usize))
        };
        self.pieces.iter().rev().fold(at, back)
    }
}

/// Bytes with which something may begin or end.
pub(crate) struct Telling([bool; 256]);

impl Telling {
    pub(crate) const fn new(signs: &[u8]) -> Self {
        let (mut telling, mut at) = ([false; 256], 0);
        while at < signs.len() {
            telling[signs[at] as usize] = true;
            at += 1;
        }
        Self(telling)
    }
}

/// Goes over a source and copies what is not left out.
pub(crate) struct Scan<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) at: usize,
    telling: &'static Telling,
    /// Where what was copied ends.
    copied: usize,
    text: Vec<u8>,
    comments: Vec<(usize, usize)>,
    pieces: Vec<(u32, u32)>,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(source: &'a [u8], telling: &'static Telling) -> Self {
        Self {
            source,
            at: 0,
            telling,
            copied: 0,
            text: Vec::with_capacity(source.len()),
            comments: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// What is left, with the rest of the source.
    pub(crate) fn finish(mut self) -> Elided {
        self.copy(self.source.len());
        Elided {
            text: self.text,
            comments: self.comments,
            pieces: vec![self.pieces],
        }
    }

    /// Goes to the next byte that tells.
    pub(crate) fn find(&mut self) -> bool {
        let rest = &self.source[self.at..];
        let found = rest.iter().position(|byte| self.telling.0[usize::from(*byte)]);
        self.at += found.unwrap_or(rest.len());
        found.is_some()
    }

    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.source.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn line_end(&self, from: usize) -> usize {
        let rest = &self.source[from..];
        from + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
    }

    /// Goes over a comment that begins with two slashes here.
    pub(crate) fn line_comment(&mut self) {
        let from = self.at;
        self.at = self.line_end(from);
        self.comments.push((from, self.at));
    }

    /// Goes over a comment that begins with a slash and a star here, in which there may be others if they `nest`.
    /// `None` if it does not end.
    pub(crate) fn block_comment(&mut self, nest: bool) -> Option<()> {
        let (from, mut depth) = (self.at, 0);
        loop {
            match (*self.source.get(self.at)?, self.byte(self.at + 1)) {
                (b'/', b'*') if nest || depth == 0 => depth += 1,
                (b'*', b'/') => depth -= 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                self.comments.push((from, self.at));
                return Some(());
            }
        }
    }

    /// Goes from a quote past the next one, but not one behind a backslash; what is between them. `None` if there is
    /// none.
    pub(crate) fn quoted(&mut self) -> Option<Range<usize>> {
        let (open, quote) = (self.at, self.source[self.at]);
        let mut at = open + 1;
        loop {
            let rest = self.source.get(at..)?;
            at += rest.iter().position(|byte| *byte == quote || *byte == b'\\')?;
            if self.source[at] == quote {
                self.at = at + 1;
                return Some(open + 1..at);
            }
            at += 2;
        }
    }

    /// Goes from a quote past the next one; what is between them. `None` if there is none.
    pub(crate) fn raw(&mut self) -> Option<Range<usize>> {
        let (from, quote) = (self.at + 1, self.source[self.at]);
        let length = self.source[from..].iter().position(|byte| *byte == quote)?;
        self.at = from + length + 1;
        Some(from..from + length)
    }

    fn copy(&mut self, to: usize) {
        self.pieces.push((self.text.len() as u32, self.copied as u32));
        self.text.extend_from_slice(&self.source[self.copied..to]);
    }

    /// Leaves a range out, but for its lines.
    pub(crate) fn cut(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.copy(range.start);
        self.copied = range.end;
        let lines = self.source[range].iter().filter(|byte| **byte == b'\n');
        self.text.extend(lines);
    }

    /// The same, where what is before and after must not become one word.
    pub(crate) fn blank(&mut self, range: Range<usize>) {
        self.cut(range);
        self.put(b' ');
    }

    /// Puts something in place of what was left out last.
    pub(crate) fn put(&mut self, byte: u8) {
        self.text.push(byte);
    }
}

/// Whether a word goes on with a byte. Beyond ASCII there are letters.
pub(crate) fn goes_on(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The word that a text begins with.
pub(crate) fn word_at(text: &[u8]) -> &[u8] {
    let length = text.iter().take_while(|byte| goes_on(**byte)).count();
    &text[..length]
}

/// A text without the white space at its end: what grammars take for it, which is a vertical tab too.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let space = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0x0b;
    &text[..text.len() - text.iter().rev().take_while(space).count()]
}

/// The word that ends a text.
pub(crate) fn word_before(text: &[u8]) -> &[u8] {
    let length = text.iter().rev().take_while(|byte| goes_on(**byte)).count();
    &text[text.len() - length..]
}
