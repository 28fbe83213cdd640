//! The index in Postgres: the same answers as in memory, and questions.

use std::sync::Arc;
use std::time::Duration;

use analysis::facts::{Key, too_costly};
use analysis::index::postgres::PostgresIndex;
use analysis::index::{Entry, Index};
use analysis::language::Language;
use analysis::{Analyzer, Report, Source};
use sha2::{Digest, Sha256};
use shared::servers::{Postgres, PostgresOptions};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::world::World;

struct Database {
    _server: Postgres,
    _dir: tempfile::TempDir,
    pool: PgPool,
    index: PostgresIndex,
}

async fn database() -> Database {
    let dir = tempfile::tempdir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path().join("data")))
        .await
        .unwrap();
    server.create_database("weir").await.unwrap();
    let pool = PgPool::connect(&server.url("weir")).await.unwrap();
    let index = PostgresIndex::new(pool.clone());
    index.migrate().await.unwrap();
    Database {
        _server: server,
        _dir: dir,
        pool,
        index,
    }
}

async fn analyze(database: &Database, world: &World) -> Report {
    let analyzer = Analyzer::new(world.settings.clone(), Arc::new(database.index.clone()));
    let source = Source::Path(world.path().into());
    analyzer
        .analyze(&source, None, &CancellationToken::new(), &|_| {})
        .await
        .unwrap()
}

async fn count(database: &Database, table: &'static str) -> i64 {
    let query = match table {
        "facts" => "SELECT count(*) FROM analysis.facts",
        "files" => "SELECT count(*) FROM analysis.files",
        "runs" => "SELECT count(*) FROM analysis.runs",
        "symbols" => "SELECT count(*) FROM analysis.symbols",
        _ => "SELECT count(*) FROM analysis.dependencies",
    };
    sqlx::query_scalar(query).fetch_one(&database.pool).await.unwrap()
}

