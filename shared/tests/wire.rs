//! Python's msgpack reads the golden vectors of the wire format as Rust does.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::path::Path;
use std::process::Command;

#[test]
fn python_agrees_on_the_wire_format() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let packages = root.join(".tools/python");
    assert!(
        packages.join("msgpack").is_dir(),
        "msgpack for Python is missing in {}: run `make setup`",
        packages.display()
    );
    let check = Command::new("python3")
        // Without byte code: nothing is written beside the vectors.
        .arg("-B")
        .arg(root.join("shared/wire-v1/check.py"))
        .env("PYTHONPATH", &packages)
        .output()
        .expect("python3 runs (if it is not installed: Weir's set-up needs Python 3)");
    let said = String::from_utf8_lossy(&check.stdout);
    let errors = String::from_utf8_lossy(&check.stderr);
    assert!(
        !errors.contains("ModuleNotFoundError") && !errors.contains("ImportError"),
        "the Python packages in {} do not load: run `make setup`\n{errors}",
        packages.display()
    );
    assert!(check.status.success(), "{said}{errors}");
    assert!(said.contains(" 0 wrong"), "{said}{errors}");
}
