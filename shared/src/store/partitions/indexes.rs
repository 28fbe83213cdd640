//! Indexes that a migration has begun: it makes them for new partitions, and those of older ones are made here, without
//! holding up whoever writes.

use sqlx::{Executor as _, PgPool};

/// Stands for "somebody is at it".
const LOCK: i64 = 0x5765_6972_0002;

/// An index that a partition lacks.
#[derive(Debug, sqlx::FromRow)]
struct Missing {
    /// The table's index that it belongs to.
    whole: String,
    /// The partition.
    partition: String,
    /// How it is to be named.
    name: String,
    /// From `USING` on.
    definition: String,
    /// Whether one of that name is there already: made and not joined yet, or begun and never finished.
    there: bool,
    /// Whether that one is whole.
    valid: bool,
}

/// Makes the indexes that partitions of this table lack, one after the other, unless another is at it.
pub(super) async fn complete(pool: &PgPool, table: &str) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    if missing(&mut connection, table).await?.is_empty() {
        return Ok(());
    }
    // Not waited for: a question that waits holds a picture of the tables, and an index that is made concurrently waits for
    // everybody who does.
    let ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *connection)
        .await?;
    if !ours {
        return Ok(());
    }
    let mut connection = connection.detach();
    connection.execute("SET statement_timeout = 0").await?;
    // The end of the connection gives the lock back, whatever happens.
    for index in missing(&mut connection, table).await? {
        make(&mut connection, &index).await?;
        tracing::info!(index = index.name, "an index of an older partition is made");
    }
    Ok(())
}

async fn missing(connection: &mut sqlx::PgConnection, table: &str) -> Result<Vec<Missing>, sqlx::Error> {
    const FIND: &str = r"
        SELECT w.indexrelid::regclass::text AS whole, p.inhrelid::regclass::text AS partition,
            quote_ident(n.name) AS name, substring(pg_get_indexdef(w.indexrelid) FROM ' (USING .*)$') AS definition,
            o.oid IS NOT NULL AS there, coalesce(x.indisvalid, false) AS valid
        FROM pg_index w
        JOIN pg_class wc ON wc.oid = w.indexrelid
        JOIN pg_inherits p ON p.inhparent = w.indrelid
        JOIN pg_class pc ON pc.oid = p.inhrelid
        CROSS JOIN LATERAL (
            SELECT left(pc.relname, 40) || substring(wc.relname FROM length($2) + 1) AS name
        ) n
        LEFT JOIN pg_class o ON o.relname = n.name AND o.relnamespace = pc.relnamespace
        LEFT JOIN pg_index x ON x.indexrelid = o.oid
        WHERE w.indrelid = $1::regclass AND wc.relname LIKE $2 || '\_%' AND NOT EXISTS (
            SELECT FROM pg_inherits i JOIN pg_index c ON c.indexrelid = i.inhrelid
            WHERE i.inhparent = w.indexrelid AND c.indrelid = p.inhrelid
        )
        ORDER BY p.inhrelid DESC, w.indexrelid";
    sqlx::query_as(FIND)
        .bind(table)
        .bind(table)
        .fetch_all(connection)
        .await
}

async fn make(connection: &mut sqlx::PgConnection, index: &Missing) -> Result<(), sqlx::Error> {
    let Missing {
        whole,
        partition,
        name,
        definition,
        ..
    } = index;
    let mut execute = async |statement: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await
    };
    if index.there && !index.valid {
        execute(format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
    }
    if !index.valid {
        execute(format!(
            "CREATE INDEX CONCURRENTLY {name} ON {partition} {definition}"
        ))
        .await?;
    }
    // Making one holds up nobody, however long it waits for others; joining it does for a moment.
    execute(format!(
        "SET lock_timeout = '2s'; ALTER INDEX {whole} ATTACH PARTITION {name}; SET lock_timeout = 0"
    ))
    .await?;
    Ok(())
}
