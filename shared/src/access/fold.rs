//! Puts the rows of past hours together: a row of a few seconds holds few accesses where little is asked for, and what a row
//! costs beside them is many times what they do.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Access;
use super::pack::{MOST, pack, unpack};

/// Stands for "somebody is at it": any number that no other program of the database uses.
const LOCK: i64 = 0x5765_6972_0002;
/// Rows with fewer accesses are put together.
const FEW: i32 = MOST as i32 / 2;
/// From so many of those on within an hour.
const WORTH_IT: i64 = 8;
/// Most rows and about the most accesses put together at once: these are held in memory, 64 bytes an access.
const ROWS: i64 = 5_000;
const ACCESSES: i64 = 100_000;

#[derive(sqlx::FromRow)]
struct Row {
    batch: Vec<u8>,
    packed: Vec<u8>,
}

/// Puts rows together of hours of the last day that ended a quarter of an hour ago: nobody writes those once more, and whoever
/// reads news has read them. Somebody who reads the past at that very moment may read a few accesses twice. Does nothing
/// where another is at it. How many rows there are less.
///
/// # Errors
/// Postgres is away, or took too long; what was put together before stays so.
pub async fn fold(pool: &PgPool) -> Result<u64, sqlx::Error> {
    const HOURS: &str = "
        SELECT service, extract(epoch FROM date_trunc('hour', flushed_at, 'UTC'))::bigint FROM access_log
        WHERE flushed_at >= date_trunc('hour', now() - interval '1 day', 'UTC')
            AND flushed_at < date_trunc('hour', now() - interval '15 minutes', 'UTC') AND accesses < $1
        GROUP BY 1, 2 HAVING count(*) >= $2 ORDER BY 2, 1";
    let hours: Vec<(String, i64)> = sqlx::query_as(HOURS)
        .bind(FEW)
        .bind(WORTH_IT)
        .fetch_all(pool)
        .await?;
    let mut less = 0;
    for (service, hour) in hours {
        while let Some(by) = fold_some(pool, &service, hour).await? {
            less += by;
        }
    }
    Ok(less)
}

/// Puts some rows of a service's hour together. `None` where there is nothing left to do.
async fn fold_some(pool: &PgPool, service: &str, hour: i64) -> Result<Option<u64>, sqlx::Error> {
    let mut work = pool.begin().await?;
    let less = fold_within(&mut work, service, hour).await?;
    // Ended before anything else is begun: a transaction that is dropped keeps its lock for a while.
    match less {
        Some(_) => work.commit().await?,
        None => work.rollback().await?,
    }
    Ok(less)
}

async fn fold_within(work: &mut PgConnection, service: &str, hour: i64) -> Result<Option<u64>, sqlx::Error> {
    const READ: &str = "
        SELECT batch, packed FROM (SELECT *, sum(accesses) OVER (ORDER BY flushed_at, batch) - accesses AS before FROM (
            SELECT * FROM access_log WHERE service = $1 AND accesses < $3
                AND flushed_at >= to_timestamp($2) AND flushed_at < to_timestamp($2 + 3600)
            ORDER BY flushed_at, batch LIMIT $4) AS page) AS summed
        WHERE before < $5 ORDER BY flushed_at, batch";
    const REPLACE: &str = "
        WITH old AS (DELETE FROM access_log WHERE service = $1 AND batch = ANY($3)
            AND flushed_at >= to_timestamp($2) AND flushed_at < to_timestamp($2 + 3600) RETURNING flushed_at),
        new AS (INSERT INTO access_log (service, flushed_at, batch, worker, from_ms, to_ms, accesses, keys, packed)
            SELECT $1, (SELECT max(flushed_at) FROM old), batch, '', from_ms, to_ms, accesses, keys, packed
            FROM unnest($4::bytea[], $5::bigint[], $6::bigint[], $7::integer[], $8::integer[], $9::bytea[])
                AS new (batch, from_ms, to_ms, accesses, keys, packed))
        SELECT count(*) FROM old";
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *work)
        .await?;
    if !alone {
        return Ok(None);
    }
    let rows: Vec<Row> = sqlx::query_as(READ)
        .bind(service)
        .bind(hour)
        .bind(FEW)
        .bind(ROWS)
        .bind(ACCESSES)
        .fetch_all(&mut *work)
        .await?;
    if rows.len() < 2 {
        return Ok(None);
    }
    let mut accesses: Vec<Access> = Vec::new();
    for row in &rows {
        match unpack(&row.packed) {
            Ok(more) => accesses.extend(more),
            Err(error) => {
                tracing::warn!(service, hour, %error, "an hour of the access log stays in many rows");
                return Ok(None);
            }
        }
    }
    accesses.sort_by_key(|access| access.at_ms);
    let old: Vec<&[u8]> = rows.iter().map(|row| &row.batch[..]).collect();
    let parts: Vec<&[Access]> = accesses.chunks(MOST).collect();
    let (packs, keys): (Vec<Vec<u8>>, Vec<i32>) = parts
        .iter()
        .map(|part| pack(part))
        .map(|(packed, keys)| (packed, keys as i32))
        .unzip();
    let batches: Vec<Vec<u8>> = parts.iter().map(|_| Uuid::now_v7().as_bytes().to_vec()).collect();
    let time = |access: Option<&Access>| access.map_or(0, |access| access.at_ms as i64);
    let gone: i64 = sqlx::query_scalar(REPLACE)
        .bind(service)
        .bind(hour)
        .bind(&old)
        .bind(&batches)
        .bind(parts.iter().map(|part| time(part.first())).collect::<Vec<_>>())
        .bind(parts.iter().map(|part| time(part.last())).collect::<Vec<_>>())
        .bind(parts.iter().map(|part| part.len() as i32).collect::<Vec<_>>())
        .bind(keys)
        .bind(packs)
        .fetch_one(&mut *work)
        .await?;
    // Somebody may take rows away meanwhile, the keeper of the partitions for one.
    Ok((gone == old.len() as i64).then(|| (old.len() - parts.len()) as u64))
}
