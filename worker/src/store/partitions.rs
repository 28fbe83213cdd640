//! Partitions of a week: made ahead, dropped when they are old. Every worker looks after them; one at a time does.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};

/// A table in partitions.
struct Table {
    name: &'static str,
    /// The column that tells the week.
    time: &'static str,
}

const TABLES: [Table; 2] = [
    Table {
        name: "outcomes",
        time: "finished_at",
    },
    Table {
        name: "failures",
        time: "at",
    },
];
/// Weeks that are there ahead of time.
const AHEAD: i64 = 1;
const WEEK: i64 = 7 * 86_400;
/// How often they are looked after.
const EVERY: Duration = Duration::from_secs(3600);
/// Stands for "somebody is at it": any number that no other program of the database uses.
const LOCK: i64 = 0x5765_6972_0001;

/// For how long outcomes and failures are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep(pub Duration);

/// Looks after the partitions, every hour.
pub async fn keep_up(pool: PgPool, keep: Keep) -> Result<(), Infallible> {
    loop {
        if let Err(error) = tend(&pool, keep).await {
            tracing::warn!(%error, "partitions were not looked after: the default one takes what has no other");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Makes the partitions of this and the coming weeks, and drops those that are wholly older than `keep`, and old notes.
/// Waits for another that is at it.
///
/// # Errors
/// The table was not to be had within two seconds.
pub async fn tend(pool: &PgPool, keep: Keep) -> Result<(), sqlx::Error> {
    for table in &TABLES {
        tend_one(pool, table, keep).await?;
    }
    // Of calls that nobody will ask for any more.
    sqlx::query("DELETE FROM intents WHERE at < now() - $1 * interval '1 second'")
        .bind(keep.0.as_secs_f64())
        .execute(pool)
        .await?;
    sqlx::query("DELETE FROM followed WHERE at < now() - $1 * interval '1 second'")
        .bind(keep.0.as_secs_f64())
        .execute(pool)
        .await?;
    sqlx::query("DELETE FROM suspects WHERE at < now() - interval '1 day'")
        .execute(pool)
        .await?;
    Ok(())
}

/// One table in a transaction: whoever writes locks both, and holding one while waiting for the other would be a deadlock.
async fn tend_one(pool: &PgPool, table: &Table, keep: Keep) -> Result<(), sqlx::Error> {
    let mut work = pool.begin().await?;
    // Making and dropping shut the table for a moment: rather later than in a queue that others wait in.
    sqlx::query("SET LOCAL lock_timeout = '2s'")
        .execute(&mut *work)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *work)
        .await?;
    let now: i64 = sqlx::query_scalar("SELECT extract(epoch FROM now())::bigint")
        .fetch_one(&mut *work)
        .await?;
    let week = now.div_euclid(WEEK);
    let oldest = (now - keep.0.as_secs() as i64).div_euclid(WEEK);
    let there = existing(&mut work, table.name).await?;
    for from in there.iter().filter(|from| **from < oldest) {
        let partition = name(table.name, *from);
        execute(&mut work, format!("DROP TABLE {partition}")).await?;
        tracing::info!(partition, "an old partition is dropped");
    }
    let Table { name: whole, time } = table;
    let old = format!(
        "DELETE FROM {whole}_default WHERE {time} < to_timestamp({})",
        oldest * WEEK
    );
    execute(&mut work, old).await?;
    for at in (week..=week + AHEAD).filter(|at| !there.contains(at)) {
        make(&mut work, table, at).await?;
    }
    work.commit().await
}

/// Makes the partition of a week. Rows of its time that came while there was none lie in the default one: they move.
async fn make(work: &mut Transaction<'_, Postgres>, table: &Table, week: i64) -> Result<(), sqlx::Error> {
    let Table { name: table, time } = table;
    let (from, to) = (week * WEEK, (week + 1) * WEEK);
    let name = name(table, week);
    let within = format!("{time} >= to_timestamp({from}) AND {time} < to_timestamp({to})");
    for statement in [
        format!("LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE"),
        format!(
            "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
        ),
        format!("INSERT INTO {name} SELECT * FROM {table}_default WHERE {within}"),
        format!("DELETE FROM {table}_default WHERE {within}"),
        format!(
            "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({to}))"
        ),
    ] {
        execute(work, statement).await?;
    }
    Ok(())
}

/// Weeks since the epoch that a table has partitions of.
async fn existing(work: &mut Transaction<'_, Postgres>, table: &str) -> Result<Vec<i64>, sqlx::Error> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::regclass")
            .bind(table)
            .fetch_all(&mut **work)
            .await?;
    let week = |name: &String| name.rsplit_once("_w")?.1.parse().ok();
    Ok(names.iter().filter_map(week).collect())
}

async fn execute(work: &mut Transaction<'_, Postgres>, statement: String) -> Result<(), sqlx::Error> {
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&mut **work)
        .await?;
    Ok(())
}

/// The partition of a week, counted from 1 January 1970, a Thursday.
fn name(table: &str, week: i64) -> String {
    format!("{table}_w{week}")
}
