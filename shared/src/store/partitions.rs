//! Tables in partitions by time: made ahead, dropped when they are old, their indexes completed. Every process that writes
//! looks after them; one at a time does.

mod indexes;
pub mod plan;

use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};

use plan::{DAY, Existing, Span, plan};

/// Days that are there ahead of time.
const AHEAD: i64 = 2;
/// How often they should be looked after.
pub const EVERY: Duration = Duration::from_secs(3600);
/// Stands for "somebody is at it": any number that no other program of the database uses.
const LOCK: i64 = 0x5765_6972_0001;
/// How often a change is tried that others kept from its table.
const TRIES: u32 = 10;
/// Pause between two tries, for those that it held up meanwhile.
const PAUSE: Duration = Duration::from_millis(200);
/// SQLSTATE `lock_not_available`.
const KEPT_OUT: &str = "55P03";

/// A table in partitions by time, with a default one named `<name>_default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The column that tells the time, a `timestamptz`.
    pub time: &'static str,
    /// How many days a new partition holds, 1 to 366.
    pub days: u16,
    /// For how long rows are kept at least; a partition goes when all of it is older.
    pub keep: Duration,
    /// Whether the database refuses changes of its rows (`weir_append_only`).
    pub append_only: bool,
}

/// Makes the indexes that partitions lack which were there before the index was: one after the other, without holding up
/// whoever writes. Where another is at it, there is nothing to do.
///
/// # Errors
/// Postgres is away, or an index was not to be joined to its table's within two seconds.
pub async fn complete(pool: &PgPool, tables: &[Table]) -> Result<(), sqlx::Error> {
    for table in tables {
        indexes::complete(pool, table.name).await?;
    }
    Ok(())
}

/// Makes the partitions of this and the coming days, and drops those that are wholly older than is kept, by the database's
/// clock. Waits for another that is at it.
///
/// # Errors
/// Postgres is away, or a table was not to be had within ten tries.
pub async fn tend(pool: &PgPool, tables: &[Table]) -> Result<(), sqlx::Error> {
    let now: i64 = sqlx::query_scalar("SELECT extract(epoch FROM now())::bigint")
        .fetch_one(pool)
        .await?;
    for table in tables {
        tend_at(pool, table, now).await?;
    }
    Ok(())
}

/// The same for one table at a given time, in seconds since the Unix epoch.
///
/// # Errors
/// As [`tend`].
pub async fn tend_at(pool: &PgPool, table: &Table, now: i64) -> Result<(), sqlx::Error> {
    let mut tries = 1;
    loop {
        match round(pool, table, now).await {
            Err(error) if tries < TRIES && is_kept_out(&error) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// What is in the table's way is looked at first: most of the time nothing is to be done, and nobody is held up.
async fn round(pool: &PgPool, table: &Table, now: i64) -> Result<(), sqlx::Error> {
    let oldest = now.saturating_sub(table.keep.as_secs() as i64);
    let until = now.saturating_add(AHEAD * DAY);
    let mut work = begin(pool).await?;
    let steps = plan(
        now,
        oldest,
        until,
        table.days,
        &existing(&mut work, table.name).await?,
    );
    let old = format!(
        "DELETE FROM {0}_default WHERE {1} < to_timestamp({oldest})",
        table.name, table.time
    );
    execute(&mut work, old).await?;
    work.commit().await?;
    // Each in a transaction of its own: whoever writes waits for one of them at most.
    for partition in steps.drop {
        let mut work = begin(pool).await?;
        execute(&mut work, format!("DROP TABLE IF EXISTS {partition}")).await?;
        work.commit().await?;
        tracing::info!(partition, "an old partition is dropped");
    }
    for span in steps.make {
        let mut work = begin(pool).await?;
        let there = existing(&mut work, table.name).await?;
        // Another may have been here meanwhile.
        if there
            .iter()
            .all(|part| part.span.to <= span.from || span.to <= part.span.from)
        {
            make(&mut work, table, span).await?;
        }
        work.commit().await?;
    }
    Ok(())
}

/// A transaction that may change the table: alone at it, rather later than in a queue that others wait in, and allowed to
/// move rows out of the default partition, however many they are.
async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut work = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *work)
        .await?;
    for setting in [
        "SET LOCAL lock_timeout = '200ms'",
        "SET LOCAL statement_timeout = 0",
        "SET LOCAL weir.keeper = 'on'",
    ] {
        sqlx::query(setting).execute(&mut *work).await?;
    }
    Ok(work)
}

/// Makes a partition. Rows of its time that came while there was none lie in the default one: they move.
async fn make(work: &mut Transaction<'_, Postgres>, table: &Table, span: Span) -> Result<(), sqlx::Error> {
    let Table {
        name: whole, time, ..
    } = table;
    let Span { from, to } = span;
    let name = name(whole, from);
    let within = format!("{time} >= to_timestamp({from}) AND {time} < to_timestamp({to})");
    let mut statements = vec![
        format!("LOCK TABLE {whole}_default IN ACCESS EXCLUSIVE MODE"),
        format!(
            "CREATE TABLE {name} (LIKE {whole} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
        ),
        format!("INSERT INTO {name} SELECT * FROM {whole}_default WHERE {within}"),
        format!("DELETE FROM {whole}_default WHERE {within}"),
        format!(
            "ALTER TABLE {whole} ATTACH PARTITION {name} FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({to}))"
        ),
    ];
    if table.append_only {
        // The one trigger that a partition does not have from its table.
        statements.push(format!(
            "CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON {name} EXECUTE FUNCTION weir_append_only()"
        ));
    }
    for statement in statements {
        execute(work, statement).await?;
    }
    Ok(())
}

/// The partitions of a table with what they hold, as the catalog says, whatever their names.
async fn existing(work: &mut Transaction<'_, Postgres>, table: &str) -> Result<Vec<Existing>, sqlx::Error> {
    const FIND: &str = r"
        WITH part AS (
            SELECT c.oid::regclass::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass
        )
        SELECT name, extract(epoch FROM substring(bound FROM 'FROM \(''([^'']+)''')::timestamptz)::bigint,
            extract(epoch FROM substring(bound FROM 'TO \(''([^'']+)''')::timestamptz)::bigint
        FROM part WHERE bound <> 'DEFAULT' ORDER BY 2 NULLS FIRST";
    let rows: Vec<(String, Option<i64>, Option<i64>)> =
        sqlx::query_as(FIND).bind(table).fetch_all(&mut **work).await?;
    let part = |(name, from, to): (String, Option<i64>, Option<i64>)| Existing {
        name,
        span: Span {
            from: from.unwrap_or(i64::MIN),
            to: to.unwrap_or(i64::MAX),
        },
    };
    Ok(rows.into_iter().map(part).collect())
}

async fn execute(work: &mut Transaction<'_, Postgres>, statement: String) -> Result<(), sqlx::Error> {
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&mut **work)
        .await?;
    Ok(())
}

fn is_kept_out(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == KEPT_OUT)
}

/// The partition that begins at a moment: `outcomes_20261122`.
fn name(table: &str, from: i64) -> String {
    let date = time::OffsetDateTime::from_unix_timestamp(from).ok();
    let date = date.map(|at| format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day()));
    // Where there are no dates there are numbers.
    let date = date.unwrap_or_else(|| from.to_string().replace('-', "m"));
    format!("{table}_{date}")
}
