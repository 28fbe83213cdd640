//! Settings of the three services, from environments that anybody may have written.
//!
//! An input is lines `NAME=value`; `\n`, `\\` and `\xff` in a value are a line break, a backslash and that byte.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use shared::config::{Environment, Fleet, Problems, Reader};

use crate::bits;

/// What no output may hold.
const SECRET: &str = "hunter2-6f1c";
/// Endings of settings that are never shown.
const SECRETS: [&str; 4] = ["_SECRETS", "_SECRET", "_TOKEN", "_CREDENTIALS"];
/// Files that a setting may name here: others may never end, or be none of the check's business.
const FILES: [&str; 4] = ["/dev/null", "/dev/zero", "/nonexistent", "/"];

/// An environment in which values need not be text.
#[derive(Debug, Clone, Default)]
struct Variables(BTreeMap<String, Vec<u8>>);

impl Environment for Variables {
    fn raw(&self, name: &str) -> Option<OsString> {
        self.0.get(name).cloned().map(OsString::from_vec)
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

type Process = (&'static str, fn(&Variables) -> Result<String, Problems>);

const PROCESSES: [Process; 3] = [
    ("ingest", |env| {
        read(env, &ingest::Config::OWN, ingest::Config::read)
    }),
    ("worker", |env| {
        read(env, &worker::config::OWN, worker::config::Config::read)
    }),
    ("scheduler", |env| {
        read(
            env,
            &scheduler::config::Config::OWN,
            scheduler::config::Config::read,
        )
    }),
];

fn read<C>(env: &Variables, own: &[&str], read: fn(&mut Reader<'_>) -> C) -> Result<String, Problems> {
    let mut reader = Reader::new(env);
    let config = read(&mut reader);
    let own: Vec<&str> = own.iter().copied().chain(Fleet::OWN).collect();
    reader.finish(&own, config).map(|(_, shown)| shown.to_string())
}

/// Settings are taken, and what is shown of them reads back as the same settings; or each problem is one short line that
/// begins with a setting's name. No secret is in either.
pub fn check(bytes: &[u8]) {
    let mut env = variables(bytes);
    let postgres = "WEIR_POSTGRES_URL";
    env.0.entry(postgres.into()).or_insert_with(|| b"none".to_vec());
    let marked = marked(&env);
    for (process, read) in PROCESSES {
        match read(&env) {
            Ok(shown) => {
                let again = shown_as_variables(&shown, &env);
                assert_eq!(read(&again), Ok(shown), "{process}");
            }
            Err(Problems(lines)) => {
                assert!(!lines.is_empty());
                for line in &lines {
                    problem(&env, line);
                }
            }
        }
        if let Some(marked) = &marked {
            let told = match read(marked) {
                Ok(shown) => shown,
                Err(problems) => problems.to_string(),
            };
            assert!(!told.contains(SECRET), "{process}: {told}");
        }
    }
}

fn problem(env: &Variables, line: &str) {
    bits::told(line, 2_100);
    let name = line.split(' ').next().unwrap_or_default();
    let known = name.starts_with("WEIR_")
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let set = || {
        let clean = |name: &str| {
            name.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect::<String>()
        };
        env.0
            .keys()
            .any(|name| line.starts_with(&*clean(name).chars().take(100).collect::<String>()))
    };
    assert!(known || set(), "no setting is named: {line}");
}

/// The environment with a secret wherever one may stand; `None` where it would stand elsewhere too.
fn marked(env: &Variables) -> Option<Variables> {
    let mut marked = env.clone();
    for (name, value) in &mut marked.0 {
        if value.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) || name.contains(SECRET) {
            return None;
        }
        if SECRETS.iter().any(|end| name.ends_with(end)) {
            value.extend_from_slice(SECRET.as_bytes());
        } else if name == "WEIR_TOKENS" {
            value.extend_from_slice(b",");
            value.extend_from_slice(SECRET.as_bytes());
        } else if name.ends_with("_URL") {
            let Some(at) = value.windows(3).position(|part| part == b"://") else {
                continue;
            };
            let login = format!("u:{SECRET}@");
            value.splice(at + 3..at + 3, login.into_bytes());
        }
    }
    Some(marked)
}

/// What is shown, as an environment. What is hidden in it is taken from where it came.
fn shown_as_variables(shown: &str, env: &Variables) -> Variables {
    let mut again = Variables::default();
    for line in shown.lines() {
        let Some((name, value)) = line.split_once('=') else {
            panic!("no setting: {line:?}");
        };
        // Of rules only the names are shown: they have many lines.
        let hidden = value == "(set)" || value.contains("***") || name == "WEIR_RULES";
        let value = match env.0.get(name) {
            Some(original) if hidden => original.clone(),
            _ => value.as_bytes().to_vec(),
        };
        let twice = again.0.insert(name.to_owned(), value);
        assert_eq!(twice, None, "{name} is shown twice");
    }
    again
}

fn variables(bytes: &[u8]) -> Variables {
    let mut env = Variables::default();
    for line in bytes.split(|b| *b == b'\n').take(60) {
        let Some(equals) = line.iter().position(|b| *b == b'=') else {
            continue;
        };
        let Ok(name) = std::str::from_utf8(&line[..equals]) else {
            continue;
        };
        let value = unescaped(&line[equals + 1..]);
        if !name.ends_with("_FILE") || FILES.iter().any(|file| file.as_bytes() == value) {
            env.0.insert(name.to_owned(), value);
        }
    }
    env
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => match hex(*high, *low) {
                Some(byte) => (byte, after),
                None => (b'\\', &rest[1..]),
            },
            (first, after) => (*first, after),
        };
        value.push(byte);
        rest = after;
    }
    value
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}
