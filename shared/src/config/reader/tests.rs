#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::config::environment::MAX_BYTES;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn all_problems_at_once_with_their_names() {
    let env = environment(&[
        ("WEIR_A_TIMEOUT", "soon"),
        ("WEIR_A_SIZE", "1GB"),
        ("WEIR_A_TIMEOUTS", "5s"),
        ("WEIR_A_KEY_FILE", "/nonexistent/key"),
        ("OTHER", "x"),
        ("WEIR_SERVCES", "x"),
        ("WEIR_INGEST_LISTEN", "another process checks it"),
    ]);
    let mut reader = Reader::new(&env);
    let second = Duration::from_secs(1);
    reader.duration("WEIR_A_TIMEOUT", second, second..=second);
    reader.bytes("WEIR_A_SIZE", 1, 1..=1024);
    reader.secret("WEIR_A_KEY");
    let Problems(lines) = reader.finish(&["WEIR_A_"], ()).unwrap_err();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[4].starts_with("WEIR_SERVCES is unknown"), "{lines:?}");
    assert!(
        lines[0].starts_with("WEIR_A_TIMEOUT cannot be read: \"soon\" is no duration"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("WEIR_A_SIZE") && lines[1].contains("not within 1 and 1024"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("WEIR_A_KEY_FILE names \"/nonexistent/key\""),
        "{lines:?}"
    );
    assert_eq!(
        lines[3],
        "WEIR_A_TIMEOUTS is unknown: did you mean WEIR_A_TIMEOUT?"
    );
}

#[test]
fn secrets_are_never_shown() {
    let env = environment(&[("WEIR_URL", "redis://me:hunter2@h:1/0"), ("WEIR_KEY", "hunter2")]);
    let mut reader = Reader::new(&env);
    assert_eq!(
        reader.url("WEIR_URL", "redis://x", &["redis"]),
        "redis://me:hunter2@h:1/0"
    );
    assert_eq!(reader.secret("WEIR_KEY").as_deref(), Some("hunter2"));
    let ((), shown) = reader.finish(&["WEIR_"], ()).unwrap();
    assert_eq!(
        shown.to_string(),
        "WEIR_URL=redis://me:***@h:1/0\nWEIR_KEY=(set)\n"
    );
}

/// What reading one setting says is wrong with it.
fn wrong(value: &[u8], read: impl FnOnce(&mut Reader<'_>)) -> String {
    struct Only(OsString);
    impl Environment for Only {
        fn raw(&self, name: &str) -> Option<OsString> {
            (name == "WEIR_A").then(|| self.0.clone())
        }

        fn names(&self) -> Vec<String> {
            vec!["WEIR_A".into()]
        }
    }
    let env = Only(OsString::from_vec(value.to_vec()));
    let mut reader = Reader::new(&env);
    read(&mut reader);
    let Problems(lines) = reader.finish(&["WEIR_A"], ()).err().unwrap_or(Problems(vec![]));
    assert!(lines.len() <= 1, "{lines:?}");
    lines.concat()
}

#[test]
fn text_that_is_none_is_refused_without_being_shown() {
    let long = vec![b'x'; MAX_BYTES + 1];
    for (value, says) in [
        (&b"hunter2\xff"[..], "WEIR_A is not UTF-8 from byte 7"),
        (b"hunter2\0", "WEIR_A has a control character (U+0000) at byte 7"),
        (
            b"hunt\x1ber2",
            "WEIR_A has a control character (U+001B) at byte 4",
        ),
        (
            b"hunt\xc2\x85er2",
            "WEIR_A has a control character (U+0085) at byte 4",
        ),
        (&long, "WEIR_A has more than 262144 bytes"),
    ] {
        let secret = |reader: &mut Reader<'_>| drop(reader.secret("WEIR_A"));
        let text = |reader: &mut Reader<'_>| drop(reader.text("WEIR_A", ""));
        assert_eq!(wrong(value, secret), says);
        assert_eq!(wrong(value, text), says);
    }
}

#[test]
fn line_breaks_are_for_lists_and_secrets() {
    let value = b"one,\r\n\ttwo\n";
    let break_in = "WEIR_A has a control character (U+000D) at byte 4";
    assert_eq!(wrong(value, |r| drop(r.text("WEIR_A", ""))), break_in);
    assert_eq!(wrong(value, |r| drop(r.optional("WEIR_A"))), break_in);
    assert_eq!(wrong(value, |r| drop(r.secret_line("WEIR_A"))), break_in);
    assert_eq!(wrong(value, |r| drop(r.secret("WEIR_A"))), "");
    let list = |r: &mut Reader<'_>| assert_eq!(r.list("WEIR_A", "", |p| Ok(p.to_owned())), ["one", "two"]);
    assert_eq!(wrong(value, list), "");
}

#[test]
fn files_are_bounded_and_checked_like_variables() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (fifo, long, link) = (&*place("fifo"), &*place("long"), &*place("link"));
    // Nobody writes into it.
    let made = std::process::Command::new("mkfifo").arg(fifo).status();
    assert!(made.unwrap().success());
    std::fs::write(long, vec![b'a'; MAX_BYTES + 1]).unwrap();
    std::os::unix::fs::symlink(long, link).unwrap();
    for (path, says) in [
        (
            "/dev/zero",
            "WEIR_A_FILE names \"/dev/zero\", which cannot be read: no regular file",
        ),
        (
            fifo,
            &format!("WEIR_A_FILE names {fifo:?}, which cannot be read: no regular file"),
        ),
        (link, "WEIR_A_FILE has more than 262144 bytes"),
        ("/", "WEIR_A_FILE names \"/\", which cannot be read"),
        (
            "/no\nsuch",
            "WEIR_A_FILE names \"/no\\nsuch\", which cannot be read",
        ),
    ] {
        let env = environment(&[("WEIR_A_FILE", path)]);
        let mut reader = Reader::new(&env);
        assert_eq!(reader.secret("WEIR_A"), None);
        let Problems(lines) = reader.finish(&["WEIR_A"], ()).unwrap_err();
        assert!(lines.len() == 1 && lines[0].starts_with(says), "{lines:?}");
    }
}

#[test]
fn lists_name_nothing_twice_and_end() {
    let list = |text: &str| {
        wrong(text.as_bytes(), |r| {
            r.list("WEIR_A", "", |p| Ok(p.to_owned()));
        })
    };
    assert_eq!(list("a, b,a"), "WEIR_A names a twice");
    let parts = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(list(&parts(MAX_PARTS)), "");
    assert_eq!(
        list(&parts(MAX_PARTS + 1)),
        "WEIR_A has 1001 parts, more than 1000"
    );
}

#[test]
fn what_is_told_and_shown_is_one_short_line() {
    let value = format!("{}\n\u{9b}31m", "x".repeat(100_000));
    let env = environment(&[
        ("WEIR_A", &value),
        ("WEIR_B", "5\n6"),
        (&"WEIR_A".repeat(9_000), "set"),
        ("WEIR_ABSENT", " "),
    ]);
    let mut reader = Reader::new(&env);
    reader.with("WEIR_A", (), |text| Err(text.to_owned()), |()| String::new());
    reader.with("WEIR_B", String::new(), |text| Ok(text.to_owned()), String::clone);
    assert_eq!(reader.shown[1].1, "5\n6");
    assert_eq!(Shown(vec![reader.shown[1].clone()]).to_string(), "WEIR_B=5 6\n");
    let Problems(lines) = reader.finish(&["WEIR_A"], ()).unwrap_err();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert!(line.starts_with("WEIR_A") && line.chars().count() <= MAX_TOLD + 1);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn a_name_for_two_settings_is_told() {
    let env = environment(&[("WEIR_X_ID_HEADER", "x-id")]);
    let mut reader = Reader::new(&env);
    assert_eq!(reader.optional("WEIR_X_ID_HEADER").as_deref(), Some("x-id"));
    assert_eq!(reader.optional("WEIR_X_ID_HEADER"), None);
    let Problems(lines) = reader.finish(&["WEIR_X"], ()).unwrap_err();
    assert!(lines.len() == 1 && lines[0].starts_with("WEIR_X_ID_HEADER means two things"));
}

#[test]
fn passwords_and_tokens_in_urls_are_not_shown() {
    for (url, shown) in [
        ("redis://h:1/0", "redis://h:1/0"),
        ("postgres://me@h/db", "postgres://me@h/db"),
        ("redis://:hunter2@h", "redis://:***@h"),
        ("redis://me:hun/ter2@h:1/0", "redis://me:***@h:1/0"),
        ("redis://me:hun?ter2@h", "redis://me:***@h"),
        ("redis://me:hun@ter2@h", "redis://me:***@h"),
        ("nats://hunter2@h:4222", "nats://***@h:4222"),
        ("me:hunter2@h", "***"),
        (
            "postgres://h/db?user=me&password=hunter2&sslmode=require",
            "postgres://h/db?user=me&password=***&sslmode=require",
        ),
        (
            "postgres://me:hunter2@h/db?sslpassword=hunter2",
            "postgres://me:***@h/db?sslpassword=***",
        ),
    ] {
        assert_eq!(without_password(url), shown, "{url}");
    }
}
