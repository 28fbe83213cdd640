//! Every check over every file of its corpus, over files that are damaged, and over random bytes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests panic on failure")]

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use hostile::{TARGETS, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Largest corpus, in bytes: it is read by everybody who clones.
const MAX_CORPUS: u64 = 300_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = read.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn own(target: &Target) -> PathBuf {
    root().join("fuzz/corpus").join(target.name)
}

fn inputs(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let more = target.more.iter().map(|folder| root().join(folder));
    let folders = [own(target)].into_iter().chain(more);
    let files = folders.flat_map(|folder| files(&folder));
    files
        .map(|file| (file.clone(), fs::read(&file).unwrap()))
        .collect()
}

/// Bytes that mean something to one parser or another.
const TOKENS: [&[u8]; 24] = [
    b"\n",
    b"\n\n",
    b": ",
    b"=",
    b",",
    b";",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b"\0",
    b"\xff",
    b"\x80",
    b"-",
    b"+",
    b"0",
    b"18446744073709551616",
    b"null",
    b"\xdf\xff\xff\xff\xff",
    b"{body}",
    b" per ",
    b"://",
];

/// One way to damage an input.
#[derive(Debug, Clone)]
enum Damage {
    Set(prop::sample::Index, u8),
    Turn(prop::sample::Index, u8),
    Insert(prop::sample::Index, prop::sample::Index),
    Cut(prop::sample::Index, prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |index: &prop::sample::Index, bytes: &[u8]| index.index(bytes.len() + 1);
        let span = |from: &prop::sample::Index, to: &prop::sample::Index, bytes: &[u8]| {
            let (from, to) = (place(from, bytes), place(to, bytes));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Set(at, byte) => {
                let at = at.index(bytes.len().max(1));
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Self::Turn(at, bit) => {
                let at = at.index(bytes.len().max(1));
                if let Some(place) = bytes.get_mut(at) {
                    *place ^= 1 << (bit % 8);
                }
            }
            Self::Insert(at, token) => {
                let at = place(at, bytes);
                bytes.splice(at..at, TOKENS[token.index(TOKENS.len())].iter().copied());
            }
            Self::Cut(from, to) => drop(bytes.drain(span(from, to, bytes))),
            Self::Repeat(from, to) => {
                let part = bytes[span(from, to, bytes)].to_vec();
                if bytes.len() < 1 << 18 {
                    let at = place(to, bytes);
                    bytes.splice(at..at, part);
                }
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (index(), any::<u8>()).prop_map(|(at, bit)| Damage::Turn(at, bit)),
        (index(), index()).prop_map(|(at, token)| Damage::Insert(at, token)),
        (index(), index()).prop_map(|(from, to)| Damage::Cut(from, to)),
        (index(), index()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

static QUIET: Once = Once::new();

thread_local! {
    /// A case is being tried: what it panics with is told once, for the smallest one.
    static CHECKING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a check as a case of a property, so that what breaks it is made small and told.
fn holds(target: &Target, bytes: &[u8]) -> Result<(), TestCaseError> {
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !CHECKING.get() {
                loud(panic);
            }
        }));
    });
    CHECKING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| (target.check)(bytes)));
    CHECKING.set(false);
    result.map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        TestCaseError::fail(format!(
            "{}: {}\n{:?}",
            target.name,
            why.unwrap_or_default(),
            bytes.escape_ascii().to_string()
        ))
    })
}

fn run<S: Strategy>(cases: u32, strategy: &S, case: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(strategy, case)
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_input_of_the_corpus_keeps_the_promises() {
    for target in TARGETS {
        let inputs = inputs(&target);
        assert!(inputs.len() >= 5, "{} has {} inputs", target.name, inputs.len());
        for (file, bytes) in inputs {
            if let Err(error) = holds(&target, &bytes) {
                panic!("{}: {error}", file.display());
            }
        }
    }
}

#[test]
fn damaged_inputs_keep_the_promises() {
    for target in TARGETS {
        let inputs: Vec<_> = inputs(&target).into_iter().map(|(_, bytes)| bytes).collect();
        let damaged = (
            any::<prop::sample::Index>(),
            proptest::collection::vec(damage(), 1..6),
        );
        run(1_000, &damaged, |(which, damages)| {
            let mut bytes = which.get(&inputs).clone();
            for damage in &damages {
                damage.apply(&mut bytes);
            }
            holds(&target, &bytes)
        });
    }
}

#[test]
fn random_bytes_keep_the_promises() {
    for target in TARGETS {
        let bytes = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..400),
            "\\PC{0,200}".prop_map(String::into_bytes),
            "([a-zA-Z_-]{1,20}[:=] ?[ -~]{0,40}\n){0,8}\n[ -~]{0,60}".prop_map(String::into_bytes),
        ];
        run(500, &bytes, |bytes| holds(&target, &bytes));
    }
}

#[test]
fn every_check_has_its_fuzz_target_and_a_small_corpus() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let mut bytes = 0;
    for target in TARGETS {
        let name = target.name;
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let source = fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("hostile::{name}::check")), "{name}");
        bytes += files(&own(&target))
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum::<u64>();
    }
    assert_eq!(files(&root().join("fuzz/corpus")).len(), TARGETS.len());
    assert_eq!(files(&root().join("fuzz/fuzz_targets")).len(), TARGETS.len());
    assert!(bytes < MAX_CORPUS, "the corpus has {bytes} bytes");
}
