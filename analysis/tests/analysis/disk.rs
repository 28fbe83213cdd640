//! Repositories on this machine: revisions, packs, bare ones, and what leads out of the roots.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use analysis::catalog::Reason;
use analysis::{AnalysisError, Source};

use crate::world::{World, commit, git};

fn refused(result: Result<analysis::Report, AnalysisError>) -> String {
    match result {
        Err(AnalysisError::Refused(why) | AnalysisError::NotAllowed { what: why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn revisions_are_branches_tags_references_and_hashes() {
    let world = World::with(&[("a.py", "def one(): pass\n")]);
    commit(world.path());
    git(world.path(), &["tag", "--annotate", "--message=first", "v1"]);
    git(world.path(), &["branch", "old/branch"]);
    let first = git(world.path(), &["rev-parse", "HEAD"]);
    world.write("b.py", "def two(): pass\n");
    commit(world.path());
    let second = git(world.path(), &["rev-parse", "HEAD"]);
    for (revision, commit, files) in [
        (None, &second, 2),
        (Some("main"), &second, 2),
        (Some("HEAD"), &second, 2),
        (Some("v1"), &first, 1),
        (Some("old/branch"), &first, 1),
        (Some("refs/tags/v1"), &first, 1),
        (Some(first.as_str()), &first, 1),
    ] {
        let report = world.analyze_at(world.path(), revision).await.unwrap();
        assert_eq!(
            (report.commit.as_ref(), report.totals.files),
            (Some(commit), files),
            "{revision:?}"
        );
    }
    let missing = world.analyze_at(world.path(), Some("nowhere")).await;
    assert!(matches!(missing, Err(AnalysisError::NotFound(_))), "{missing:?}");
    for odd in [
        "",
        "-x",
        "main~3",
        "main^{tree}",
        "a..b",
        "@{-1}",
        "../x",
        "a b",
        "x.lock",
        "\n",
        "/a",
    ] {
        refused(world.analyze_at(world.path(), Some(odd)).await);
    }
}

#[tokio::test]
async fn packed_and_bare_repositories_and_submodules() {
    let world = World::new();
    let (work, other, bare) = (
        world.path().join("work"),
        world.path().join("other"),
        world.path().join("bare.git"),
    );
    for number in 0..60 {
        world.write(
            &format!("work/src/f{number}.c"),
            format!("int f{number}(void) {{ return {number}; }}\n"),
        );
    }
    world.write("other/o.c", "int o;\n");
    commit(&other);
    commit(&work);
    git(
        &work,
        &[
            "submodule",
            "--quiet",
            "add",
            other.to_str().unwrap(),
            "deps/other",
        ],
    );
    symlink("../src/f1.c", work.join("src/link.c")).unwrap();
    commit(&work);
    git(&work, &["gc", "--quiet", "--aggressive"]);
    git(world.path(), &["clone", "--quiet", "--bare", "work", "bare.git"]);
    for place in [&work, &bare] {
        let report = world.analyze_at(place, None).await.unwrap();
        assert_eq!(report.totals.files, 60, "{}", place.display());
        assert_eq!(report.skipped.0[&Reason::Submodule].samples, ["deps/other"]);
        assert_eq!(report.skipped.0[&Reason::Link].samples, ["src/link.c"]);
    }
    // As a folder: the checked out submodule is a repository of its own.
    fs::remove_dir_all(work.join(".git")).unwrap();
    let folder = world.analyze_at(&work, None).await.unwrap();
    assert_eq!((folder.commit.clone(), folder.totals.files), (None, 60));
    assert_eq!(folder.skipped.count(Reason::Submodule), 1);
    assert_eq!(folder.skipped.count(Reason::Link), 1);
    refused(world.analyze_at(&work, Some("main")).await);
}

#[tokio::test]
async fn only_what_is_below_a_root_is_read() {
    let world = World::with(&[("in/a.py", "x = 1\n")]);
    let outside = World::with(&[("secret.py", "def secret(): pass\n")]);
    symlink(outside.path(), world.path().join("way-out")).unwrap();
    for path in [
        outside.path().to_owned(),
        world.path().join("way-out"),
        world.path().join("in/../.."),
        world.path().join("missing"),
        world.path().join("in/a.py"),
        "/".into(),
        "relative".into(),
    ] {
        refused(world.analyze_at(&path, None).await);
    }
    // A link that stays inside is as good as the folder.
    symlink(world.path().join("in"), world.path().join("again")).unwrap();
    assert_eq!(
        world
            .analyze_at(&world.path().join("again"), None)
            .await
            .unwrap()
            .totals
            .files,
        1
    );
    let mut closed = World::new();
    closed.settings.roots.clear();
    let error = closed.analyze().await.unwrap_err();
    assert_eq!(error.setting(), Some("roots"));
    assert!(
        !error.is_transient() && error.to_string().contains("`roots`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_repository_whose_own_folder_leads_out_is_refused() {
    let outside = World::with(&[("secret.py", "def secret(): pass\n")]);
    commit(outside.path());
    let secret = outside.path().join(".git");
    let repository = |spoil: &dyn Fn(&Path)| {
        let world = World::with(&[("a.py", "x = 1\n")]);
        commit(world.path());
        spoil(&world.path().join(".git"));
        world
    };
    let cases: [(&str, World); 8] = [
        (
            "alternate",
            repository(&|git| {
                fs::write(
                    git.join("objects/info/alternates"),
                    secret.join("objects").to_str().unwrap(),
                )
                .unwrap();
            }),
        ),
        (
            "objects",
            repository(&|git| {
                fs::rename(git.join("objects"), git.join("gone")).unwrap();
                symlink(secret.join("objects"), git.join("objects")).unwrap();
            }),
        ),
        (
            "pack",
            repository(&|git| symlink(secret.join("objects"), git.join("objects/pack/x")).unwrap()),
        ),
        (
            "gitdir",
            repository(&|git| {
                fs::remove_dir_all(git).unwrap();
                fs::write(git, format!("gitdir: {}\n", secret.display())).unwrap();
            }),
        ),
        (
            "commondir",
            repository(&|git| fs::write(git.join("commondir"), secret.to_str().unwrap()).unwrap()),
        ),
        // What is looked at must be what git opens: it splits at line feeds and trims nothing.
        (
            "alternates that end oddly",
            repository(&|git| {
                let inside = git.parent().unwrap();
                fs::create_dir_all(inside.join("objs")).unwrap();
                symlink(secret.join("objects"), inside.join("objs\r")).unwrap();
                let line = format!("{}\r\n", inside.join("objs").display());
                fs::write(git.join("objects/info/alternates"), line).unwrap();
            }),
        ),
        (
            "commondir that is no text",
            repository(&|git| {
                let inside = git.parent().unwrap();
                fs::create_dir_all(inside.join("cm\u{FFFD}")).unwrap();
                let other = std::ffi::OsStr::from_bytes(b"cm\xff");
                symlink(&secret, inside.join(other)).unwrap();
                fs::write(git.join("commondir"), b"../cm\xff").unwrap();
            }),
        ),
        (
            "reference",
            repository(&|git| symlink("/etc/passwd", git.join("refs/heads/x")).unwrap()),
        ),
    ];
    for (what, world) in cases {
        let result = world.analyze().await;
        assert!(
            matches!(
                result,
                Err(AnalysisError::Refused(_) | AnalysisError::NotAllowed { setting: "roots", .. })
            ),
            "{what}: {result:?}"
        );
    }
}

#[tokio::test]
async fn nothing_of_a_repositorys_configuration_is_run_and_broken_ones_are_told() {
    let world = World::with(&[("a.py", "x = 1\n")]);
    commit(world.path());
    let mark = world.path().join("ran");
    let config = format!(
        "[core]\nfsmonitor = touch {0}\nsshCommand = touch {0}\n[filter \"x\"]\nsmudge = touch {0}\n[include]\npath = /etc/passwd\n",
        mark.display()
    );
    let path = world.path().join(".git/config");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(&path, before.clone() + &config).unwrap();
    assert_eq!(world.analyze().await.unwrap().totals.files, 1);
    assert!(!mark.exists());
    for (what, spoil) in [
        ("config", ".git/config"),
        ("HEAD", ".git/HEAD"),
        ("reference", ".git/refs/heads/main"),
    ] {
        let kept = fs::read(world.path().join(spoil)).unwrap();
        fs::write(world.path().join(spoil), b"\0[[[ \xff").unwrap();
        let result = world.analyze().await;
        assert!(
            matches!(result, Err(AnalysisError::Broken(_) | AnalysisError::NotFound(_))),
            "{what}: {result:?}"
        );
        fs::write(world.path().join(spoil), kept).unwrap();
    }
    world.analyze().await.unwrap();
}

#[tokio::test]
async fn objects_that_are_not_what_they_are_called_are_passed_over() {
    let mut world = World::with(&[("a.py", "def honest(): pass\n"), ("b.py", "def other(): pass\n")]);
    commit(world.path());
    let place = |file: &str| {
        let id = git(world.path(), &["rev-parse", &format!("HEAD:{file}")]);
        world.path().join(".git/objects").join(&id[..2]).join(&id[2..])
    };
    // b's content under a's name, and then nothing at all.
    fs::remove_file(place("a.py")).unwrap();
    fs::copy(place("b.py"), place("a.py")).unwrap();
    let report = world.analyze().await.unwrap();
    assert_eq!(
        (
            report.totals.files,
            report.skipped.0[&Reason::Unreadable].samples.as_slice()
        ),
        (1, &["a.py".to_owned()][..])
    );
    fs::remove_file(place("a.py")).unwrap();
    fs::write(place("b.py"), b"garbage").unwrap();
    world.index = World::new().index;
    let report = world.analyze().await.unwrap();
    assert_eq!(
        (report.totals.files, report.skipped.count(Reason::Unreadable)),
        (0, 2)
    );
}

#[test]
fn sources_are_read_as_people_write_them() {
    for good in [
        "https://example.com/a/b.git",
        "/srv/code",
        "file:///srv/code",
        "code/here",
    ] {
        Source::parse(good).unwrap();
    }
    assert_eq!(
        Source::parse("file:///srv/code").unwrap(),
        Source::Path("/srv/code".into())
    );
    for bad in [
        "",
        "ssh://git@example.com/a",
        "git@example.com:a/b",
        "git://example.com/a",
        "ext::sh -c true",
        "file://host/a",
        "--upload-pack=true",
        "https://",
        "ftp://example.com",
        "https://a b/\n",
        "javascript:alert(1)",
    ] {
        assert!(
            matches!(Source::parse(bad), Err(AnalysisError::Refused(_))),
            "{bad}"
        );
    }
    let named = Source::parse("https://user:secret@example.com/a?token=secret#secret")
        .unwrap()
        .name();
    assert_eq!(named, "https://example.com/a");
}
