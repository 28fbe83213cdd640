//! What is left out or not entered, beside a walk over everything.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tree_sitter::Tree;

use super::{Reader, Until, Walk};
use crate::language::{Grammar, Language, Meaning, Source};
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

/// All comments, also those in what is not entered.
fn comments(grammar: &Grammar, tree: &Tree) -> Vec<(usize, usize)> {
    let (mut found, mut cursor) = (Vec::new(), tree.walk());
    loop {
        let node = cursor.node();
        let meaning = grammar.meanings.get(usize::from(node.kind_id()));
        if meaning == Some(&Meaning::Comment) {
            found.push((node.start_byte(), node.end_byte()));
        } else if cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return found;
            }
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
    (Language::Rust, "#!/bin/'sh \"\nfn a() {} // b"),
    (
        Language::Rust,
        "#![a(b = \"]\")]\n#[c(']', '\\'', '\\u{5d}')]fn/*/*\n*/*/d<'a>(e: &'a str) {}",
    ),
    (
        Language::Rust,
        "fn a() { if!(b && c) { return!(d || e) } else { f!(\"(\" && ')') } }",
    ),
    (
        Language::Rust,
        "fn a() { x(r\"\\\", br##\"\"#\"##, r#type, c\"\\\"\", b'\"', '\"'); if a && b {} }",
    ),
    (
        Language::Rust,
        "macro_rules ! a { (/* b */) => { fn } } mod c { d ! { if ( } } fn e() { 'f: loop {} }",
    ),
    (
        Language::Rust,
        "fn a() { b!(c)\n? ; d![\n// e\n] }\nfn f() { /* not closed",
    ),
    (Language::Rust, "fn a() { b!(c] } fn d() { if e {} }"),
    (Language::Rust, "fn a() { b!(c"),
    (Language::Rust, "fn a() { let b = 'c; let d = '"),
    (
        Language::Rust,
        "fn \u{e4}b() { \u{e4}!(\u{1f600} '\u{1f600}' if) } // \u{1f600}",
    ),
    (Language::Java, "enum E { A; abstract int f(); }"),
    (
        Language::Go,
        "package a\nimport (\n\"b\"\n)\ntype (\nC int\n)\nconst (\nD = 1\n)",
    ),
    (
        Language::Go,
        "package a\nfunc b() { c('(', '\\''); type ( d interface { e(f int) } ); const ( g = h(1) ) }",
    ),
    (
        Language::Go,
        "package a\nimport `b`\nfunc (c *d) e() (f int) { go func() { g() }(); if `{` == \"}\" {} }",
    ),
    (
        Language::Go,
        "package a\nfunc b() interface{} { for range c(d) { e{f, {g}} }; switch h := i.(type) { case j: } }",
    ),
    (
        Language::Rust,
        "impl A for extern \"C\" fn(B) { fn c() {} } impl A for D![=] { fn c() {} } impl A for (B, /* d */ E) { fn c() {} }",
    ),
    (
        Language::Rust,
        "impl A for [u8; 'b' as usize] { fn c() {} } impl A for fn(#[d] B) { fn c() {} } use e /* f */ ::g;",
    ),
    (
        Language::Rust,
        "fn a() { impl B for &C<{ 1 }> { fn d() {} } impl B<{ 1 }> for (C, D) { fn e() {} } impl B for (C,) { fn f() {} } }",
    ),
    (Language::Rust, "fn a() { 'a: loop { break 'a!(b && c); } }"),
    (Language::Rust, "#! [a(b)] // (\nfn c() { d!(\n// e\n) }"),
    (
        Language::Rust,
        "\u{feff}#!/bin/sh it's \"\nfn a() { b!(\n// c\n) }",
    ),
    (
        Language::Rust,
        "fn a() { fn b() where (C): D { if e {} } let f: impl G + use<'h> = (i, j); }",
    ),
    (
        Language::Go,
        "package a\nfunc b() { var c interface\u{b}{ d() } }",
    ),
    (
        Language::Go,
        "package a\nfunc b()/*\n*/{}\nconst c = d/*\n*/+ e//\nvar f = g/*\n*/&& h",
    ),
    (
        Language::Go,
        "package a\nfunc (/* ( */ b *C[T]) d() {}\nfunc (\n// e\nf G) h() { if []byte(i) != j(k) { l\n(*m).n(o) } }",
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
    let mut twice = 0;
    let mut compare = |language: Language, source: &[u8], name: &str| {
        let grammar = language.grammar();
        let tree = reader.parse(language, grammar, source, &until).unwrap();
        let erroneous = tree.root_node().has_error();
        let facts = |everywhere, comments: Option<&[_]>| {
            let whole = Source {
                whole: source,
                left: None,
            };
            let mut walk = Walk::new(grammar, whole, erroneous);
            if everywhere {
                walk.marks = Marks::everywhere(source);
            }
            walk.run(&tree, &until).unwrap();
            walk.facts(comments)
        };
        assert_eq!(facts(false, None), facts(true, None), "{name}");
        if let Some(elide) = grammar.rules.elide {
            let left = elide(source, &grammar.words);
            let parsed = left.map(|left| reader.parse(language, grammar, &left.text, &until).unwrap());
            twice += usize::from(!erroneous && parsed.is_none_or(|tree| tree.root_node().has_error()));
            let mut read = reader
                .read(language, source, Duration::from_secs(60), &cancel)
                .unwrap();
            let whole = facts(true, Some(&comments(grammar, &tree)));
            if erroneous && read.errors == 0 {
                // They are in what was left out, and may have spoilt what is around it.
                assert_eq!((read.bytes, read.lines), (whole.bytes, whole.lines), "{name}");
                return;
            }
            if erroneous {
                // What is a comment there is a guess.
                read.code_lines = whole.code_lines;
            }
            assert_eq!(read, whole, "{name}");
        }
    };
    for (language, source) in ODD {
        compare(*language, source.as_bytes(), source);
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
        compare(language, &fs::read(&path).unwrap(), &path.to_string_lossy());
    }
    assert!(read.contains_key(&Language::Rust) || named.is_some(), "{read:?}");
    // What is left of a source must be one as well, or the work is done twice.
    assert!(
        twice <= ODD.len() + read.values().sum::<usize>() / 50,
        "{twice} of {read:?}"
    );
}