#[tokio::test]
async fn answers_questions_and_is_incremental() {
    let database = database().await;
    // Again, and beside others' migrations.
    database.index.migrate().await.unwrap();
    let world = World::with(&[
        ("app/__init__.py", ""),
        (
            "app/wire.py",
            "def encode(x):\n    return x if x else None\n\nclass Wire:\n    def encode(self): pass\n",
        ),
        ("app/main.py", "import app.wire\nimport os\n"),
        ("app/copy.py", "import app.wire\nimport os\n"),
    ]);
    for number in 0..120 {
        world.write(
            &format!("many/f{number}.py"),
            format!("def f{number}():\n{}", "    pass\n".repeat(number + 1)),
        );
    }
    let first = analyze(&database, &world).await;
    assert_eq!((first.totals.files, first.parsed, first.reused), (124, 124, 0));
    let memory = world.analyze().await.unwrap();
    assert_eq!(
        (first.totals, &first.dependencies, &first.largest),
        (memory.totals, &memory.dependencies, &memory.largest)
    );
    let second = analyze(&database, &world).await;
    assert_eq!((second.parsed, second.reused), (0, 124));
    // The latest run alone is kept; main.py and copy.py are one content.
    assert_eq!(
        (count(&database, "runs").await, count(&database, "files").await),
        (1, 124)
    );
    assert_eq!(count(&database, "facts").await, 123);

    let name = Source::Path(world.path().into()).name();
    let index = &database.index;
    let places = index.where_is("encode", 10).await.unwrap();
    let places: Vec<_> = places
        .iter()
        .map(|at| {
            (
                at.path.as_str(),
                at.kind.as_str(),
                at.parent.as_str(),
                at.first_line,
                at.last_line,
                at.complexity,
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("app/wire.py", "function", "", 1, 2, 2),
            ("app/wire.py", "method", "Wire", 5, 5, 1)
        ]
    );
    let importers = index.who_imports("app.wire", 10).await.unwrap();
    let importers: Vec<_> = importers
        .iter()
        .map(|one| (one.path.as_str(), one.line))
        .collect();
    assert_eq!(importers, [("app/copy.py", 1), ("app/main.py", 1)]);
    let dependents = index.who_depends_on(&name, "app/wire.py", 10).await.unwrap();
    let dependents: Vec<_> = dependents.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(dependents, ["app/copy.py", "app/main.py"]);
    let largest = index.largest(&name, 2).await.unwrap();
    assert_eq!(
        (largest[0].path.as_str(), largest[0].lines),
        ("many/f119.py", 121)
    );
    let complex = index.most_complex(&name, 1).await.unwrap();
    assert_eq!(
        (complex[0].path.as_str(), complex[0].complexity),
        ("app/wire.py", 3)
    );
    assert_eq!(index.report(&name, None).await.unwrap(), Some(second));
    assert_eq!(index.report("elsewhere", None).await.unwrap(), None);
    assert_eq!(index.where_is("nothing'; DROP TABLE x", 10).await.unwrap(), []);

    // A changed file alone is parsed, and the old content goes when it is pruned.
    world.write("app/wire.py", "def decode(x): pass\n");
    let third = analyze(&database, &world).await;
    assert_eq!((third.parsed, third.reused), (1, 123));
    assert_eq!(index.where_is("encode", 10).await.unwrap(), []);
    let pruned = async |seconds| {
        let pruned = index.prune(Duration::from_secs(seconds)).await.unwrap();
        (pruned.runs, pruned.facts)
    };
    assert_eq!(pruned(3600).await, (0, 0));
    assert_eq!(pruned(0).await, (0, 1));
    assert_eq!(analyze(&database, &world).await.parsed, 0);

    // Of what was read at other revisions the last stays, and what never ended goes.
    let more = "INSERT INTO analysis.runs (source, revision, finished_at) SELECT source, r, at
        FROM analysis.runs, (VALUES ('a', now() - interval '1 day'), ('b', NULL)) AS more (r, at)";
    sqlx::query(more).execute(&database.pool).await.unwrap();
    let lonely = "INSERT INTO analysis.runs (source, revision, began_at, finished_at)
        SELECT 's', 'r' || n, now() - interval '9 days', now() - n * interval '1 day' FROM generate_series(2, 30) AS n";
    sqlx::query(lonely).execute(&database.pool).await.unwrap();
    assert_eq!(pruned(7200).await, (29, 0));
    assert_eq!(pruned(0).await, (1, 0));
    let left: Vec<(String, String)> =
        sqlx::query_as("SELECT source, revision FROM analysis.runs ORDER BY source DESC")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    let source = Source::Path(world.path().into()).name();
    assert_eq!(left, [("s".to_owned(), "r2".to_owned()), (source, String::new())]);
    assert_eq!(analyze(&database, &world).await.parsed, 0);
}

#[tokio::test]
async fn takes_what_hostile_repositories_hold() {
    let database = database().await;
    let world = World::new();
    let name = "é".repeat(2000);
    world.write(
        "zero.js",
        format!(
            "{}import x from 'a\0b';\nfunction {name}() {{}}\n",
            "// x\n".repeat(2000)
        ),
    );
    world.write("long.c", format!("#include \"{}\"\n", "i".repeat(5000)));
    let folder = format!("{}/", "p".repeat(200)).repeat(15);
    world.write(&format!("{folder}a.py"), "from . import b\n");
    world.write(&format!("{folder}b.py"), "from . import a\n");
    world.write("quote'\"\\;--.py", "x = 1\n");
    let report = analyze(&database, &world).await;
    assert_eq!((report.totals.files, report.dependencies.cycles), (5, 1));
    assert_eq!(count(&database, "files").await, 5);
    assert_eq!(count(&database, "dependencies").await, 2);
    let name = Source::Path(world.path().into()).name();
    assert_eq!(
        database
            .index
            .who_depends_on(&name, &format!("{folder}a.py"), 9)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn two_analyses_at_once_keep_the_same_content_once() {
    let database = database().await;
    let world = World::new();
    for number in 0..300 {
        world.write(
            &format!("d{number}/f.py"),
            format!("def f{}(): pass\n", number % 90),
        );
    }
    let (one, two) = tokio::join!(analyze(&database, &world), analyze(&database, &world));
    assert_eq!((one.totals, one.totals.files), (two.totals, 300));
    assert_eq!(
        (count(&database, "facts").await, count(&database, "symbols").await),
        (90, 90)
    );
    let keys: Vec<Key> = (0..3).map(|n| Key::new(Language::C, &[n; 20])).collect();
    assert_eq!(database.index.get_many(&keys).await.unwrap(), [None, None, None]);
}

#[tokio::test]
async fn the_queries_of_the_documentation_find_something() {
    let database = database().await;
    let world = World::with(&[
        (
            "app/wire.py",
            "class Wire:\n    def encode(self, x):\n        return x or 1\n",
        ),
        ("app/main.py", "import app.wire\n"),
        ("app/cli.py", "import app.main\n"),
        (
            "old/wire.py",
            "class Wire:\n    def encode(self, x):\n        return x or 1\n",
        ),
    ]);
    analyze(&database, &world).await;
    let known_as = "UPDATE analysis.runs SET source = 'https://github.com/octocat/hello-world'";
    sqlx::query(known_as).execute(&database.pool).await.unwrap();
    let text = include_str!("../../../docs/analysis.md");
    let queries: Vec<&'static str> = text
        .split("```sql\n")
        .skip(1)
        .filter_map(|part| Some(part.split_once("```")?.0))
        .flat_map(|block| block.split_inclusive(";\n"))
        .filter(|query| !query.trim().is_empty())
        .collect();
    assert!(queries.len() >= 8, "{queries:?}");
    for query in queries {
        let done = sqlx::query(query).fetch_all(&database.pool).await;
        let rows = done.unwrap_or_else(|error| panic!("{query}: {error}"));
        // What removes has nothing to remove.
        assert_eq!(rows.is_empty(), query.contains("DELETE"), "{query}");
    }
}

#[tokio::test]
async fn an_index_that_is_away_is_told_as_transient() {
    let database = database().await;
    let world = World::with(&[("a.py", "x = 1\n")]);
    database.pool.close().await;
    let analyzer = Analyzer::new(world.settings.clone(), Arc::new(database.index.clone()));
    let source = Source::Path(world.path().into());
    let away = analyzer
        .analyze(&source, None, &CancellationToken::new(), &|_| {})
        .await
        .unwrap_err();
    assert!(away.is_transient(), "{away}");
}

#[tokio::test]
async fn what_was_too_costly_gives_way_to_facts() {
    let database = database().await;
    let text = "fn f() { a(b); }\n".repeat(1000);
    let world = World::with(&[("a.rs", &text)]);
    let costly = Entry {
        key: Key::new(Language::Rust, &Sha256::digest(&text)),
        bytes: too_costly(1 << 10),
        facts: Arc::default(),
    };
    database.index.put_many(vec![costly.clone()]).await.unwrap();
    for told in [(1, 0), (0, 1)] {
        let report = analyze(&database, &world).await;
        assert_eq!((report.parsed, report.reused), told);
        let kept = (count(&database, "facts").await, count(&database, "symbols").await);
        assert_eq!(kept, (1, 1000));
        // But never the other way round.
        database.index.put_many(vec![costly.clone()]).await.unwrap();
    }
}
