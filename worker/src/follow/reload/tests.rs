#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::sync::mpsc;

use prometheus_client::registry::Registry;
use shared::config::environment::MAX_BYTES;

use super::super::metrics::{IN_FORCE, STALE};
use super::*;

const FILE: &str = "/rules.toml";

fn rule(name: &str, on: &str) -> String {
    format!(
        "[[rule]]\nname = '{name}'\non = {{ service = '{on}', types = ['a'] }}\nemit = {{ service = 'slack', type = 'call' }}\n"
    )
}

fn services() -> Vec<Service> {
    ["github", "http", "slack"]
        .map(|name| Service::new(name).unwrap())
        .into()
}

struct Desk {
    rulebook: Rulebook,
    in_force: InForce,
    registry: Registry,
}

impl Desk {
    fn new(text: &str) -> Self {
        let settings = [("WEIR_RULES".to_owned(), text.to_owned())];
        let settings: BTreeMap<String, String> = settings.into();
        let mut reader = Reader::new(&settings);
        let book = Book::read(&mut reader, &services());
        let (book, _) = reader.finish(&[], book).unwrap();
        let book = Book {
            file: Some(FILE.into()),
            ..book
        };
        let mut registry = Registry::default();
        let metrics = RuleMetrics::register(&mut registry);
        let (rulebook, in_force) = Rulebook::new(book, services(), metrics);
        Self {
            rulebook,
            in_force,
            registry,
        }
    }

    /// Finds the file so, twice, and does what is to be done; says what was wrong.
    fn find(&mut self, found: &Found) -> Option<String> {
        assert_eq!(self.rulebook.step(found.clone()), Step::Nothing);
        let told = match self.rulebook.step(found.clone()) {
            Step::Nothing => None,
            Step::Change(book) => {
                self.rulebook.put(book);
                None
            }
            Step::Refused(what) => {
                self.rulebook.metrics.stale(true);
                Some(what)
            }
        };
        assert_eq!(self.rulebook.step(found.clone()), Step::Nothing);
        told
    }

    fn write(&mut self, text: &str) -> Option<String> {
        self.find(&Ok(text.as_bytes().to_vec()))
    }

    /// The names of the rules on this service's events.
    fn names(&self, service: &str) -> Vec<String> {
        let book = self.in_force.of(&Service::new(service).unwrap());
        let rules = book.iter().flat_map(|book| book.rules.all());
        rules.map(|rule| rule.name.clone()).collect()
    }

    fn metric(&self, name: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name))
            .unwrap();
        line[name.len() + 1..].to_owned()
    }

    fn figures(&self) -> [String; 3] {
        [IN_FORCE, STALE, "weir_worker_rules_changed_total"].map(|name| self.metric(name))
    }
}

#[test]
fn changed_rules_are_in_force() {
    let one = rule("one", "github");
    let mut desk = Desk::new(&one);
    assert_eq!(desk.names("github"), ["one"]);
    // As it was at the start.
    assert_eq!(desk.write(&one), None);
    assert_eq!(desk.figures(), ["1", "0", "0"]);
    assert_eq!(
        desk.write(&(rule("two", "github") + &rule("three", "http"))),
        None
    );
    assert_eq!(
        (desk.names("github"), desk.names("http")),
        (vec!["two".into()], vec!["three".into()])
    );
    assert_eq!(desk.figures(), ["2", "0", "1"]);
    assert_eq!(desk.rulebook.book.file.as_deref(), Some(Path::new(FILE)));
    assert_eq!(desk.write("rule = []"), None);
    assert!(desk.names("github").is_empty() && desk.names("http").is_empty());
    assert_eq!(desk.figures(), ["0", "0", "2"]);
    assert_eq!(desk.write(""), None, "a file without rules may have no text");
    assert_eq!(desk.write(&one), None);
    assert_eq!(desk.names("github"), ["one"]);
}

