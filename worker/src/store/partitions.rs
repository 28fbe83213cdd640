//! Partitions of a week: made ahead, dropped when they are old. Every worker looks after them; one at a time does.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};

/// The tables, with the column that tells the week.
const TABLES: [&str; 2] = ["outcomes", "failures"];
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
/// The table was not to be had within two seconds, or rows of a new partition's time lie in the default one.
pub async fn tend(pool: &PgPool, keep: Keep) -> Result<(), sqlx::Error> {
    for table in TABLES {
        tend_one(pool, table, keep).await?;
    }
    // Of calls that nobody will ask for any more.
    sqlx::query("DELETE FROM intents WHERE at < now() - $1 * interval '1 second'")
        .bind(keep.0.as_secs_f64())
        .execute(pool)
        .await?;
    sqlx::query("DELETE FROM suspects WHERE at < now() - interval '1 day'")
        .execute(pool)
        .await?;
    Ok(())
}

/// One table in a transaction: whoever writes locks both, and holding one while waiting for the other would be a deadlock.
async fn tend_one(pool: &PgPool, table: &str, keep: Keep) -> Result<(), sqlx::Error> {
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
    let there = existing(&mut work, table).await?;
    for from in there.iter().filter(|from| **from < oldest) {
        execute(&mut work, format!("DROP TABLE {}", name(table, *from))).await?;
        tracing::info!(partition = name(table, *from), "an old partition is dropped");
    }
    for at in (week..=week + AHEAD).filter(|at| !there.contains(at)) {
        let (from, to) = (at * WEEK, (at + 1) * WEEK);
        let statement = format!(
            "CREATE TABLE {} PARTITION OF {table} FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({to}))",
            name(table, at)
        );
        execute(&mut work, statement).await?;
    }
    work.commit().await
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
