//! `weir history` and `weir tail` as processes, against a real Postgres.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::migrate::migrate;
use shared::store::pool;
use shared::store::settings::{Settings, Size};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

struct Stage {
    server: Postgres,
    pool: PgPool,
    dir: tempfile::TempDir,
}

async fn empty() -> Stage {
    let dir = scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let size = Size { least: 0, most: 2 };
    let pool = pool::write(&server.url("weir"), &Settings::default(), size, "test").unwrap();
    Stage { server, pool, dir }
}

/// A hundred ends, one a second, and a failed attempt.
async fn stage() -> Stage {
    let stage = empty().await;
    migrate(&stage.pool).await.unwrap();
    stage
        .run(
            "INSERT INTO outcomes SELECT 'e' || n, (ARRAY['github', 'slack'])[1 + n % 2],
                 CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'done' END, 1, 'http_200', E'\\x1b[31mred', '{\"n\":1}', n, 'w', 'trace',
                 now(), now() - n * interval '1 second', CASE WHEN n < 20 THEN 'acme' END FROM generate_series(1, 100) n;
             INSERT INTO failures VALUES ('e1', 'slack', 1, 'transient', 'http_500', 'oh', 1, 'w', '', now(), NULL)",
        )
        .await;
    stage
}

impl Stage {
    async fn run(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("WEIR_POSTGRES_URL", self.server.url("weir"))
            .env_remove("WEIR_POSTGRES_READ_URL")
            .env_remove("WEIR_SERVICES")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    async fn weir(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        assert!(output.status.success(), "weir {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.weir(arguments).await).unwrap()
    }

    async fn fails(&self, arguments: &[&str], code: i32, says: &str) {
        let output = self.output(arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "weir {arguments:?}: {stderr}");
        assert!(stderr.contains(says), "weir {arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn the_past_is_shown_page_by_page_by_event_and_by_hour() {
    let stage = stage().await;
    let (mut ids, mut next) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["history", "--json", "--limit", "30", "--since", "1h"];
        if let Some(next) = &next {
            arguments.extend(["--page", next]);
        }
        let page = stage.json(&arguments).await;
        ids.extend(
            page["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["event_id"].clone()),
        );
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (1..=100).map(|n| format!("e{n}")).collect();
    assert_eq!(ids, expected);
    let count = async |arguments: &[&str]| {
        let all = [&["history", "--json", "--limit", "500"], arguments].concat();
        stage.json(&all).await["events"].as_array().unwrap().len()
    };
    assert_eq!(count(&["--state", "dead"]).await, 10);
    assert_eq!(count(&["--service", "slack", "--service", "github"]).await, 100);
    assert_eq!(count(&["--service", "slack", "--state", "failed"]).await, 1);
    assert_eq!(count(&["--tenant", "acme"]).await, 19);
    assert_eq!(count(&["--attempts"]).await, 101);
    assert_eq!(count(&["--until", "1h"]).await, 0);
    let table = stage.weir(&["history", "--state", "dead"]).await;
    assert_eq!(table.lines().count(), 11, "{table}");
    assert!(table.contains("e10") && !table.contains('\u{1b}'), "{table}");
    let story = stage.weir(&["history", "e1"]).await;
    for part in [
        "done",
        "failed",
        "http_500",
        "slack kept:",
        "\"n\": 1",
        "trace: trace",
    ] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let hours = stage.json(&["history", "--hours", "2", "--json"]).await;
    let events = hours["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["events"].as_i64().unwrap());
    assert_eq!(events.sum::<i64>(), 100);
    let hours = stage
        .weir(&["history", "--hours", "2", "--service", "github"])
        .await;
    assert!(hours.contains("P95") && !hours.contains("slack"), "{hours}");
    let died = "INSERT INTO failures VALUES ('dies', 'slack', 3, 'permanent', 'http_404', '', 1, 'w', '',
             now() - interval '1 s', NULL);
         INSERT INTO outcomes VALUES ('dies', 'slack', 'dead', 3, 'http_404', '', NULL, 1, 'w', '', now(),
             now() - interval '1 s', NULL);
         INSERT INTO failures VALUES ('dies', 'slack', 2, 'transient', 'http_500', '', 1, 'w', '',
             now() - interval '2 s', NULL)";
    stage.run(died).await;
    let story = stage.json(&["history", "dies", "--json"]).await;
    let attempts = |of: &str| {
        let all = story[of].as_array().unwrap();
        all.iter()
            .map(|one| one["attempts"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (attempts("ends"), attempts("failed")),
        (vec![3], vec![2]),
        "{story}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_before_or_after_it_is_asked() {
    let stage = stage().await;
    for (arguments, says) in [
        (&["history", "--state", "gone"][..], "not done, dead or failed"),
        (&["history", "--service", "GitHub"], "--service"),
        (&["history", "--since", "yesterday"], "write 2h"),
        (
            &["history", "--since", "1h", "--until", "2h"],
            "--since is not before --until",
        ),
        (&["history", "--limit", "501"], "--limit"),
        (
            &["history", "--page", "AAAA"],
            "--page: the cursor is not one of this question",
        ),
        (&["history", "--hours", "0"], "--hours"),
        (&["history", "--hours", "2", "--state", "dead"], "cannot be used"),
        (&["history", "e1", "--since", "1h"], "cannot be used"),
        (&["history", "--postgres-url", "mysql://x"], "postgres://"),
        (&["tail", "--overlap", "0s"], "not within 1s and 10m"),
        (&["tail", "--state", "x"], "not done, dead or failed"),
    ] {
        stage.fails(arguments, 64, says).await;
    }
    let away = "postgres://weir@127.0.0.1:1/weir";
    stage
        .fails(&["history", "nobody"], 1, "weir explain nobody")
        .await;
    stage
        .fails(&["history", "--postgres-url", away], 1, "Postgres: ")
        .await;
    stage
        .fails(&["tail", "--postgres-url", away], 1, "Postgres: ")
        .await;
    let new = empty().await;
    new.fails(&["history"], 1, "no worker has made the tables").await;
    let unknown = stage
        .command(&["history"])
        .env_remove("WEIR_POSTGRES_URL")
        .output()
        .await
        .unwrap();
    assert_eq!(unknown.status.code(), Some(64), "{unknown:?}");
    let mut missing = stage.command(&["history", "--fleet", "nosuch"]);
    let missing = missing.env_remove("WEIR_POSTGRES_URL").output().await.unwrap();
    let told = String::from_utf8_lossy(&missing.stderr);
    assert!(told.contains("there is no nosuch/fleet.json"), "{told}");
    // Whose name nobody knows is told where nothing is found.
    for (asked, arguments) in [
        ("nosuch", &["history", "--service", "nosuch"][..]),
        ("nosuch", &["history", "--hours", "2", "--service", "nosuch"]),
        ("github", &["history", "--service", "github", "--until", "1d"]),
    ] {
        let mut vain = stage.command(arguments);
        let vain = vain.env("WEIR_SERVICES", "github,slack").output().await.unwrap();
        let told = String::from_utf8_lossy(&vain.stderr);
        let says = told.contains("no service nosuch: its services are github, slack");
        assert_eq!(says, asked == "nosuch", "{arguments:?}: {told}");
    }
    // A replica that is away is no reason not to answer.
    let mut without = stage.command(&["history"]);
    let answered = without
        .env("WEIR_POSTGRES_READ_URL", away)
        .output()
        .await
        .unwrap();
    assert!(answered.status.success(), "{answered:?}");
}

fn follow(mut child: Child) -> (Child, Lines<BufReader<ChildStdout>>) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = timeout(Duration::from_secs(60), lines.next_line()).await;
    serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn what_comes_is_shown_once_however_late_it_is_recorded() {
    let stage = stage().await;
    let tail = stage
        .command(&["tail", "--json", "--since", "1h", "--service", "github"])
        .spawn();
    let (mut child, mut lines) = follow(tail.unwrap());
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let entry = next(&mut lines).await;
        assert!(
            seen.insert(entry["event_id"].as_str().unwrap().to_owned()),
            "{entry}"
        );
    }
    let insert = |event: &str, ago: i32, service: &str| {
        format!(
            "INSERT INTO outcomes VALUES ('{event}', '{service}', 'done', 1, '', '', NULL, 1, 'w', '', now(),
                now() - interval '{ago} s', NULL)"
        )
    };
    // The latest first, then one that ended before it, then one that took longer than that to be recorded.
    for (event, ago) in [("latest", 0), ("late", 10), ("later", 20)] {
        stage.run(&insert("of another service", ago, "slack")).await;
        stage.run(&insert(event, ago, "github")).await;
        assert_eq!(next(&mut lines).await["event_id"], event);
    }
    // An attempt that ends its event is one line, not two.
    stage
        .run("INSERT INTO failures VALUES ('dies', 'github', 3, 'permanent', 'http_404', '', 1, 'w', '', now(), NULL);
              INSERT INTO outcomes VALUES ('dies', 'github', 'dead', 3, 'http_404', '', NULL, 1, 'w', '', now(), now(), NULL);
              INSERT INTO failures VALUES ('lives', 'github', 1, 'transient', 'http_500', '', 1, 'w', '',
                  now() + interval '1 s', NULL)")
        .await;
    let entries = [next(&mut lines).await, next(&mut lines).await];
    let shown = entries
        .each_ref()
        .map(|one| (one["event_id"].as_str().unwrap(), one["state"].as_str().unwrap()));
    assert_eq!(shown, [("dies", "dead"), ("lives", "failed")]);
    // Nobody reads any more.
    drop(lines);
    stage.run(&insert("unseen", 0, "github")).await;
    let ended = timeout(Duration::from_secs(60), child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

#[tokio::test]
async fn it_goes_on_when_postgres_is_back() {
    let mut stage = stage().await;
    let (_child, mut lines) = follow(
        stage
            .command(&["tail", "--json", "--since", "1h"])
            .spawn()
            .unwrap(),
    );
    for _ in 0..101 {
        next(&mut lines).await;
    }
    stage.server.restart().await.unwrap();
    stage
        .run("INSERT INTO outcomes VALUES ('after', 'github', 'done', 1, '', '', NULL, 1, 'w', '', now(), now(), NULL)")
        .await;
    assert_eq!(next(&mut lines).await["event_id"], "after");
}
