//! The statements that write the log, and what keeps its tables small.

use std::collections::BTreeMap;

use sqlx::PgPool;

use super::row::Row;
use crate::access::worth::Hour;
use crate::access::{Found, KEPT, What};
use crate::event::Tenant;
use crate::subject::Service;

/// Most keys of a service for which it is kept what to fetch; for a while each worker may add ten thousand.
pub const MOST_KEYS: u32 = 200_000;
/// Longest that one statement may take, kept by the server: shorter than what whoever writes waits for.
const STATEMENT_MS: &str = "5000";

/// What became of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there now.
    Yes,
    /// It was there already.
    Before,
    /// Its times are far from the database's.
    Absurd,
    /// Postgres will not have it, whenever it is asked.
    Refused(String),
}

/// Writes a row, the sums of its hours and what to fetch for its keys: all or nothing, and once however often it is tried.
pub(super) async fn write(pool: &PgPool, worker: &str, row: &Row) -> Result<Written, sqlx::Error> {
    match insert(pool, worker, row).await {
        Err(sqlx::Error::Database(error)) if is_about_the_row(error.code().as_deref()) => {
            Ok(Written::Refused(error.to_string()))
        }
        written => written,
    }
}

async fn insert(pool: &PgPool, worker: &str, row: &Row) -> Result<Written, sqlx::Error> {
    // Times: a row waits for five minutes at most, and the clocks may be another five apart.
    const LOG: &str = "
        WITH clock AS (SELECT (extract(epoch FROM now()) * 1000)::bigint AS now_ms),
        log AS (
            INSERT INTO access_log (service, batch, worker, from_ms, to_ms, accesses, keys, packed)
            SELECT $1, $2, $3, $4, $5, $6, $7, $8 FROM clock
            WHERE $5 <= now_ms + 300000 AND $4 >= now_ms - 900000 AND NOT ($9 AND EXISTS (
                SELECT FROM access_log WHERE service = $1 AND flushed_at > now() - interval '15 minutes' AND batch = $2))
            RETURNING 1)
        SELECT EXISTS (SELECT FROM log), $5 <= now_ms + 300000 AND $4 >= now_ms - 900000 FROM clock";
    let mut work = pool.begin().await?;
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(STATEMENT_MS)
        .execute(&mut *work)
        .await?;
    let (inserted, plausible): (bool, bool) = sqlx::query_as(LOG)
        .bind(row.service.as_str())
        .bind(&row.batch.as_bytes()[..])
        .bind(worker)
        .bind(row.from_ms as i64)
        .bind(row.to_ms as i64)
        .bind(row.accesses as i32)
        .bind(row.keys as i32)
        .bind(&row.packed)
        .bind(row.tried)
        .fetch_one(&mut *work)
        .await?;
    if !inserted {
        return Ok(if plausible {
            Written::Before
        } else {
            Written::Absurd
        });
    }
    hours(&mut work, worker, row).await?;
    keys(&mut work, row).await?;
    work.commit().await?;
    Ok(Written::Yes)
}

async fn hours(work: &mut sqlx::PgConnection, worker: &str, row: &Row) -> Result<(), sqlx::Error> {
    const HOURS: &str = "
        INSERT INTO access_hours AS h (service, worker, share, hour, memory, redis, postgres, nowhere, unasked, refreshed,
            fetched, fetched_ms)
        SELECT $1, $2, $3, to_timestamp(hour), memory, redis, postgres, nowhere, unasked, refreshed, fetched, fetched_ms
        FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
            $11::bigint[], $12::bigint[])
            AS sums (hour, memory, redis, postgres, nowhere, unasked, refreshed, fetched, fetched_ms)
        ON CONFLICT (service, hour, worker, share) DO UPDATE SET memory = h.memory + excluded.memory,
            redis = h.redis + excluded.redis, postgres = h.postgres + excluded.postgres,
            nowhere = h.nowhere + excluded.nowhere, unasked = h.unasked + excluded.unasked,
            refreshed = h.refreshed + excluded.refreshed, fetched = h.fetched + excluded.fetched,
            fetched_ms = h.fetched_ms + excluded.fetched_ms";
    let column = |of: fn(&Hour) -> i64| -> Vec<i64> { row.hours.iter().map(of).collect() };
    let found =
        |found: Found| -> Vec<i64> { row.hours.iter().map(|hour| hour.found[found as usize]).collect() };
    let mut query = sqlx::query(HOURS)
        .bind(row.service.as_str())
        .bind(worker)
        .bind(row.share.millionths() as i32)
        .bind(column(|hour| (hour.start_ms / 1_000) as i64));
    for place in Found::ALL {
        query = query.bind(found(place));
    }
    query
        .bind(column(|hour| hour.refreshed))
        .bind(column(|hour| hour.fetched))
        .bind(column(|hour| hour.fetched_ms))
        .execute(work)
        .await?;
    Ok(())
}

