//! Imports to files, for each language.

use analysis::Report;

use crate::world::World;

async fn told(files: &[(&str, &str)]) -> Report {
    World::with(files).analyze().await.unwrap()
}

fn most(report: &Report) -> Vec<(&str, u32)> {
    let list = &report.dependencies.most_depended_on;
    list.iter()
        .map(|one| (one.path.as_str(), one.dependents))
        .collect()
}

fn counts(report: &Report) -> (u64, u64, u64) {
    let told = &report.dependencies;
    assert_eq!(told.imports, told.resolved + told.external + told.unresolved);
    (told.resolved, told.external, told.unresolved)
}

#[tokio::test]
async fn rust() {
    let report = told(&[
        ("one/Cargo.toml", "[package]\nname = \"first-crate\"\n"),
        ("one/src/lib.rs", "mod a; pub mod deep; use a::A; use std::fmt; mod missing;"),
        ("one/src/a.rs", "use crate::deep::inner::X; use super::deep; use tokio::net; pub struct A;\nmod tests { use super::*; }"),
        ("one/src/deep/mod.rs", "pub mod inner;"),
        ("one/src/deep/inner.rs", "use super::super::a; pub struct X;"),
        ("one/tests/it.rs", "use first_crate::deep::inner::X; mod aid; use aid::go;"),
        ("one/tests/aid.rs", "pub fn go() {}"),
        ("two/Cargo.toml", "[package]\nname = 'second' # it\n"),
        ("two/src/main.rs", "use first_crate::a::A; use second::x; fn main() {}"),
    ])
    .await;
    assert_eq!(
        most(&report),
        [
            ("one/src/a.rs", 3),
            ("one/src/deep/inner.rs", 3),
            ("one/src/deep/mod.rs", 2),
            ("one/tests/aid.rs", 1),
        ]
    );
    // External: std, tokio. Unresolved: missing.
    assert_eq!(counts(&report), (13, 2, 1));
    assert_eq!(report.dependencies.cycles, 1);
    assert_eq!(
        report.dependencies.largest_cycles[0].members,
        ["one/src/a.rs", "one/src/deep/inner.rs"]
    );
}

#[tokio::test]
async fn python() {
    let report = told(&[
        ("app/__init__.py", ""),
        ("app/main.py", "import app.wire\nfrom app import event\nfrom .deep.leaf import Leaf\nimport os.path\nfrom app.gone import x\n"),
        ("app/event.py", "from . import wire\nfrom .. import outside\n"),
        ("app/wire.pyi", ""),
        ("app/deep/__init__.py", "from ..event import *\n"),
        ("app/deep/leaf.py", "from .. import event\nfrom app import NAME\n"),
        ("src/lib2/__init__.py", ""),
        ("scripts/run.py", "import lib2\nimport run_beside\n"),
        ("scripts/run_beside.py", ""),
    ])
    .await;
    assert_eq!(
        most(&report),
        [
            ("app/event.py", 3),
            ("app/wire.pyi", 2),
            ("app/__init__.py", 1),
            ("app/deep/leaf.py", 1),
            ("scripts/run_beside.py", 1),
            ("src/lib2/__init__.py", 1),
        ]
    );
    let (_, external, unresolved) = counts(&report);
    assert_eq!((external, unresolved), (1, 2));
}

#[tokio::test]
async fn javascript_and_typescript() {
    let report = told(&[
        ("package.json", r#"{"name": "root"}"#),
        ("web/a.ts", "import './b.js'; import {c} from './c'; import x from '@weir/kit/part'; import 'react'; import './gone'; import '../../out';"),
        ("web/b.ts", ""),
        ("web/c/index.tsx", "import kit from '@weir/kit';"),
        ("kit/package.json", r#"{"name": "@weir/kit"}"#),
        ("kit/src/index.js", "require('./part')"),
        ("kit/src/part.mjs", ""),
    ])
    .await;
    assert_eq!(
        most(&report),
        [
            ("kit/src/part.mjs", 2),
            ("kit/src/index.js", 1),
            ("web/b.ts", 1),
            ("web/c/index.tsx", 1)
        ]
    );
    assert_eq!(counts(&report), (5, 1, 2));
}

#[tokio::test]
async fn go() {
    let report = told(&[
        ("go.mod", "module example.com/weir // it\n\ngo 1.24\n"),
        (
            "main.go",
            "package main\nimport (\"fmt\"; \"example.com/weir/wire\"; \"example.com/weirdo\")\n",
        ),
        (
            "wire/a.go",
            "package wire\nimport \"example.com/weir/wire/deep\"\n",
        ),
        ("wire/b.go", "package wire\nimport \"example.com/weir/gone\"\n"),
        ("wire/deep/c.go", "package deep\n"),
        ("tools/go.mod", "module example.com/weir/tools\n"),
        (
            "tools/t.go",
            "package tools\nimport \"example.com/weir/wire\"\nimport \"example.com/weir/tools\"\n",
        ),
    ])
    .await;
    assert_eq!(most(&report), [("wire/", 2), ("wire/deep/", 1)]);
    assert_eq!(counts(&report), (4, 2, 1));
}

#[tokio::test]
async fn java() {
    let report = told(&[
        ("core/src/com/example/A.java", "package com.example; import com.example.wire.B; import com.example.wire.B.Inner; import java.util.List;"),
        ("core/src/com/example/wire/B.java", "package com.example.wire; import static com.example.A.name; import com.example.*;"),
        ("other/src/com/example/wire/B.java", "package com.example.wire;"),
        ("other/src/com/example/C.java", "package com.example; import com.example.wire.B;"),
    ])
    .await;
    assert_eq!(
        most(&report),
        [
            ("core/src/com/example/A.java", 1),
            ("core/src/com/example/wire/B.java", 1),
            ("other/src/com/example/wire/B.java", 1),
        ]
    );
    assert_eq!(counts(&report), (4, 2, 0));
    assert_eq!(report.dependencies.cycles, 1);
}

#[tokio::test]
async fn c() {
    let report = told(&[
        ("src/main.c", "#include <stdio.h>\n#include \"near.h\"\n#include \"../include/far.h\"\n#include <lib/api.h>\n#include \"gone.h\"\n"),
        ("src/near.h", "#include \"lib/api.h\"\n"),
        ("include/far.h", ""),
        ("include/lib/api.h", ""),
        ("include/stdio.h", ""),
    ])
    .await;
    assert_eq!(
        most(&report),
        [("include/lib/api.h", 2), ("include/far.h", 1), ("src/near.h", 1)]
    );
    assert_eq!(counts(&report), (4, 1, 1));
}
