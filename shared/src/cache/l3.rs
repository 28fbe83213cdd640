//! The third level: a table in Postgres that is not logged, for what is dear and lives long. What it holds is bounded by
//! whoever tidies, and between two times by what each process allows itself to write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::PgPool;

use super::gate::{Away, Gate};
use super::key::Key;

/// How often it is tidied.
pub(super) const TIDIED_EVERY: Duration = Duration::from_secs(60);
/// Longest that tidying may take.
const TIDY_WITHIN: Duration = Duration::from_secs(30);
/// Of all bytes each process may write this part between two times.
const ALLOWANCE: u64 = 16;
/// What a row takes beside its bytes, both indexes included, and the share of its bytes that pages cost beside: measured.
const ROW: u64 = 250;
const PAGES: u64 = 5;
/// The sum of that.
const TOTAL: &str = "SELECT coalesce(sum(octet_length(bytes) * 6 / 5 + 250), 0)::bigint FROM cache_entries";
/// Deletes what ends first, until that much is gone.
const EVICT: &str = "DELETE FROM cache_entries WHERE key IN (SELECT key FROM (\
                     SELECT key, size, sum(size) OVER (ORDER BY kept_until, key) AS upto FROM (\
                     SELECT key, kept_until, octet_length(bytes) * 6 / 5 + 250 AS size FROM cache_entries) AS sized\
                     ) AS summed WHERE upto - size < $1)";
/// Rows that are deleted in one statement.
const ROWS: i64 = 5_000;
/// The advisory lock of whoever tidies: any number that nothing else of Weir's uses.
const LOCK: i64 = 0x5765_6972_0000_0015;

/// The level.
#[derive(Debug)]
pub(super) struct L3 {
    pool: PgPool,
    gate: Gate,
    most: u64,
    /// Bytes that this process may write before it is tidied again.
    allowed: AtomicU64,
}

/// What a look at all of it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tidied {
    /// Bytes that stayed.
    pub(super) bytes: u64,
    /// Rows that had to go before their time.
    pub(super) evicted: u64,
}

impl L3 {
    pub(super) fn new(pool: PgPool, patience: Duration, most: u64) -> Self {
        Self {
            pool,
            gate: Gate::new(patience),
            most,
            allowed: AtomicU64::new(most / ALLOWANCE),
        }
    }

    /// An entry's bytes.
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Away> {
        let get = sqlx::query_scalar("SELECT bytes FROM cache_entries WHERE key = $1 AND kept_until > now()")
            .bind(&key.digest[..])
            .fetch_optional(&self.pool);
        self.gate.ask("postgres", get).await
    }

    /// Keeps an entry's bytes for so long, unless a later one is there; whether it does.
    pub(super) async fn put(
        &self,
        key: &Key,
        asked_at: u64,
        bytes: &[u8],
        lasts: Duration,
    ) -> Result<bool, Away> {
        let size = size(bytes.len() as u64);
        let spend = |allowed: u64| allowed.checked_sub(size);
        if self
            .allowed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_err()
        {
            return Ok(false);
        }
        let put = sqlx::query(
            "INSERT INTO cache_entries AS e (key, asked_at, kept_until, bytes) \
             VALUES ($1, $2, now() + $3 * interval '1 millisecond', $4) \
             ON CONFLICT (key) DO UPDATE SET asked_at = excluded.asked_at, kept_until = excluded.kept_until, \
             bytes = excluded.bytes WHERE e.asked_at <= excluded.asked_at OR e.kept_until <= now() \
             OR e.asked_at > extract(epoch FROM now()) * 1000 + 2000",
        )
        .bind(&key.digest[..])
        .bind(asked_at as i64)
        .bind(lasts.as_millis() as f64)
        .bind(bytes)
        .execute(&self.pool);
        let done = self.gate.ask("postgres", put).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes what has lapsed and, where there is too much, what lapses first. `None` when another process is at it.
    pub(super) async fn tidy(&self) -> Result<Option<Tidied>, sqlx::Error> {
        let tidied = tokio::time::timeout(TIDY_WITHIN, self.tidy_up()).await;
        let tidied = tidied.map_err(|_| sqlx::Error::PoolTimedOut)??;
        self.allowed.store(self.most / ALLOWANCE, Ordering::Relaxed);
        Ok(tidied)
    }

    async fn tidy_up(&self) -> Result<Option<Tidied>, sqlx::Error> {
        let mut work = self.pool.begin().await?;
        let ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *work)
            .await?;
        if !ours {
            return Ok(None);
        }
        loop {
            let deleted = sqlx::query(
                "DELETE FROM cache_entries WHERE key IN \
                 (SELECT key FROM cache_entries WHERE kept_until <= now() ORDER BY kept_until LIMIT $1)",
            )
            .bind(ROWS)
            .execute(&mut *work)
            .await?;
            if deleted.rows_affected() < ROWS as u64 {
                break;
            }
        }
        let mut bytes: i64 = sqlx::query_scalar(TOTAL).fetch_one(&mut *work).await?;
        let mut evicted = 0;
        if bytes as u64 > self.most {
            // An eighth more, so that it need not be done each time.
            let surplus = bytes - (self.most - self.most / 8) as i64;
            let deleted = sqlx::query(EVICT).bind(surplus).execute(&mut *work).await?;
            evicted = deleted.rows_affected();
            bytes = sqlx::query_scalar(TOTAL).fetch_one(&mut *work).await?;
        }
        work.commit().await?;
        Ok(Some(Tidied {
            bytes: bytes as u64,
            evicted,
        }))
    }
}

