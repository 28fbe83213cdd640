//! Reading the log: the past and then the news of a service, in order of time but for what came late.

use std::collections::BTreeSet;

use sqlx::PgPool;

use super::pack::unpack;
use super::{Access, Digest, What};
use crate::subject::Service;

/// Rows are looked for again for so long, in microseconds: a row is there when its transaction has ended, and has the moment
/// at which that began. Whoever writes gives up much earlier.
const LATE_US: i64 = 120_000_000;
/// Most rows of one step, and about the most accesses.
const ROWS: i64 = 1_000;
const ACCESSES: i64 = 100_000;
/// Most keys of one look-up.
const KEYS: usize = 1_000;

/// Reads the log of a service on, step by step.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: PgPool,
    service: Service,
    /// Nothing older is read, in microseconds since the epoch.
    from_us: i64,
    /// The newest row's moment so far.
    newest_us: i64,
    /// Rows that were read and may be found again: when, and which.
    seen: BTreeSet<(i64, Vec<u8>)>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was read; of each row in order of time, of all of them nearly.
    pub accesses: Vec<Access>,
    /// Whether there may be more already.
    pub more: bool,
    /// Rows that did not decode, and were left out.
    pub undecodable: u64,
}

#[derive(sqlx::FromRow)]
struct Row {
    at_us: i64,
    batch: Vec<u8>,
    packed: Vec<u8>,
}

/// Reads what was noted of a service since `from_ms`, ms since the epoch, and all that is noted from now on. Bounded: a step
/// takes about 10 MB.
pub fn since(pool: &PgPool, service: &Service, from_ms: u64) -> Reader {
    let from_us = i64::try_from(from_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    Reader {
        pool: pool.clone(),
        service: service.clone(),
        from_us,
        newest_us: from_us,
        seen: BTreeSet::new(),
    }
}

impl Reader {
    /// What comes next; nothing where there are no news. After an error the same is read again.
    ///
    /// # Errors
    /// Postgres cannot be asked.
    pub async fn next(&mut self) -> Result<Step, sqlx::Error> {
        const READ: &str = "
            SELECT at_us, batch, packed FROM (
                SELECT *, sum(accesses) OVER (ORDER BY flushed_at, batch) - accesses AS before FROM (
                    SELECT (extract(epoch FROM flushed_at) * 1000000)::bigint AS at_us, flushed_at, batch, accesses, packed
                    FROM access_log WHERE service = $1 AND batch <> ALL($3)
                        AND flushed_at >= timestamptz 'epoch' + $2 * interval '1 microsecond'
                    ORDER BY flushed_at, batch LIMIT $4) AS page) AS summed
            WHERE before < $5 ORDER BY flushed_at, batch";
        let from = self.newest_us.saturating_sub(LATE_US).max(self.from_us);
        let seen: Vec<&[u8]> = self.seen.iter().map(|(_, batch)| &batch[..]).collect();
        let rows: Vec<Row> = sqlx::query_as(READ)
            .bind(self.service.as_str())
            .bind(from)
            .bind(seen)
            .bind(ROWS)
            .bind(ACCESSES)
            .fetch_all(&self.pool)
            .await?;
        let mut step = Step {
            accesses: Vec::new(),
            more: !rows.is_empty(),
            undecodable: 0,
        };
        for row in rows {
            match unpack(&row.packed) {
                Ok(accesses) => step.accesses.extend(accesses),
                Err(error) => {
                    tracing::warn!(service = %self.service, %error, "a row of the access log is left out");
                    step.undecodable += 1;
                }
            }
            self.newest_us = self.newest_us.max(row.at_us);
            self.seen.insert((row.at_us, row.batch));
        }
        let late = self.newest_us.saturating_sub(LATE_US);
        self.seen = self.seen.split_off(&(late, Vec::new()));
        Ok(step)
    }
}

/// The services of which something is noted.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn services(pool: &PgPool) -> Result<Vec<Service>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar("SELECT DISTINCT service FROM access_hours ORDER BY 1")
        .fetch_all(pool)
        .await?;
    Ok(names
        .into_iter()
        .filter_map(|name| Service::new(name).ok())
        .collect())
}

type Told = (Vec<u8>, String, Option<String>, Vec<u8>);

/// Keys of a service whose names contain `part`, whatever its case, with what to fetch for them: the `most` that were seen last.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn find(
    pool: &PgPool,
    service: &Service,
    part: &str,
    most: usize,
) -> Result<Vec<(Digest, What)>, sqlx::Error> {
    const FIND: &str = "
        SELECT digest, name, tenant, request FROM access_keys
        WHERE service = $1 AND position(lower($2) IN lower(name)) > 0 ORDER BY seen_at DESC LIMIT $3";
    // No name has one, and Postgres takes none.
    let part = part.replace('\0', "\u{fffd}");
    let rows: Vec<Told> = sqlx::query_as(FIND)
        .bind(service.as_str())
        .bind(part)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().filter_map(told).collect())
}

/// `None` for a row that nobody of ours has written.
fn told((digest, name, tenant, request): Told) -> Option<(Digest, What)> {
    let digest = <[u8; 32]>::try_from(digest).map(Digest).ok()?;
    What::stored(&name, tenant, request)
        .ok()
        .map(|what| (digest, what))
}

/// What to fetch for these keys of a service, as far as that is known; for two digests that begin the same, both.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn what(
    pool: &PgPool,
    service: &Service,
    keys: &[u64],
) -> Result<Vec<(Digest, What)>, sqlx::Error> {
    const FIND: &str = "
        SELECT a.digest, a.name, a.tenant, a.request FROM unnest($2::bytea[], $3::bytea[]) AS wanted (low, high)
        JOIN access_keys AS a ON a.service = $1 AND a.digest BETWEEN wanted.low AND wanted.high";
    let mut found = Vec::new();
    for keys in keys.chunks(KEYS) {
        let bound = |rest: u8| -> Vec<Vec<u8>> {
            let whole = |key: &u64| [&key.to_be_bytes()[..], &[rest; 24]].concat();
            keys.iter().map(whole).collect()
        };
        let rows: Vec<Told> = sqlx::query_as(FIND)
            .bind(service.as_str())
            .bind(bound(0))
            .bind(bound(0xff))
            .fetch_all(pool)
            .await?;
        found.extend(rows.into_iter().filter_map(told));
    }
    Ok(found)
}
