//! Where a source has words that may mean something. What has none of them is not looked at: going over the nodes of a tree
//! costs a sixth of making it, and most of them are operands.

/// Words and signs of a language.
pub(crate) struct Words {
    /// What each byte may be.
    bytes: [Byte; 256],
    by_first: Vec<Vec<&'static [u8]>>,
}

#[derive(Clone, Copy, Default)]
struct Byte {
    /// Whether it goes on with a word. Beyond ASCII there are letters, spaces and a mark at the beginning of files: a word may
    /// begin and end there, which tells of one too many at worst.
    goes_on: bool,
    digit: bool,
    /// Whether one of those that are looked for begins with it.
    first: bool,
}

/// What a byte follows on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Word,
    /// In which a word may begin anywhere: Python reads `1e5if` as two.
    Number,
}

impl Words {
    pub(crate) fn new(words: &[&'static str]) -> Self {
        let mut bytes = [Byte::default(); 256];
        for (byte, is) in (0..=u8::MAX).zip(&mut bytes) {
            is.goes_on = byte.is_ascii_alphanumeric() || byte == b'_';
            is.digit = byte.is_ascii_digit();
        }
        let mut by_first = vec![Vec::new(); 256];
        for word in words {
            let first = usize::from(word.as_bytes()[0]);
            bytes[first].first = true;
            by_first[first].push(word.as_bytes());
        }
        Self { bytes, by_first }
    }

    /// Where they begin, in order. A word stands alone, a sign anywhere; of what stands in strings and comments it is told
    /// too.
    pub(crate) fn find(&self, source: &[u8]) -> Vec<u32> {
        let (mut found, mut inside) = (Vec::new(), Inside::Nothing);
        for (at, byte) in source.iter().enumerate() {
            let is = self.bytes[usize::from(*byte)];
            if is.first && !(inside == Inside::Word && is.goes_on) && self.is_one(&source[at..]) {
                found.push(at as u32);
            }
            inside = match inside {
                Inside::Number if is.goes_on || *byte == b'.' => Inside::Number,
                Inside::Nothing if is.digit => Inside::Number,
                _ if is.goes_on => Inside::Word,
                _ => Inside::Nothing,
            };
        }
        found
    }

    /// Whether text begins with one.
    #[inline(never)]
    fn is_one(&self, text: &[u8]) -> bool {
        let is = |word: &&[u8]| {
            let goes_on = |at: usize| {
                text.get(at)
                    .is_some_and(|byte| self.bytes[usize::from(*byte)].goes_on)
            };
            text.starts_with(word) && !(goes_on(0) && goes_on(word.len()))
        };
        self.by_first[usize::from(text[0])].iter().any(is)
    }
}

/// Asks of ranges whose starts never go back.
pub(crate) struct Marks {
    at: Vec<u32>,
    next: usize,
}

impl Marks {
    pub(crate) fn new(words: &Words, source: &[u8]) -> Self {
        Self {
            at: words.find(source),
            next: 0,
        }
    }

    /// One at every byte.
    #[cfg(test)]
    pub(crate) fn everywhere(source: &[u8]) -> Self {
        Self {
            at: (0..source.len() as u32).collect(),
            next: 0,
        }
    }

    /// Whether one is in the range.
    pub(crate) fn within(&mut self, start: usize, end: usize) -> bool {
        while self
            .at
            .get(self.next)
            .is_some_and(|mark| (*mark as usize) < start)
        {
            self.next += 1;
        }
        self.at.get(self.next).is_some_and(|mark| (*mark as usize) < end)
    }
}

#[cfg(test)]
mod tests {
    use super::{Marks, Words};

    #[test]
    fn words_stand_alone_and_signs_anywhere() {
        let words = Words::new(&["if", "for", "&&", "?"]);
        assert_eq!(words.find(b"if x&&y ? iffy : _if"), [0, 4, 8]);
        assert_eq!(words.find("\u{feff}for(".as_bytes()), [3]);
        assert_eq!(words.find(b"for"), [0]);
        assert_eq!(words.find(b"1if x1if &"), [1]);
        assert_eq!(words.find(b"1e5if 1.e5if 0xfor 1_0if x.if"), [3, 10, 15, 22, 27]);
    }

    #[test]
    fn ranges_one_after_the_other() {
        let mut marks = Marks::new(&Words::new(&["if"]), b"a if b if c");
        assert!(!marks.within(0, 2));
        assert!(marks.within(0, 3));
        assert!(marks.within(2, 11));
        assert!(!marks.within(5, 7));
        assert!(marks.within(5, 8));
        assert!(!marks.within(9, 11));
    }
}
