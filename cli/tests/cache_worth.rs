//! `weir cache worth` as a process, against a real Postgres.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::migrate::migrate;
use shared::store::pool;
use shared::store::settings::{Settings, Size};
use tokio::process::Command;

struct Stage {
    server: Postgres,
    dir: tempfile::TempDir,
}

impl Stage {
    async fn weir(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command
            .args(["cache", "worth"])
            .args(arguments)
            .current_dir(self.dir.path())
            .env("WEIR_POSTGRES_URL", self.server.url("weir"))
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn people_are_told_what_the_cache_is_worth() {
    let dir = scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let stage = Stage { server, dir };
    let told = stage.weir(&[]).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(
        text(&told.stderr).contains("no worker has made the tables"),
        "{told:?}"
    );
    let size = Size { least: 0, most: 1 };
    let pool = pool::write(&stage.server.url("weir"), &Settings::default(), size, "test").unwrap();
    migrate(&pool).await.unwrap();
    let told = stage.weir(&[]).await;
    assert!(told.status.success() && told.stdout.is_empty(), "{told:?}");
    assert!(text(&told.stderr).contains("no look-up"), "{told:?}");
    sqlx::raw_sql(
        "INSERT INTO access_hours
         SELECT service, date_trunc('hour', now(), 'UTC') - ago * interval '1 hour', 'w', share, 60, 20, 10, 10, 4, 5, 10, 2000
         FROM (VALUES ('github', 1, 1000000), ('slack', 2, 500000)) AS v (service, ago, share)",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::raw_sql(
        "INSERT INTO access_hours
         SELECT 'drive', date_trunc('hour', now(), 'UTC') - 3 * interval '1 hour', 'w', 1000000, 0, 0, 0, 10, 0, 0, 10, 2000",
    )
    .execute(&pool)
    .await
    .unwrap();
    let told = stage.weir(&[]).await;
    let table = text(&told.stdout);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 4, "{table}");
    let figures = "github 100 90.0% 60 20 10 10 4 81 200ms 18s";
    assert_eq!(lines[1][1..].join(" "), figures, "{table}");
    let figures = "slack 200 90.0% 120 40 20 20 8 162 200ms 36s";
    assert_eq!(lines[2][1..].join(" "), figures, "{table}");
    let figures = "drive 10 0.0% 0 0 0 10 0 0 200ms -";
    assert_eq!(lines[3][1..].join(" "), figures, "{table}");
    assert!(text(&told.stderr).contains("down to 50% of them"), "{told:?}");
    let told = stage
        .weir(&["--service", "github", "--hours", "2", "--json"])
        .await;
    assert_eq!(text(&told.stderr), "");
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let line = &told["lines"][0];
    assert_eq!(
        (
            told["lines"].as_array().unwrap().len(),
            &line["service"],
            &line["hit_share"],
            &line["saved_s"]
        ),
        (1, &json!("github"), &json!(0.9), &json!(18.0))
    );
    assert!(line["hour"].as_str().unwrap().ends_with(":00:00Z"), "{line}");
    for wrong in [
        &["--hours", "0"][..],
        &["--hours", "361"],
        &["--service", "Git Hub"],
    ] {
        assert_eq!(stage.weir(wrong).await.status.code(), Some(64), "{wrong:?}");
    }
}
