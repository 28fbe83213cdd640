//! A document: its parts, by the places of their tokens. Source: the GraphQL specification, October 2021, section 2.

use std::ops::Range;

use super::tokens::{Kind, Token, tokens};

/// Longest document, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Deepest nesting of selections and values.
const MAX_DEPTH: usize = 40;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handler) enum Operation {
    /// It reads.
    Query,
    /// It writes.
    Mutation,
}

/// A document with one operation.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::handler) struct Document {
    text: String,
    pub(super) tokens: Vec<Token>,
    operation: Operation,
    /// Tokens between the parentheses of the operation's variables.
    pub(super) variables: Range<usize>,
    /// Tokens between the braces of the operation.
    pub(super) selection: Range<usize>,
    /// Name and selection of each fragment.
    pub(super) fragments: Vec<(String, Range<usize>)>,
    directives: bool,
}

/// A field of a selection, by the places of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// Its alias or name, by which the answer calls it.
    pub(super) key: usize,
    pub(super) aliased: bool,
    pub(super) arguments: Range<usize>,
    pub(super) selection: Option<Range<usize>>,
}

/// What stands in a selection.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Field(Field),
    /// `... on Type { }`
    Inline(Range<usize>),
    /// `...Name`
    Spread(usize),
}

impl Document {
    /// Reads a text.
    pub(in crate::handler) fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_TEXT {
            return Err("query is longer than 64 KiB");
        }
        let mut document = Self {
            text: text.to_owned(),
            tokens: tokens(text)?,
            operation: Operation::Query,
            variables: 0..0,
            selection: 0..0,
            fragments: Vec::new(),
            directives: false,
        };
        let (mut at, mut operations) = (0, 0);
        while at < document.tokens.len() {
            let word = document.name(at).map(str::to_owned);
            let word = word.as_deref();
            if word == Some("fragment") {
                let name = document.name(at + 1).ok_or("a fragment has no name")?.to_owned();
                let open = document.find_open(at + 2)?;
                let end = document.close(open)?;
                document.fragments.push((name, open + 1..end));
                at = end + 1;
                continue;
            }
            operations += 1;
            document.operation = match word {
                None | Some("query") => Operation::Query,
                Some("mutation") => Operation::Mutation,
                Some("subscription") => return Err("a subscription is no request"),
                Some(_) => return Err("query must hold a query or a mutation"),
            };
            at += usize::from(word.is_some());
            at += usize::from(word.is_some() && document.name(at).is_some());
            if document.mark(at) == Some(b'(') {
                let end = document.close(at)?;
                document.variables = at + 1..end;
                at = end + 1;
            }
            let open = document.find_open(at)?;
            document.directives = open != at;
            let end = document.close(open)?;
            document.selection = open + 1..end;
            at = end + 1;
        }
        if operations != 1 {
            return Err("query must hold one operation");
        }
        // All of it is looked through once, so that nothing later meets what cannot be read.
        let fragments = document.fragments.iter().map(|(_, range)| range.clone());
        for range in fragments.chain([document.selection.clone()]) {
            document.look_through(range)?;
        }
        Ok(document)
    }

    /// The text as it came.
    pub(in crate::handler) fn text(&self) -> &str {
        &self.text
    }

    /// What it does.
    pub(in crate::handler) fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether it can go into one request with others: fields and nothing else at the top, and no fragments, whose names
    /// may be others' too.
    pub(in crate::handler) fn can_be_merged(&self) -> bool {
        let fields = self.items(self.selection.clone());
        !self.directives
            && self.fragments.is_empty()
            && fields.is_ok_and(|items| items.iter().all(|item| matches!(item, Item::Field(_))))
    }

    pub(super) fn source(&self, at: usize) -> &str {
        self.tokens
            .get(at)
            .map_or("", |token| &self.text[token.at.clone()])
    }

    pub(super) fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    pub(super) fn name(&self, at: usize) -> Option<&str> {
        (self.kind(at)? == Kind::Name).then(|| self.source(at))
    }

    pub(super) fn mark(&self, at: usize) -> Option<u8> {
        match self.kind(at)? {
            Kind::Mark(mark) => Some(mark),
            _ => None,
        }
    }

    /// The next `{` outside of parentheses.
    fn find_open(&self, mut at: usize) -> Result<usize, &'static str> {
        loop {
            match self.kind(at) {
                Some(Kind::Mark(b'{')) => return Ok(at),
                Some(Kind::Mark(b'(')) => at = self.close(at)? + 1,
                Some(Kind::Mark(b'}') | Kind::Spread) | None => return Err("a selection is missing"),
                Some(_) => at += 1,
            }
        }
    }

    /// The end of what begins here.
    fn close(&self, open: usize) -> Result<usize, &'static str> {
        let mut stack = Vec::new();
        for at in open..self.tokens.len() {
            match self.mark(at) {
                Some(b'(') => stack.push(b')'),
                Some(b'[') => stack.push(b']'),
                Some(b'{') => stack.push(b'}'),
                Some(mark @ (b')' | b']' | b'}')) => {
                    if stack.pop() != Some(mark) {
                        return Err("parentheses do not match");
                    }
                    if stack.is_empty() {
                        return Ok(at);
                    }
                }
                _ => {}
            }
            if stack.len() > MAX_DEPTH {
                return Err("query is nested deeper than 40");
            }
        }
        Err("parentheses do not match")
    }

    fn look_through(&self, range: Range<usize>) -> Result<(), &'static str> {
        for item in self.items(range)? {
            match item {
                Item::Field(Field {
                    selection: Some(inner),
                    ..
                })
                | Item::Inline(inner) => self.look_through(inner)?,
                Item::Field(_) | Item::Spread(_) => {}
            }
        }
        Ok(())
    }

    /// What stands in a selection.
    pub(super) fn items(&self, range: Range<usize>) -> Result<Vec<Item>, &'static str> {
        let mut items = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let item;
            (item, at) = match self.kind(at) {
                Some(Kind::Name) => self.field(at)?,
                Some(Kind::Spread) if self.name(at + 1).is_some_and(|name| name != "on") => {
                    (Item::Spread(at + 1), self.past_directives(at + 2)?)
                }
                Some(Kind::Spread) => {
                    let open = self.find_open(at + 1)?;
                    let end = self.close(open)?;
                    (Item::Inline(open + 1..end), end + 1)
                }
                _ => return Err("a selection holds something that is no field"),
            };
            items.push(item);
        }
        if items.is_empty() {
            return Err("a selection is empty");
        }
        Ok(items)
    }

    fn field(&self, key: usize) -> Result<(Item, usize), &'static str> {
        let aliased = self.mark(key + 1) == Some(b':');
        let mut at = key + 1;
        if aliased {
            self.name(key + 2).ok_or("an alias has no field")?;
            at = key + 3;
        }
        let mut arguments = 0..0;
        if self.mark(at) == Some(b'(') {
            let end = self.close(at)?;
            arguments = at + 1..end;
            at = end + 1;
        }
        at = self.past_directives(at)?;
        let mut selection = None;
        if self.mark(at) == Some(b'{') {
            let end = self.close(at)?;
            selection = Some(at + 1..end);
            at = end + 1;
        }
        let field = Field {
            key,
            aliased,
            arguments,
            selection,
        };
        Ok((Item::Field(field), at))
    }

    fn past_directives(&self, mut at: usize) -> Result<usize, &'static str> {
        while self.mark(at) == Some(b'@') {
            self.name(at + 1).ok_or("a directive has no name")?;
            at += 2;
            if self.mark(at) == Some(b'(') {
                at = self.close(at)? + 1;
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_what_they_do() {
        for (text, operation, merges) in [
            ("{ a }", Operation::Query, true),
            ("query { a b: c(x: 1) { d } }", Operation::Query, true),
            (
                "query N($a: [Int!]! = [1]) { a(x: $a) @skip(if: false) }",
                Operation::Query,
                true,
            ),
            (
                "mutation($i: In!) { make(input: $i) { ok } } # }",
                Operation::Mutation,
                true,
            ),
            (
                "# {\nquery { a(t: \"}\\\"{\", u: \"\"\"} \\\"\"\" {\"\"\") }",
                Operation::Query,
                true,
            ),
            ("query @live { a }", Operation::Query, false),
            ("query { ...F } fragment F on T { a }", Operation::Query, false),
            ("{ a ... on T { b } }", Operation::Query, false),
            (
                "{ a { ... @include(if: true) { b } ... on T { b } } }",
                Operation::Query,
                true,
            ),
        ] {
            let document = Document::read(text).unwrap_or_else(|what| panic!("{text}: {what}"));
            assert_eq!(
                (document.operation(), document.can_be_merged()),
                (operation, merges),
                "{text}"
            );
            assert_eq!(document.text(), text);
        }
    }

    #[test]
    fn texts_that_are_no_request() {
        let deep = format!("{{ a{} }}", "{ a ".repeat(50) + &"}".repeat(50));
        let long = format!("{{ a(x: \"{}\") }}", "x".repeat(MAX_TEXT));
        for bad in [
            "",
            " ",
            "# only",
            "a",
            "{",
            "{}",
            "{ a",
            "{ a }}",
            "{ a ) }",
            "{ a(x: 1 }",
            "{ a: }",
            "{ a { } }",
            "{ a @ }",
            "{ a(x: \"unfinished) }",
            "{ a(x: \"\"\"unfinished\") }",
            "{ \u{e4} }",
            "{ 1 }",
            "{ a } { b }",
            "query A { a } query B { b }",
            "subscription { a }",
            "schema { query: Q }",
            "fragment F on T { a }",
            "query ($a: Int",
            "query",
            "{ .. }",
            "\0",
            &deep,
            &long,
        ] {
            assert!(Document::read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_makes_it_panic() {
        let text = "query N($a: [Int!]! = [1]) @d(x: {y: [1, \"z\"]}) { q: a(x: $a, t: \"\"\"b\"\"\") @s(if: false) { ...F ... on T { b } } } fragment F on T { c }";
        for end in 0..text.len() {
            let _ = Document::read(&text[..end]);
            let _ = Document::read(&text[end..]);
            let mut cut = text.to_owned();
            cut.remove(end);
            let _ = Document::read(&cut);
        }
    }
}
