//! What may stand in a template, seen from its text alone, before the engine reads it: which statements, which filters
//! and tests, and how often values are put together.

use super::engine::{FILTERS, TESTS};

/// The statements there are. Without those that keep or repeat what they are given, memory stays bounded.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// Most loops in one template. Each may hold what was put together outside of it.
const MAX_LOOPS: usize = 4;
/// Most `+` in one template.
const MAX_JOINS: usize = 4;
/// Words before a parenthesis that call nothing.
const WORDS: [&str; 9] = ["and", "or", "not", "in", "is", "if", "elif", "else", "for"];

/// What a template is as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'s> {
    /// Nothing is filled in.
    Fixed,
    /// One place from end to end: its expression.
    Value(&'s str),
    /// Anything else.
    Text,
}

/// Checks a template and says what it is.
pub(super) fn shape(source: &str) -> Result<Shape<'_>, String> {
    let mut counts = Counts::default();
    let (mut at, mut places) = (0, 0);
    let mut whole = None;
    while let Some(begin) = next(source, at) {
        places += 1;
        let (close, code) = match &source[begin..begin + 2] {
            "{#" => {
                at = source[begin..]
                    .find("#}")
                    .map(|end| begin + end + 2)
                    .ok_or("has a comment without its end")?;
                continue;
            }
            "{%" => ("%}", true),
            _ => ("}}", false),
        };
        let end = end(source, begin + 2, close).ok_or_else(|| format!("has no {close} that ends it"))?;
        let inner = &source[begin + 2..end];
        // The signs that take away white space around.
        let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
        let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner);
        counts.add(inner, code)?;
        if !code && begin == 0 && end + 2 == source.len() {
            whole = Some(inner.trim());
        }
        at = end + 2;
    }
    Ok(match (places, whole) {
        (0, _) => Shape::Fixed,
        (1, Some(inner)) => Shape::Value(inner),
        _ => Shape::Text,
    })
}

/// Checks an expression that stands alone.
pub(super) fn check_expression(source: &str) -> Result<(), String> {
    Counts::default().add(source, false)
}

/// Where the next place begins.
fn next(source: &str, from: usize) -> Option<usize> {
    let starts = ["{{", "{%", "{#"];
    let found = starts.into_iter().filter_map(|start| source[from..].find(start));
    found.min().map(|at| from + at)
}

/// Where a place ends that begins here; what stands in quotes or between brackets ends nothing.
fn end(source: &str, from: usize, close: &str) -> Option<usize> {
    let (mut at, mut open) = (from, 0_isize);
    while let Some(c) = source[at..].chars().next() {
        if open == 0 && source[at..].starts_with(close) {
            return Some(at);
        }
        open += match c {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        at += match c {
            '"' | '\'' => string(&source[at..]),
            c => c.len_utf8(),
        };
    }
    None
}

/// What has been counted of a template so far.
#[derive(Debug, Default)]
struct Counts {
    loops: usize,
    joins: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'s> {
    Word(&'s str),
    Sign(char),
    Other,
}

impl Counts {
    /// Checks what stands in one place; `code` says that it is a statement.
    fn add(&mut self, inner: &str, code: bool) -> Result<(), String> {
        let tokens = tokens(inner);
        if code {
            match tokens.first() {
                Some(Token::Word(word)) if STATEMENTS.contains(word) => {
                    self.loops += usize::from(*word == "for");
                }
                Some(Token::Word(word)) => {
                    let all = STATEMENTS.join(", ");
                    return Err(format!("has the statement {word}: there are only {all}"));
                }
                _ => return Err("has an empty statement".into()),
            }
        }
        // Of each bracket that is open, whether it holds what a filter or test is given, which may be named with a `=`.
        let mut given = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            let earlier = at.checked_sub(2).and_then(|at| tokens.get(at));
            match token {
                Token::Sign('*') => return Err("multiplies, which templates may not".into()),
                Token::Sign('~') => {
                    return Err("joins with ~: write texts beside each other, {{ a }}{{ b }}".into());
                }
                Token::Sign('+') => self.joins += 1,
                Token::Word("recursive") if before != Some(&Token::Sign('.')) => {
                    return Err("has a recursive loop, which templates may not".into());
                }
                Token::Word(name) if before == Some(&Token::Sign('|')) && !FILTERS.contains(name) => {
                    return Err(format!("has the filter {name}: there are {}", FILTERS.join(", ")));
                }
                Token::Word(name) if is_test(before, earlier) && *name != "not" && !TESTS.contains(name) => {
                    return Err(format!("has the test {name}: there are {}", TESTS.join(", ")));
                }
                Token::Sign('=') if given.last() != Some(&true) && is_alone(before, tokens.get(at + 1)) => {
                    return Err("has a single =, which compares nothing: write ==".into());
                }
                Token::Sign(')' | ']' | '}') => drop(given.pop()),
                Token::Sign('[' | '{') => given.push(false),
                Token::Sign('(') => {
                    given.push(matches!(before, Some(Token::Word(name)) if !WORDS.contains(name)));
                    if let Some(Token::Word(name)) = before
                        && !WORDS.contains(name)
                        && earlier != Some(&Token::Sign('|'))
                        && !is_test(earlier, at.checked_sub(3).and_then(|at| tokens.get(at)))
                    {
                        return Err(format!("calls {name}(): there are no functions, only filters"));
                    }
                    if matches!(before, Some(Token::Sign(')' | ']'))) {
                        return Err("calls a value: there are no functions, only filters".into());
                    }
                }
                Token::Word(_) | Token::Sign(_) | Token::Other => {}
            }
        }
        if self.loops > MAX_LOOPS {
            return Err(format!("has more than {MAX_LOOPS} loops"));
        }
        if self.joins > MAX_JOINS {
            return Err(format!(
                "has more than {MAX_JOINS} +: write texts beside each other"
            ));
        }
        Ok(())
    }
}

/// Whether a `=` between these is no part of `==`, `!=`, `<=` or `>=`.
fn is_alone(before: Option<&Token<'_>>, after: Option<&Token<'_>>) -> bool {
    !matches!(before, Some(Token::Sign('=' | '!' | '<' | '>'))) && after != Some(&Token::Sign('='))
}

/// Whether what follows `before`, and `earlier` before that, is the name of a test: `is`, or `is not`.
fn is_test(before: Option<&Token<'_>>, earlier: Option<&Token<'_>>) -> bool {
    match before {
        Some(Token::Word("is")) => earlier != Some(&Token::Sign('.')),
        Some(Token::Word("not")) => earlier == Some(&Token::Word("is")),
        _ => false,
    }
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let (token, taken) = match c {
            '"' | '\'' => (Some(Token::Other), string(rest)),
            c if c.is_alphabetic() || c == '_' => {
                let taken = rest.find(|c| !word(c)).unwrap_or(rest.len());
                (Some(Token::Word(&rest[..taken])), taken)
            }
            c if c.is_numeric() => {
                let taken = rest.find(|c| !word(c)).unwrap_or(rest.len());
                (Some(Token::Other), taken)
            }
            c if c.is_whitespace() => (None, c.len_utf8()),
            c => (Some(Token::Sign(c)), c.len_utf8()),
        };
        tokens.extend(token);
        rest = &rest[taken..];
    }
    tokens
}

/// How long the quoted text is that begins here, its quotes included.
fn string(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, open)) = chars.next() else { return 0 };
    let mut escaped = false;
    for (at, c) in chars {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == open => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}
