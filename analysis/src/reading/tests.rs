//! Nodes without words, beside a walk over everything.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Reader, Until, Walk};
use crate::language::Language;
use crate::words::Marks;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("target") {
                sources(&path, found);
            }
        } else if entry.metadata().unwrap().len() < 256 << 10 {
            found.push(path);
        }
    }
}

/// Files of each language that are read of what lies here: this project and the packages that its tests use.
const MOST: usize = 300;

/// What nobody writes.
const ODD: &[(Language, &str)] = &[
    (
        Language::Python,
        "x = 1_000if a else 1e5if b else 1.e5if c else 1jif d else 0xfor e",
    ),
    (Language::Java, "void f();"),
    (Language::Java, "enum E { A; abstract int f(); }"),
    (
        Language::Go,
        "package a\nimport (\n\"b\"\n)\ntype (\nC int\n)\nconst (\nD = 1\n)",
    ),
    (Language::JavaScript, "x = { f() { return 1 } }"),
    (Language::TypeScript, "let x: { f(): void }"),
    (Language::C, "int (*f(void))(int) {}"),
];

/// `WEIR_TEST_SOURCES` names a folder that is read as a whole instead: for a new grammar or new words.
#[test]
fn nodes_without_words_mean_nothing() {
    let named = std::env::var_os("WEIR_TEST_SOURCES").map(PathBuf::from);
    let dir = named
        .clone()
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let (mut found, mut read) = (Vec::new(), BTreeMap::<_, usize>::new());
    sources(&dir, &mut found);
    found.sort();
    let (mut reader, cancel) = (Reader::default(), CancellationToken::new());
    let until = Until {
        deadline: Instant::now() + Duration::from_secs(3600),
        cancel: &cancel,
    };
    let mut compare = |language: Language, source: &[u8]| {
        let grammar = language.grammar();
        let tree = reader.parse(language, grammar, source, &until).unwrap();
        let facts = |everywhere| {
            let mut walk = Walk::new(grammar, source, tree.root_node().has_error());
            if everywhere {
                walk.marks = Marks::everywhere(source);
            }
            walk.run(&tree, &until).unwrap();
            walk.facts()
        };
        assert_eq!(facts(false), facts(true), "{}", String::from_utf8_lossy(source));
    };
    for (language, source) in ODD {
        compare(*language, source.as_bytes());
    }
    for path in found {
        let Some(language) = Language::of(path.as_os_str().as_encoded_bytes()) else {
            continue;
        };
        let count = read.entry(language).or_default();
        if named.is_none() && *count >= MOST {
            continue;
        }
        *count += 1;
        compare(language, &fs::read(&path).unwrap());
    }
    assert!(read.contains_key(&Language::Rust) || named.is_some(), "{read:?}");
}
