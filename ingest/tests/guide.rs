//! What `docs/sources.md` shows, run as it stands by the real program.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::path::Path;
use std::process::Command;

#[test]
fn every_example_is_right_as_it_stands() {
    let guide = include_str!("../../docs/sources.md");
    let examples: Vec<&str> = guide
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 2);
    let program = Path::new(env!("CARGO_BIN_EXE_weir-ingest"));
    // One after the other, as somebody would who reads it from top to bottom.
    let mut script = "set -e\n".to_owned();
    for example in examples {
        script += example;
        let output = Command::new("sh")
            .args(["-c", &format!("{script}\nweir-ingest --print-config")])
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", program.parent().unwrap().display()),
            )
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{example}{told}");
        let shown = String::from_utf8(output.stdout).unwrap();
        for line in example.lines().filter_map(|line| line.strip_prefix("export ")) {
            let name = line.split('=').next().unwrap();
            let known = name.starts_with("WEIR_SERVICE_") || shown.contains(&format!("\n{name}="));
            assert!(known, "{name}\n{shown}");
        }
    }
}