async fn keys(work: &mut sqlx::PgConnection, row: &Row) -> Result<(), sqlx::Error> {
    // Another worker that has seen the key within hours has told as much.
    const KEYS: &str = "
        INSERT INTO access_keys AS k (service, digest, name, tenant, request, seen_at)
        SELECT $1, digest, name, tenant, request, now()
        FROM unnest($2::bytea[], $3::text[], $4::text[], $5::bytea[]) AS told (digest, name, tenant, request)
        ON CONFLICT (service, digest) DO UPDATE
        SET name = excluded.name, tenant = excluded.tenant, request = excluded.request, seen_at = excluded.seen_at
        WHERE k.seen_at < now() - interval '6 hours'";
    // In one order for all, lest two workers wait for each other; and each key once.
    let told: BTreeMap<&[u8], &What> = row
        .told
        .iter()
        .map(|(digest, what)| (&digest.0[..], what))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    let tenants: Vec<Option<&str>> = told
        .values()
        .map(|what| what.tenant.as_ref().map(Tenant::as_str))
        .collect();
    sqlx::query(KEYS)
        .bind(row.service.as_str())
        .bind(told.keys().copied().collect::<Vec<_>>())
        .bind(told.values().map(|what| what.name.as_str()).collect::<Vec<_>>())
        .bind(tenants)
        .bind(told.values().map(|what| &what.request[..]).collect::<Vec<_>>())
        .execute(work)
        .await?;
    Ok(())
}

/// Deletes what to fetch for the keys of a service that were seen longest ago, where there are more than [`MOST_KEYS`].
pub(super) async fn trim(pool: &PgPool, service: &Service) -> Result<(), sqlx::Error> {
    const TRIM: &str = "
        DELETE FROM access_keys WHERE service = $1 AND seen_at <=
            (SELECT seen_at FROM access_keys WHERE service = $1 ORDER BY seen_at DESC OFFSET $2 LIMIT 1)";
    sqlx::query(TRIM)
        .bind(service.as_str())
        .bind(i64::from(MOST_KEYS))
        .execute(pool)
        .await?;
    Ok(())
}

/// Deletes sums and keys that are older than [`KEPT`]; rows of the log go with their partitions.
///
/// # Errors
/// Postgres is away.
pub async fn forget_old(pool: &PgPool) -> Result<(), sqlx::Error> {
    for delete in [
        "DELETE FROM access_hours WHERE hour < now() - $1 * interval '1 second'",
        "DELETE FROM access_keys WHERE seen_at < now() - $1 * interval '1 second'",
    ] {
        sqlx::query(delete).bind(KEPT.as_secs_f64()).execute(pool).await?;
    }
    Ok(())
}

/// SQLSTATE classes 22 (data exception) and 23 (integrity constraint violation); but 23514, of which the tables have none, says
/// that the row's partition was made while the row was on its way to the default one.
fn is_about_the_row(code: Option<&str>) -> bool {
    code.is_some_and(|code| (code.starts_with("22") || code.starts_with("23")) && code != "23514")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;
    use crate::access::{Access, Share};
    use crate::servers::{Postgres, PostgresOptions, scratch_dir};
    use crate::store::migrate::migrate;

    #[tokio::test]
    async fn a_row_is_there_once_however_often_it_is_tried() {
        let dir = scratch_dir().unwrap();
        let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
        server.create_database("weir").await.unwrap();
        let pool = PgPool::connect(&server.url("weir")).await.unwrap();
        migrate(&pool).await.unwrap();
        let now_ms = super::super::now_ms();
        let access = Access {
            at_ms: now_ms,
            key: 1,
            actor: None,
            repository: None,
            found: Found::Redis,
            fetch_ms: None,
        };
        let service = Service::new("github").unwrap();
        let rows = Row::pack(&service, Share::ALL, vec![access; 3], Vec::new(), now_ms);
        let mut row = rows.into_iter().next().unwrap();
        assert_eq!(write(&pool, "w", &row).await.unwrap(), Written::Yes);
        // Its answer was lost.
        row.tried = true;
        assert_eq!(write(&pool, "w", &row).await.unwrap(), Written::Before);
        let sums: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT sum(redis) FROM access_hours)::bigint, (SELECT sum(accesses) FROM access_log)::bigint",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(sums, (3, 3));
        // A worker whose clock is an hour off.
        for (from, to) in [(3_600_000, 0), (0, 3_600_000)] {
            (row.from_ms, row.to_ms) = (now_ms - from, now_ms + to);
            assert_eq!(write(&pool, "w", &row).await.unwrap(), Written::Absurd);
        }
    }
}
