//! Label selectors as Kubernetes writes them: `service=github`, `service in (github, slack)`, `!service`.
//!
//! The grammar is that of `labels.Parse` in Kubernetes, odd corners included, so that what `kubectl` takes is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::CharIndices;

/// Most characters of a label's value and of the name in its key.
const MAX_NAME: usize = 63;
/// Most characters of the domain before the `/` of a key.
const MAX_DOMAIN: usize = 253;
/// Most characters of a faulty selector that are repeated to whoever sent it.
const MAX_TOLD: usize = 64;

/// Labels of one thing.
pub type Labels = BTreeMap<String, String>;

/// A condition on labels; the empty one holds for all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<Requirement>);

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse the label selector: {0}")]
pub struct BadSelector(String);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

impl Selector {
    /// Reads a selector. The empty text, and one of blanks alone, is the selector that holds for all.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut parser = Parser {
            tokens: tokens(text)?,
            next: 0,
        };
        let mut requirements = Vec::new();
        if parser.look().is_none() {
            return Ok(Self(requirements));
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.take() {
                None => return Ok(Self(requirements)),
                Some(Token::Comma) => {}
                Some(other) => return Err(unexpected(Some(&other), "',' or the end")),
            }
        }
    }

    /// Whether it holds for these labels.
    pub fn holds(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::Above(bound) => number().is_some_and(|number| number > *bound),
                Test::Below(bound) => number().is_some_and(|number| number < *bound),
            }
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Comma,
    Not,
    Equals,
    NotEquals,
    Above,
    Below,
    /// Also `in` and `notin`, which are words like any other but for the place where an operator is due.
    Word(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, BadSelector> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    let also = |chars: &mut Peekable<CharIndices<'_>>| chars.next_if(|(_, c)| *c == '=').is_some();
    while let Some((at, c)) = chars.next() {
        tokens.push(match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '>' => Token::Above,
            '<' => Token::Below,
            '!' if also(&mut chars) => Token::NotEquals,
            '!' => Token::Not,
            '=' => {
                also(&mut chars);
                Token::Equals
            }
            c if c.is_control() => return Err(BadSelector("it has a control character".into())),
            _ => {
                let ends = |c: char| " \t\r\n(),><!=".contains(c);
                while chars.next_if(|(_, c)| !ends(*c) && !c.is_control()).is_some() {}
                let end = chars.peek().map_or(text.len(), |(end, _)| *end);
                Token::Word(text[at..end].to_owned())
            }
        });
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn look(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn take_if(&mut self, token: &Token) -> bool {
        let there = self.look() == Some(token);
        self.next += usize::from(there);
        there
    }

    fn requirement(&mut self) -> Result<Requirement, BadSelector> {
        let absent = self.take_if(&Token::Not);
        let key = match self.take() {
            Some(Token::Word(key)) => key,
            other => return Err(unexpected(other.as_ref(), "a key")),
        };
        key_is_valid(&key)?;
        let test = match self.look() {
            _ if absent => Test::Absent,
            None | Some(Token::Comma) => Test::Exists,
            Some(_) => self.test()?,
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self) -> Result<Test, BadSelector> {
        match self.take() {
            Some(Token::Equals) => Ok(Test::In(BTreeSet::from([self.value()?]))),
            Some(Token::NotEquals) => Ok(Test::NotIn(BTreeSet::from([self.value()?]))),
            Some(Token::Above) => Ok(Test::Above(self.number()?)),
            Some(Token::Below) => Ok(Test::Below(self.number()?)),
            Some(Token::Word(word)) if word == "in" => Ok(Test::In(self.values()?)),
            Some(Token::Word(word)) if word == "notin" => Ok(Test::NotIn(self.values()?)),
            other => Err(unexpected(
                other.as_ref(),
                "an operator: in, notin, =, ==, !=, > or <",
            )),
        }
    }

    /// One value; none at all is the empty one.
    fn value(&mut self) -> Result<String, BadSelector> {
        let value = match self.look() {
            None | Some(Token::Comma) => String::new(),
            Some(Token::Word(_)) => match self.take() {
                Some(Token::Word(value)) => value,
                _ => String::new(),
            },
            other => return Err(unexpected(other, "a value")),
        };
        value_is_valid(&value)?;
        Ok(value)
    }

    fn number(&mut self) -> Result<i64, BadSelector> {
        let value = self.value()?;
        value
            .parse()
            .map_err(|_| BadSelector(format!("{} is no whole number", told(&value))))
    }

    /// Values in parentheses. Nothing before, after or between commas is the empty value, and so is nothing at all.
    fn values(&mut self) -> Result<BTreeSet<String>, BadSelector> {
        if !self.take_if(&Token::Open) {
            return Err(unexpected(self.look(), "'('"));
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.look() {
                Some(Token::Word(_)) => match self.take() {
                    Some(Token::Word(value)) => value,
                    _ => String::new(),
                },
                Some(Token::Comma | Token::Close) => String::new(),
                other => return Err(unexpected(other, "a value, ',' or ')'")),
            };
            value_is_valid(&value)?;
            values.insert(value);
            match self.take() {
                Some(Token::Close) => return Ok(values),
                Some(Token::Comma) => {}
                other => return Err(unexpected(other.as_ref(), "',' or ')'")),
            }
        }
    }
}

fn unexpected(found: Option<&Token>, expected: &str) -> BadSelector {
    let found = match found {
        None => "the end".to_owned(),
        Some(Token::Word(word)) => told(word),
        Some(Token::Open) => "'('".into(),
        Some(Token::Close) => "')'".into(),
        Some(Token::Comma) => "','".into(),
        Some(Token::Not) => "'!'".into(),
        Some(Token::Equals) => "'='".into(),
        Some(Token::NotEquals) => "'!='".into(),
        Some(Token::Above) => "'>'".into(),
        Some(Token::Below) => "'<'".into(),
    };
    BadSelector(format!("found {found}, expected {expected}"))
}

fn told(word: &str) -> String {
    format!("{:?}", word.chars().take(MAX_TOLD).collect::<String>())
}

fn key_is_valid(key: &str) -> Result<(), BadSelector> {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.iter().all(|c| lower(*c) || *c == b'-')
            && bytes.first().is_some_and(|c| lower(*c))
            && bytes.last().is_some_and(|c| lower(*c))
    };
    let domain_fits = domain.is_none_or(|domain| domain.len() <= MAX_DOMAIN && domain.split('.').all(part));
    if domain_fits && !name.is_empty() && is_name(name) {
        Ok(())
    } else {
        Err(BadSelector(format!("{} is no key of a label", told(key))))
    }
}

fn value_is_valid(value: &str) -> Result<(), BadSelector> {
    if is_name(value) {
        Ok(())
    } else {
        Err(BadSelector(format!("{} is no value of a label", told(value))))
    }
}

/// Letters, digits, and `-`, `_`, `.` inside; or empty.
fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inside = |c: &u8| c.is_ascii_alphanumeric() || b"-_.".contains(c);
    bytes.len() <= MAX_NAME
        && bytes.iter().all(inside)
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests;
