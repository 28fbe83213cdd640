//! Real code: this repository, and packages of the registry that the build has unpacked anyway.

use std::path::{Path, PathBuf};
use std::process::Command;

use analysis::catalog::Reason;
use analysis::language::Language;

use crate::world::{World, commit};

/// Where a package that is built with this one lies.
fn package(name: &str) -> PathBuf {
    // Packages for other systems are not here.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--locked",
            "--filter-platform",
            &platform,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = told["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"] == name);
    let manifest = found.unwrap()["manifest_path"].as_str().unwrap();
    Path::new(manifest).parent().unwrap().to_owned()
}

async fn analyze(path: &Path) -> analysis::Report {
    let mut world = World::new();
    world.settings.roots.push(path.into());
    let first = world.analyze_at(path, None).await.unwrap();
    let second = world.analyze_at(path, None).await.unwrap();
    assert_eq!((second.parsed, second.reused), (0, first.totals.files));
    assert_eq!(second.dependencies, first.dependencies);
    assert!(first.complete);
    first
}

#[tokio::test]
async fn this_crate() {
    let report = analyze(Path::new(env!("CARGO_MANIFEST_DIR"))).await;
    assert_eq!(report.totals.files, report.languages[&Language::Rust].files);
    assert_eq!((report.totals.errors, report.totals.dropped), (0, 0));
    assert!(
        report.totals.files > 25 && report.totals.functions > 150,
        "{:?}",
        report.totals
    );
    assert_eq!(report.dependencies.unresolved, 0, "{:?}", report.dependencies);
    assert!(
        report
            .dependencies
            .most_depended_on
            .iter()
            .any(|one| one.path == "src/facts.rs")
    );
}

#[tokio::test]
async fn this_repository() {
    // A copy without what a checkout holds besides: the repository itself may lie elsewhere.
    let world = World::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for crate_name in ["analysis", "shared", "ingest", "worker", "scheduler"] {
        let copied = Command::new("cp")
            .arg("-r")
            .arg(root.join(crate_name))
            .arg(world.path())
            .status()
            .unwrap();
        assert!(copied.success());
    }
    let report = analyze(world.path()).await;
    assert!(report.totals.files > 200, "{:?}", report.totals);
    let depended: Vec<&str> = report
        .dependencies
        .most_depended_on
        .iter()
        .map(|one| one.path.as_str())
        .collect();
    assert!(
        depended.contains(&"shared/src/failure.rs") && depended.contains(&"shared/src/event.rs"),
        "{depended:?}"
    );
    // Nearly all that is written as ours is found.
    let told = &report.dependencies;
    assert!(told.unresolved * 50 < told.resolved, "{told:?}");
    // A commit of the same files says the same.
    commit(world.path());
    let committed = analyze(world.path()).await;
    assert_eq!(
        (committed.totals, committed.dependencies),
        (report.totals, report.dependencies)
    );
}

#[tokio::test]
async fn tokio_from_the_registry() {
    let report = analyze(&package("tokio")).await;
    let rust = &report.languages[&Language::Rust];
    assert!(
        rust.files > 300 && rust.code_lines > 30_000 && rust.functions > 3_000,
        "{rust:?}"
    );
    assert!(rust.files_with_errors * 20 < rust.files, "{rust:?}");
    let told = &report.dependencies;
    assert!(
        told.resolved > 1000 && told.unresolved * 10 < told.resolved,
        "{told:?}"
    );
    assert!(told.most_depended_on.len() == 20 && report.most_complex_functions.len() == 20);
    let worker = report
        .most_complex_functions
        .iter()
        .all(|one| one.complexity > 5 && one.line > 0);
    assert!(worker, "{:?}", report.most_complex_functions);
}

#[tokio::test]
async fn c_and_others_from_the_registry() {
    let zstd = analyze(&package("zstd-sys")).await;
    let c = &zstd.languages[&Language::C];
    assert!(c.files > 50 && c.functions > 500, "{c:?}");
    assert!(zstd.dependencies.resolved > 100, "{:?}", zstd.dependencies);
    // Generated parsers of megabytes, and bindings in several languages.
    let grammar = analyze(&package("tree-sitter-python")).await;
    assert!(grammar.languages.len() >= 3, "{:?}", grammar.languages);
    assert!(
        grammar.skipped.count(Reason::TooLarge) >= 1,
        "{:?}",
        grammar.skipped
    );
}
