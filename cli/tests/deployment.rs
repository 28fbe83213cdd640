//! What Weir is deployed with says of the programs what the programs say themselves: variables, ports, paths, images.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// The programs that a test run of the workspace builds beside `weir`.
const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Runs `scripts/deploy-check`, which brings its tools itself; what it could not check is printed.
#[test]
fn compose_manifests_and_image_agree_with_the_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let programs = Path::new(WEIR).parent().unwrap();
    for program in ["weir-ingest", "weir-worker", "weir-scheduler", "weir-loadtest"] {
        assert!(
            programs.join(program).exists(),
            "{program} is missing: run `cargo build --workspace` first"
        );
    }
    let checked = Command::new(root.join("scripts/deploy-check"))
        .args(["rendered", "compose", "settings", "--programs"])
        .arg(programs)
        .current_dir(root)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    if said.contains("NOT CHECKED") {
        // Past the test runner, which shows nothing of a test that passes.
        std::io::stderr().write_all(said.as_bytes()).unwrap();
    }
}
