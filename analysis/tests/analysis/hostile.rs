//! Repositories made to take all there is: each bound one by one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use analysis::AnalysisError;
use analysis::catalog::Reason;
use analysis::facts::{MAX_IMPORTS, MAX_SYMBOLS};
use analysis::language::Language;
use analysis::reading::{Reader, Unread};
use tokio_util::sync::CancellationToken;

use crate::world::{World, commit, git};

#[tokio::test]
async fn deep_nesting_in_every_language_ends() {
    let mut world = World::new();
    world.settings.file_time = Duration::from_millis(500);
    // As deep as a file may be large.
    let nest = |open: &str, close: &str| {
        let deep = (world.settings.file_bytes - 100) / (open.len() + close.len());
        open.repeat(deep) + &close.repeat(deep)
    };
    world.write("a.rs", format!("fn f() {{ {} }}", nest("{ if true ", "}")));
    world.write("mods.rs", nest("mod m { use super::x; ", "}"));
    world.write("uses.rs", format!("use {};", nest("a::{", "}")));
    world.write("b.py", format!("x = {}", nest("(", ")")));
    world.write("c.js", format!("x = {}", nest("[() => {", "}]")));
    world.write("d.ts", format!("type T = {}", nest("Array<", ">")));
    world.write("e.go", format!("package p\nfunc f() {{ {} }}", nest("{", "}")));
    world.write("F.java", format!("class A {{ int x = {}; }}", nest("(", ")")));
    world.write("classes.java", nest("class A {", "}"));
    world.write("g.c", format!("int x = {};", nest("(", ")")));
    world.write("h.c", "int ".to_owned() + &nest("(*", ")") + "(void);");
    let report = world.analyze().await.unwrap();
    // Each of them is either read or timed out; none of them takes the process along.
    assert_eq!(
        report.totals.files + report.skipped.count(Reason::TimedOut),
        11,
        "{report:?}"
    );
}

#[tokio::test]
async fn large_and_binary_files_are_passed_over_and_told() {
    let mut world = World::with(&[("ok.py", "x = 1\n")]);
    world.settings.file_bytes = 1000;
    world.write("large.py", "x = 1\n".repeat(200));
    world.write("most.py", [b'#'; 1000]);
    world.write("binary.c", b"int x;\0\x01\x02");
    for _ in 0..2 {
        let report = world.analyze().await.unwrap();
        assert_eq!((report.totals.files, report.complete), (2, true));
        assert_eq!(report.skipped.0[&Reason::TooLarge].samples, ["large.py"]);
        assert_eq!(report.skipped.0[&Reason::Binary].samples, ["binary.c"]);
        commit(world.path());
    }
}

#[tokio::test]
async fn links_pipes_and_odd_names_do_not_lead_astray() {
    let world = World::with(&[("ok.py", "x = 1\n"), ("dir/ok.py", "y = 1\n")]);
    let outside = World::with(&[("secret.py", "def secret(): pass\n")]);
    symlink(outside.path().join("secret.py"), world.path().join("file.py")).unwrap();
    symlink(outside.path(), world.path().join("folder")).unwrap();
    symlink("..", world.path().join("dir/loop")).unwrap();
    symlink("/dev/zero", world.path().join("zero.py")).unwrap();
    let made = Command::new("mkfifo")
        .arg(world.path().join("pipe.py"))
        .status()
        .unwrap();
    assert!(made.success());
    let odd = OsStr::from_bytes(b"n\xf6t utf8 \n\\.py");
    fs::write(world.path().join(odd), "z = 1\n").unwrap();
    fs::create_dir(world.path().join(OsStr::from_bytes(b"d\xff"))).unwrap();
    fs::write(
        world.path().join(OsStr::from_bytes(b"d\xff/x.py")),
        "from . import x\n",
    )
    .unwrap();

    let report = world.analyze().await.unwrap();
    assert_eq!(report.totals.files, 4);
    assert_eq!(report.skipped.count(Reason::Link), 4);
    assert_eq!(report.skipped.0[&Reason::NotAFile].samples, ["pipe.py"]);
    let paths: Vec<&str> = report.largest.iter().map(|file| file.path.as_str()).collect();
    assert!(
        paths.contains(&"n\\xf6t utf8 \\n\\\\.py") && paths.contains(&"d\\xff/x.py"),
        "{paths:?}"
    );

    fs::remove_file(world.path().join("pipe.py")).unwrap();
    commit(world.path());
    let committed = world.analyze().await.unwrap();
    assert_eq!(
        (committed.totals.files, committed.skipped.count(Reason::Link)),
        (4, 4)
    );
}

