//! What is told of a file, for each language.

mod compiled;
mod web;

use std::time::Duration;

use analysis::facts::{Facts, Kind};
use analysis::language::Language;
use analysis::reading::Reader;
use tokio_util::sync::CancellationToken;

fn read(language: Language, source: &str) -> Facts {
    let facts = Reader::default()
        .read(
            language,
            source.as_bytes(),
            Duration::from_secs(60),
            &CancellationToken::new(),
        )
        .unwrap();
    assert_eq!(Facts::<String>::decode(&facts.encode().unwrap()).unwrap(), facts);
    facts
}

fn symbols(facts: &Facts) -> Vec<(&str, &str, &str, u32)> {
    let all = facts.symbols.iter();
    all.map(|s| (s.kind.name(), s.parent.as_str(), s.name.as_str(), s.complexity))
        .collect()
}

fn imports(facts: &Facts) -> Vec<&str> {
    facts.imports.iter().map(|import| import.path.as_str()).collect()
}

#[test]
fn rust() {
    let facts = read(
        Language::Rust,
        r#"//! A queue.
use std::{collections::{self, HashMap as Map}, fmt::*};
pub use crate::event::Event;
mod lanes;

/* not
   code */
pub const MOST: usize = 8;
static NAME: &str = "x"; // code

pub struct Queue<T> { items: Vec<T> }
enum Lane { High, Low }
type Pair = (u8, u8);
trait Drain { fn drain(&mut self) -> u8; fn twice(&mut self) -> u8 { self.drain(); self.drain() } }
macro_rules! twice { ($e:expr) => { $e; $e } }

impl<T> Queue<T> {
    pub fn pick(&self, lane: Lane, n: u8) -> Result<u8, String> {
        let Some(first) = self.items.first() else { return Ok(0) };
        let value = parse(n)?;
        match lane {
            Lane::High if n > 3 && n < 9 => Ok(value),
            Lane::High => Ok(1),
            Lane::Low => { for _ in 0..n { while false {} } Ok(2) }
        }
    }
}

mod inner {
    use super::Queue;
    pub fn nested() { fn local() { if true {} } }
    mod deeper { use super::super::lanes; use super::nested; }
}
"#,
    );
    assert_eq!(
        symbols(&facts),
        [
            ("constant", "", "MOST", 0),
            ("constant", "", "NAME", 0),
            ("struct", "", "Queue", 0),
            ("enum", "", "Lane", 0),
            ("alias", "", "Pair", 0),
            ("interface", "", "Drain", 0),
            ("method", "Drain", "drain", 0),
            ("method", "Drain", "twice", 1),
            ("macro", "", "twice", 0),
            // 1, let-else, `?`, three arms less one, the guard, `&&`, for, while.
            ("method", "Queue", "pick", 9),
            ("module", "", "inner", 0),
            ("function", "inner", "nested", 1),
            ("function", "inner.nested", "local", 2),
            ("module", "inner", "deeper", 0),
        ]
    );
    assert_eq!(
        imports(&facts),
        [
            "std::collections",
            "std::collections::HashMap",
            "std::fmt",
            "crate::event::Event",
            "lanes",
            "self::Queue",
            "self::lanes",
            "self::inner::nested"
        ]
    );
    let pick = facts.symbols.iter().find(|symbol| symbol.name == "pick").unwrap();
    assert_eq!((pick.start, pick.end), (18, 26));
    assert_eq!((facts.lines, facts.code_lines, facts.complexity), (33, 26, 13));
    assert_eq!((facts.errors, facts.dropped), (0, 0));
}

#[test]
fn python() {
    let facts = read(
        Language::Python,
        r#"# A client.
import os, json.decoder as decoder
from . import wire
from ..shared.event import Event, Kind as K
from typing import *

class Client(Base):
    """Calls."""
    def __init__(self, url):
        self.url = url

    async def call(self, n):
        if n and self.url or n > 3:
            return [x for x in range(n) if x]
        elif n:
            pass
        try:
            while True:
                for i in n:
                    pass
        except (OSError, ValueError):
            return 1 if n else 2

    class Inner:
        pass

@decorated
def main():
    match 1:
        case 1: pass
        case _: pass
"#,
    );
    assert_eq!(
        symbols(&facts),
        [
            ("class", "", "Client", 0),
            ("method", "Client", "__init__", 1),
            // 1, if, and, or, the comprehension and its if, elif, while, for, except, the conditional.
            ("method", "Client", "call", 11),
            ("class", "Client", "Inner", 0),
            ("function", "", "main", 3),
        ]
    );
    assert_eq!(
        imports(&facts),
        [
            "os",
            "json.decoder",
            ".wire",
            "..shared.event.Event",
            "..shared.event.Kind",
            "typing"
        ]
    );
}

#[test]
fn what_is_not_understood_is_counted_and_the_rest_is_read() {
    let facts = read(Language::Rust, "fn good() {}\nfn bad( { ]] }\nfn other() {}\n");
    assert!(facts.errors > 0);
    assert!(
        facts
            .symbols
            .iter()
            .any(|symbol| symbol.name == "good" && symbol.kind == Kind::Function)
    );
    for language in Language::ALL {
        assert_eq!(read(language, "").lines, 0, "{language:?}");
        let odd = b"\xff\xfe \xc3( \0 }{";
        let read = Reader::default().read(language, odd, Duration::from_secs(60), &CancellationToken::new());
        assert_eq!(read.unwrap().lines, 1, "{language:?}");
    }
}