#[test]
fn what_is_wrong_changes_nothing() {
    let good = rule("one", "github");
    let mut desk = Desk::new(&good);
    for (found, says) in [
        (
            Ok(rule("bad", "jira").into_bytes()),
            "WEIR_RULES line 3, rule bad: on.service is jira",
        ),
        (
            Ok((0..30)
                .map(|_| rule("Bad", "http"))
                .collect::<String>()
                .into_bytes()),
            "; and 20 more",
        ),
        (Ok(b"[[rule".to_vec()), "is no TOML"),
        (Ok(b"\xff".to_vec()), "is no text"),
        (Ok(b" \n".to_vec()), "is empty"),
        (Ok(vec![b'#'; MAX_BYTES + 1]), "more than"),
        (Err("cannot be read: gone".to_owned()), "cannot be read: gone"),
    ] {
        let told = desk.find(&found).unwrap();
        assert!(told.contains(says), "{told}");
        assert_eq!(
            (desk.names("github"), desk.figures()),
            (vec!["one".to_owned()], ["1", "1", "0"].map(Into::into))
        );
    }
    // Mended: what is in force is what the file says again.
    assert_eq!(desk.write(&good), None);
    assert_eq!(desk.figures(), ["1", "0", "0"]);
}

#[test]
fn what_is_being_written_is_waited_for() {
    let (one, two) = (rule("one", "github"), rule("two", "github"));
    let all = one.clone() + &two;
    let mut desk = Desk::new(&all);
    // Cut off at any place, as an editor may leave it for a moment: also where it is a rules file.
    for end in 0..all.len() {
        desk.rulebook.restless = 0;
        assert_eq!(
            desk.rulebook.step(Ok(all.as_bytes()[..end].to_vec())),
            Step::Nothing
        );
    }
    assert_eq!(desk.write(&all), None);
    assert_eq!(
        (desk.names("github"), desk.figures()),
        (
            vec!["one".to_owned(), "two".to_owned()],
            ["2", "0", "0"].map(Into::into)
        )
    );
    // What cannot be prepared for is judged again.
    assert_eq!(desk.rulebook.step(Ok(one.clone().into_bytes())), Step::Nothing);
    assert!(matches!(
        desk.rulebook.step(Ok(one.clone().into_bytes())),
        Step::Change(_)
    ));
    desk.rulebook.judged = false;
    assert!(matches!(
        desk.rulebook.step(Ok(one.into_bytes())),
        Step::Change(_)
    ));
}

#[test]
fn a_file_that_never_rests_is_told_once() {
    let (one, two) = (rule("one", "github"), rule("two", "github"));
    let mut desk = Desk::new(&one);
    assert_eq!(desk.write(&one), None);
    let mut told = Vec::new();
    for text in [&two, &one].into_iter().cycle().take(50) {
        match desk.rulebook.step(Ok(text.clone().into_bytes())) {
            Step::Refused(what) => told.push(what),
            step => assert_eq!(step, Step::Nothing),
        }
    }
    assert_eq!(told, ["is another at each of 5 looks, 2s apart"]);
    // It rests, and what it says then counts.
    desk.rulebook.metrics.stale(true);
    assert_eq!(desk.write(&two), None);
    assert_eq!(
        (desk.names("github"), desk.figures()),
        (vec!["two".to_owned()], ["1", "0", "1"].map(Into::into))
    );
}

#[test]
fn only_regular_files_are_read() {
    let scratch = tempfile::tempdir().unwrap();
    let fifo = scratch.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    // Nobody writes into it.
    let refused = Err("cannot be read: no regular file".to_owned());
    assert_eq!(read(&fifo), refused);
    assert_eq!(read(scratch.path()), refused);
    let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
    std::fs::write(&file, "rule = []").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert_eq!(read(&link), Ok(b"rule = []".to_vec()));
}

#[tokio::test]
async fn a_look_that_has_no_end_is_told_and_the_only_one() {
    let (answer, asked) = mpsc::sync_channel::<()>(1);
    let mut look = Look::default();
    let hangs = move || {
        asked.recv().unwrap();
        Ok(b"late".to_vec())
    };
    let refused = Err("cannot be read: no answer within 1ms".to_owned());
    let short = Duration::from_millis(1);
    assert_eq!(look.at(hangs, short).await, refused);
    let other = || -> Found { panic!("one hangs already") };
    assert_eq!(look.at(other, short).await, refused);
    answer.send(()).unwrap();
    assert_eq!(look.at(other, Duration::from_mins(5)).await, Ok(b"late".to_vec()));
    let found = look.at(|| Ok(b"now".to_vec()), Duration::from_mins(5)).await;
    assert_eq!(found, Ok(b"now".to_vec()));
}