#[tokio::test]
async fn depth_entries_files_bytes_and_time_are_bounded() {
    let mut world = World::new();
    for number in 0..200 {
        world.write(
            &format!("d{}/f{number}.py", number % 7),
            format!("x{number} = {number}\n"),
        );
        world.write(&format!("data/{number}.txt"), "no code");
    }
    world.write(&format!("{}f.py", "deep/".repeat(70)), "x = 1\n");
    for _ in 0..2 {
        let all = world.analyze().await.unwrap();
        assert_eq!((all.totals.files, all.complete), (200, true));
        assert_eq!(all.skipped.count(Reason::TooDeep), 1);
        assert!(all.entries > 400);

        let whole = world.settings.clone();
        world.settings.entries = 50;
        let few = world.analyze().await.unwrap();
        assert_eq!(
            (few.complete, few.entries, few.reached.as_slice()),
            (false, 50, &["entries".to_owned()][..])
        );

        world.settings = whole.clone();
        world.settings.files = 30;
        let few = world.analyze().await.unwrap();
        assert_eq!(
            (few.totals.files, few.reached.as_slice()),
            (30, &["files".to_owned()][..])
        );

        world.settings = whole.clone();
        world.settings.bytes = 100;
        let few = world.analyze().await.unwrap();
        assert!(few.totals.bytes >= 100 && few.totals.bytes < 1000);
        assert_eq!(few.reached, ["bytes"]);

        world.settings = whole.clone();
        world.settings.time = Duration::ZERO;
        let few = world.analyze().await.unwrap();
        assert_eq!(
            (few.totals.files, few.reached.as_slice()),
            (0, &["time".to_owned()][..])
        );
        world.settings = whole;
        commit(world.path());
    }
}

#[test]
fn a_file_that_takes_too_long_is_given_up_and_the_next_one_is_read() {
    let source = format!("fn f() {{ {} }}", "a(".repeat(200_000));
    let mut reader = Reader::default();
    let go_on = CancellationToken::new();
    let slow = reader.read(Language::Rust, source.as_bytes(), Duration::ZERO, &go_on);
    assert_eq!(slow, Err(Unread::TimedOut));
    let next = reader
        .read(Language::Rust, b"fn g() {}", Duration::from_secs(60), &go_on)
        .unwrap();
    assert_eq!((next.symbols.len(), next.errors), (1, 0));
    let stop = CancellationToken::new();
    stop.cancel();
    let cancelled = reader.read(Language::Rust, source.as_bytes(), Duration::from_secs(60), &stop);
    assert_eq!(cancelled, Err(Unread::Cancelled));
}

#[tokio::test]
async fn a_file_that_times_out_is_told() {
    let mut world = World::with(&[("slow.rs", &"fn f() { a(b); }\n".repeat(1000))]);
    world.settings.file_time = Duration::ZERO;
    let report = world.analyze().await.unwrap();
    assert_eq!(report.skipped.0[&Reason::TimedOut].samples, ["slow.rs"]);
    // It is tried again when there is more time.
    world.settings.file_time = Duration::from_secs(60);
    assert_eq!(world.analyze().await.unwrap().parsed, 1);
}

