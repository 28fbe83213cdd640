//! A database for a test, and rows for it.

use std::time::Duration;

use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::metrics::Metrics;
use shared::store::migrate::migrate;
use shared::store::partitions::{Table, tend_at};
use shared::store::pool;
use shared::store::reads::Reads;
use shared::store::settings::{Settings, Size};
use sqlx::{AssertSqlSafe, PgPool};

/// A Sunday at noon, seconds since the Unix epoch: tests have a clock of their own.
pub(crate) const NOON: i64 = 1_795_348_800;
pub(crate) const DAY: i64 = 86_400;

pub(crate) struct World {
    pub(crate) server: Postgres,
    pub(crate) pool: PgPool,
    _dir: tempfile::TempDir,
}

/// A server with an empty database.
pub(crate) async fn empty() -> World {
    let dir = scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let pool = pool::write(&server.url("weir"), &Settings::default(), size(8), "test").unwrap();
    World {
        server,
        pool,
        _dir: dir,
    }
}

/// The same with all tables.
pub(crate) async fn migrated() -> World {
    let world = empty().await;
    migrate(&world.pool).await.unwrap();
    world
}

pub(crate) fn size(most: u32) -> Size {
    Size { least: 0, most }
}

pub(crate) fn table(days: u16, keep: i64) -> Table {
    Table {
        name: "outcomes",
        time: "finished_at",
        days,
        keep: Duration::from_secs((keep * DAY) as u64),
        append_only: true,
    }
}

/// The other table that history is read from.
pub(crate) fn failures() -> Table {
    Table {
        name: "failures",
        time: "at",
        ..table(1, 365)
    }
}

impl World {
    pub(crate) fn reads(&self) -> Reads {
        let settings = Settings::default();
        Reads::open(
            &self.server.url("weir"),
            &settings,
            size(4),
            "test",
            Metrics::default(),
        )
        .unwrap()
    }

    pub(crate) async fn run(&self, statement: &str) -> Result<u64, sqlx::Error> {
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn number(&self, question: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn texts(&self, question: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Partitions for the days before [`NOON`], as a keeper would have made them day by day.
    pub(crate) async fn partitions(&self, table: &Table, days: i64) {
        for day in (-days..=0).step_by(usize::from(table.days)) {
            tend_at(&self.pool, table, NOON + day * DAY).await.unwrap();
        }
        tend_at(&self.pool, table, NOON).await.unwrap();
    }

    /// Ends of events, numbered from 0, the newest at [`NOON`] and each `step` seconds older than the one before: `github`,
    /// `slack` and `http` in turn, every fiftieth dead, every tenth of the tenant `acme`.
    pub(crate) async fn ends(&self, events: i64, step: f64) {
        self.run(&format!(
            "INSERT INTO outcomes SELECT 'event-' || n, (ARRAY['github', 'slack', 'http'])[1 + n % 3],
                CASE WHEN n % 50 = 7 THEN 'dead' ELSE 'done' END, 1, 'http_200', '', '{{\"n\":1}}', 10 + n % 90, 'w',
                md5(n::text), to_timestamp({NOON} - n * {step}) - interval '1 second',
                to_timestamp({NOON} - n * {step}), CASE WHEN n % 10 = 0 THEN 'acme' END
             FROM generate_series(0, {events} - 1) n"
        ))
        .await
        .unwrap();
    }
}
