//! What Postgres costs, on a private server: `cargo bench -p shared --bench store [-- --rows 1000000 --only pages]`.
//!
//! - `inserts`: rows of 100 in one statement against one by one, on a server that waits for the disk and on one that does not.
//! - `indexes`: commits of 100 with the indexes of history and without them.
//! - `widths`: the look-up of 500 ids and commits, in 5 partitions of a week and in 31 of a day.
//! - `pages`: a page of history from the newest and from the middle.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

mod inserts;
mod pages;
mod rows;
mod widths;

use std::time::{Duration, Instant};

use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::pool;
use shared::store::settings::{Settings, Size};
use sqlx::{AssertSqlSafe, PgPool};

/// Rows of the tables that are full.
const ROWS: usize = 1_000_000;

/// A server with a database a name.
struct World {
    server: Postgres,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start(durable: bool) -> Self {
        let dir = scratch_dir().unwrap();
        let options = PostgresOptions {
            durable,
            ..PostgresOptions::new(dir.path())
        };
        let server = Postgres::start(options).await.unwrap();
        Self { server, _dir: dir }
    }

    async fn database(&self, name: &str) -> PgPool {
        self.server.create_database(name).await.unwrap();
        let size = Size { least: 1, most: 4 };
        pool::write(&self.server.url(name), &settings(), size, "bench").unwrap()
    }
}

/// Filling a table takes longer than a worker may.
fn settings() -> Settings {
    Settings {
        write_timeout: Duration::from_secs(3_600),
        ..Settings::default()
    }
}

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

async fn timed(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    start.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds: the median, and the 99th of a hundred.
fn shown(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[figures.len() * 99 / 100])
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

#[tokio::main]
async fn main() {
    let rows = argument("--rows").map_or(ROWS, |text| text.parse().unwrap());
    let only = argument("--only");
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("inserts") {
        inserts::bulk().await;
    }
    if wanted("indexes") {
        inserts::indexes(rows).await;
    }
    if wanted("widths") {
        widths::compare(rows).await;
    }
    if wanted("pages") {
        pages::pages(rows).await;
    }
}