#[tokio::test]
async fn symbols_imports_and_names_are_bounded() {
    let mut world = World::new();
    world.settings.file_bytes = 1 << 20;
    world.write("symbols.rs", "fn f(){}".repeat(MAX_SYMBOLS + 10));
    world.write("imports.py", "import a\n".repeat(MAX_IMPORTS + 7));
    let long = "n".repeat(100_000);
    world.write(
        "long.rs",
        format!("fn {long}() {{}} mod {long} {{ fn g() {{}} }} use {long}::x;"),
    );
    let nested = format!("mod {} {{ ", "m".repeat(200)).repeat(2000);
    world.write("nested.rs", nested + &"}".repeat(2000));
    let report = world.analyze().await.unwrap();
    assert_eq!(report.totals.files, 4);
    assert!(report.totals.dropped >= 17, "{}", report.totals.dropped);
    assert!(
        report
            .most_complex_functions
            .iter()
            .all(|one| one.name.len() < 2000)
    );
    let kept = serde_json::to_string(&report).unwrap();
    assert!(kept.len() < 100_000, "{}", kept.len());
}

/// A tree in which each level names the next one ten times: ten objects, 10^10 files.
#[tokio::test]
async fn a_repository_that_unfolds_into_billions_of_files_ends_at_the_bound() {
    let mut world = World::with(&[("a.py", "x = 1\n")]);
    world.settings.entries = 20_000;
    world.settings.files = 5_000;
    commit(world.path());
    let mut id = git(world.path(), &["rev-parse", "HEAD:a.py"]);
    for level in 0..10 {
        let (mode, kind, end) = if level == 0 {
            ("100644", "blob", ".py")
        } else {
            ("040000", "tree", "")
        };
        let entries: Vec<String> = (0..10)
            .map(|n| format!("{mode} {kind} {id}\tx{n}{end}\n"))
            .collect();
        world.write("entries", entries.concat());
        let made = Command::new("git")
            .arg("mktree")
            .current_dir(world.path())
            .stdin(fs::File::open(world.path().join("entries")).unwrap())
            .output()
            .unwrap();
        id = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    }
    let commit = git(world.path(), &["commit-tree", "-m", "bomb", &id]);
    let report = world.analyze_at(world.path(), Some(&commit)).await.unwrap();
    assert_eq!((report.totals.files, report.complete), (5000, false));
    assert!(report.reached.contains(&"files".to_owned()));
    // It is one content: hardly anything of it is parsed.
    assert!(report.parsed <= 200, "{}", report.parsed);
}

/// A repository that names itself as its submodule, checked out into itself some times.
#[tokio::test]
async fn submodule_loops_are_not_entered() {
    let world = World::with(&[("work/a.py", "x = 1\n")]);
    let work = world.path().join("work");
    commit(&work);
    for name in ["one", "two"] {
        git(&work, &["submodule", "--quiet", "add", "--force", "./.", name]);
        commit(&work);
    }
    let report = world.analyze_at(&work, None).await.unwrap();
    assert_eq!(
        (report.totals.files, report.skipped.count(Reason::Submodule)),
        (1, 2)
    );
}

#[tokio::test]
async fn folders_of_installed_and_built_things_are_passed_over() {
    let world = World::with(&[
        ("a.js", "x"),
        ("node_modules/dep/index.js", "x"),
        (
            "target/CACHEDIR.TAG",
            "Signature: 8a477f597d28d172789f06886806bc55",
        ),
        ("target/debug/out.rs", "fn f() {}"),
        (".hg/x.py", ""),
    ]);
    let report = world.analyze().await.unwrap();
    assert_eq!(
        (report.totals.files, report.skipped.count(Reason::Folder)),
        (1, 3)
    );
}

#[tokio::test]
async fn an_empty_repository_has_no_head() {
    let world = World::new();
    git(world.path(), &["init", "--quiet"]);
    let empty = world.analyze().await;
    assert!(matches!(empty, Err(AnalysisError::NotFound(_))), "{empty:?}");
    let folder = World::new().analyze().await.unwrap();
    assert_eq!((folder.totals.files, folder.complete), (0, true));
}