/// What a row of so many bytes takes.
fn size(bytes: u64) -> u64 {
    bytes + bytes / PAGES + ROW
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::{Postgres, PostgresOptions, scratch_dir};

    const HOUR: Duration = Duration::from_secs(3600);

    fn key(n: usize) -> Key {
        Key::new("s", None, &n.to_string()).unwrap()
    }

    #[tokio::test]
    async fn what_it_holds_is_bounded_by_whoever_tidies_and_by_what_each_may_write() {
        const MOST: u64 = 1 << 20;
        let dir = scratch_dir().unwrap();
        let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
        server.create_database("weir").await.unwrap();
        let pool = PgPool::connect(&server.url("weir")).await.unwrap();
        sqlx::raw_sql(include_str!("../../migrations/0010_cache.sql"))
            .execute(&pool)
            .await
            .unwrap();
        let l3 = L3::new(pool.clone(), Duration::from_secs(10), MOST);
        let tidied = l3.tidy().await.unwrap().unwrap();
        assert_eq!((tidied.bytes, tidied.evicted), (0, 0));
        let bytes = vec![b'x'; 4_000];
        // Until its part is written, and no more.
        let mut kept = 0;
        for n in 0..100 {
            let lasts = if n == 0 {
                Duration::ZERO
            } else {
                HOUR + HOUR * n as u32
            };
            kept += usize::from(l3.put(&key(n), 1, &bytes, lasts).await.unwrap());
        }
        let part = (MOST / ALLOWANCE) as usize;
        assert_eq!(kept, part / size(bytes.len() as u64) as usize);
        assert_eq!(l3.get(&key(0)).await.unwrap(), None, "it has lapsed");
        assert_eq!(l3.get(&key(1)).await.unwrap(), Some(bytes.clone()));
        // Round by round it may write again, until there is too much and what ends first goes.
        let mut evicted = 0;
        for round in 1..40 {
            let tidied = l3.tidy().await.unwrap().unwrap();
            assert!(tidied.bytes <= MOST, "{tidied:?}");
            evicted += tidied.evicted;
            for n in 0..20 {
                let n = round * 100 + n;
                let lasts = HOUR + HOUR * n as u32;
                l3.put(&key(n), 1, &bytes, lasts).await.unwrap();
            }
            let all: i64 =
                sqlx::query_scalar("SELECT coalesce(sum(octet_length(bytes)), 0)::bigint FROM cache_entries")
                    .fetch_one(&pool)
                    .await
                    .unwrap();
            assert!(all as u64 <= MOST + MOST / ALLOWANCE, "{all}");
        }
        assert!(evicted > 0);
        assert_eq!(l3.get(&key(1)).await.unwrap(), None, "it ended first");
        assert!(l3.get(&key(3_900)).await.unwrap().is_some());
        // One process at a time.
        let mut other = pool.begin().await.unwrap();
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut *other)
            .await
            .unwrap();
        assert_eq!(l3.tidy().await.unwrap(), None);
        drop(other);
        pool.close().await;
        assert!(l3.tidy().await.is_err());
    }

    #[tokio::test]
    async fn what_a_clock_far_ahead_has_put_is_replaced() {
        let dir = scratch_dir().unwrap();
        let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
        server.create_database("weir").await.unwrap();
        let pool = PgPool::connect(&server.url("weir")).await.unwrap();
        sqlx::raw_sql(include_str!("../../migrations/0010_cache.sql"))
            .execute(&pool)
            .await
            .unwrap();
        let l3 = L3::new(pool, Duration::from_secs(10), 1 << 20);
        let now = crate::cache::entry::now();
        for (at, bytes, kept) in [
            (now + 3_600_000, b"a", true),
            (now, b"b", true),
            (now - 1, b"c", false),
            (now, b"d", true),
        ] {
            assert_eq!(l3.put(&key(1), at, bytes, HOUR).await.unwrap(), kept, "{bytes:?}");
        }
        assert_eq!(l3.get(&key(1)).await.unwrap().unwrap(), b"d");
    }
}
