//! Migrations from several processes at once, while others write.

use std::process::{Command, Stdio};
use std::time::Duration;

use shared::config::{Environment, Process};
use shared::store::migrate::migrate;
use shared::store::partitions::{complete, tend};
use shared::store::pool;
use shared::store::settings::Settings;
use sqlx::migrate::Migrator;
use tokio::time::Instant;

use crate::world::{empty, failures, migrated, size, table};

/// Where a process of the test finds the database.
const URL: &str = "STORE_TEST_URL";

/// The last version before history.
const BEFORE: i64 = 4;

/// What another process does: it makes the tables and looks after them. By itself it does nothing.
#[tokio::test]
#[ignore = "run by another test, as a process"]
async fn as_a_process() {
    let url = Process.raw(URL).unwrap().into_string().unwrap();
    let pool = pool::write(&url, &Settings::default(), size(4), "migrating").unwrap();
    migrate(&pool).await.unwrap();
    let tables = [table(7, 3_650), failures()];
    tend(&pool, &tables).await.unwrap();
    complete(&pool, &tables).await.unwrap();
}

fn process(url: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "migrations::as_a_process"])
        .env(URL, url)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn ended(mut process: std::process::Child) {
    let ended = tokio::task::spawn_blocking(move || process.wait());
    assert!(ended.await.unwrap().unwrap().success());
}

#[tokio::test]
async fn two_processes_migrate_an_empty_database_at_once() {
    let world = empty().await;
    let url = world.server.url("weir");
    let processes = [process(&url), process(&url)];
    for process in processes {
        ended(process).await;
    }
    let versions = sqlx::migrate!("./migrations").iter().count() as i64;
    assert_eq!(
        world
            .number("SELECT count(*) FROM _sqlx_migrations WHERE success")
            .await,
        versions
    );
    migrate(&world.pool).await.unwrap();
}

#[tokio::test]
async fn two_processes_migrate_full_tables_while_others_write_and_read() {
    let world = empty().await;
    let migrations: Migrator = sqlx::migrate!("./migrations");
    migrations.run_to(BEFORE, &world.pool).await.unwrap();
    world
        .run(
            "CREATE TABLE outcomes_w1 PARTITION OF outcomes FOR VALUES FROM ('2020-01-01') TO ('2020-01-08');
              INSERT INTO outcomes SELECT 'e' || n, 'github', 'done', 1, '', '', NULL, 1, 'w', '', now(),
                  timestamptz '2020-01-02' + n * interval '1 s' FROM generate_series(1, 100000) n",
        )
        .await
        .unwrap();
    // As workers of the version before write: both tables in one statement.
    let write = "WITH failed AS (
            INSERT INTO failures (event_id, service, attempt, class, code, detail, took_ms, worker, trace_id, at)
            VALUES ($1, 'github', 1, 'transient', '', '', 1, 'w', '', now()) ON CONFLICT DO NOTHING
        )
        INSERT INTO outcomes (event_id, service, state, attempts, code, detail, result, took_ms, worker, trace_id, accepted_at,
            finished_at)
        VALUES ($1, 'github', 'done', 1, '', '', NULL, 1, 'w', '', now(), now()) ON CONFLICT DO NOTHING";
    let done = tokio_util::sync::CancellationToken::new();
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (pool, done) = (world.pool.clone(), done.clone());
            tokio::spawn(async move {
                let (mut rows, mut longest) = (0, Duration::ZERO);
                while !done.is_cancelled() {
                    let start = Instant::now();
                    while let Err(error) = sqlx::query(write)
                        .bind(format!("new {writer} {rows}"))
                        .execute(&pool)
                        .await
                    {
                        // Its partition was made while it waited: the next try finds it, as a worker's does.
                        let error = error.as_database_error().unwrap();
                        assert!(
                            error.code().unwrap() == "23514" && error.constraint().is_none(),
                            "{error}"
                        );
                    }
                    longest = longest.max(start.elapsed());
                    rows += 1;
                }
                (rows, longest)
            })
        })
        .collect();
    let reader = {
        let (pool, done) = (world.pool.clone(), done.clone());
        tokio::spawn(async move {
            while !done.is_cancelled() {
                sqlx::query("SELECT count(*) FROM outcomes")
                    .execute(&pool)
                    .await
                    .unwrap();
            }
        })
    };
    let url = world.server.url("weir");
    for process in [process(&url), process(&url)] {
        ended(process).await;
    }
    done.cancel();
    let (mut rows, mut longest) = (0, Duration::ZERO);
    for writer in writers {
        let (written, waited) = writer.await.unwrap();
        rows += written;
        longest = longest.max(waited);
    }
    reader.await.unwrap();
    println!("{rows} rows written meanwhile, the longest wait was {longest:?}");
    assert!(rows > 0);
    assert_eq!(
        world.number("SELECT count(*) FROM outcomes").await,
        100_000 + rows
    );
    assert_eq!(world.number("SELECT count(*) FROM failures").await, rows);
    assert_eq!(
        world
            .number("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
            .await,
        0
    );
    let versions = migrations.iter().count() as i64;
    assert_eq!(
        world
            .number("SELECT count(*) FROM _sqlx_migrations WHERE success")
            .await,
        versions
    );
}

/// Whoever has a table for long is waited for in small pieces, in which others write.
#[tokio::test]
async fn a_migration_steps_back_for_whoever_has_the_table() {
    let world = empty().await;
    sqlx::migrate!("./migrations")
        .run_to(BEFORE, &world.pool)
        .await
        .unwrap();
    let mut reader = world.pool.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM outcomes")
        .execute(&mut *reader)
        .await
        .unwrap();
    let migrating = tokio::spawn({
        let pool = world.pool.clone();
        async move { migrate(&pool).await }
    });
    // Long enough for one that stood in the queue to be seen there, and it has stepped back.
    let stepped_back =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ALTER TABLE%'";
    while world.number(stepped_back).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for n in 0..20 {
        let write = format!(
            "INSERT INTO outcomes VALUES ('e{n}', 'github', 'done', 1, '', '', NULL, 1, 'w', '', now(), now())"
        );
        let written = tokio::time::timeout(Duration::from_secs(10), world.run(&write)).await;
        written.unwrap().unwrap();
    }
    assert!(!migrating.is_finished());
    reader.rollback().await.unwrap();
    migrating.await.unwrap().unwrap();
    assert_eq!(
        world
            .number("SELECT count(*) FROM outcomes WHERE tenant IS NULL")
            .await,
        20
    );
}

#[tokio::test]
async fn tables_of_a_later_version_are_refused() {
    let world = migrated().await;
    world
        .run("INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), true, '', 1)")
        .await
        .unwrap();
    let refused = migrate(&world.pool).await.unwrap_err();
    assert!(refused.to_string().contains("9999"), "{refused}");
}
