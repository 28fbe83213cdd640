//! A fortnight in the table.

use std::time::{Duration, Instant};

use shared::access::fold::fold;
use shared::access::pack::pack;
use shared::access::read::since;
use shared::access::{Access, KEPT};
use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::migrate::migrate;
use shared::store::partitions::{Table, tend_at};
use shared::store::pool;
use shared::store::settings::{Settings, Size};
use sqlx::PgPool;

use crate::load::Load;
use crate::{github, now_ms};

const DAYS: u64 = 14;
const DAY_MS: u64 = 86_400_000;
/// Rows of one statement.
const ROWS: usize = 2_000;

/// Writes so many accesses, `a_row` together, and reads them back.
pub(crate) async fn fortnight(accesses: usize, a_row: usize) {
    let dir = scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let settings = Settings {
        write_timeout: Duration::from_secs(3_600),
        ..Settings::default()
    };
    let size = Size { least: 0, most: 4 };
    let pool = pool::write(&server.url("weir"), &settings, size, "bench").unwrap();
    migrate(&pool).await.unwrap();
    let table = Table {
        name: "access_log",
        time: "flushed_at",
        days: 1,
        keep: KEPT,
        append_only: false,
    };
    let from_ms = now_ms() - DAYS * DAY_MS;
    for day in 0..=DAYS {
        let at = (from_ms + day * DAY_MS) / 1_000;
        tend_at(&pool, &table, at as i64).await.unwrap();
    }
    let bytes = fill(&pool, accesses, a_row, from_ms).await;
    let all: i64 = sqlx::query_scalar(
        "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('access_log')",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let read = pool::read(
        &server.url("weir"),
        &Settings::default(),
        size,
        Duration::from_secs(5),
        "bench",
    );
    let mut reader = since(&read.unwrap(), &github(), 0);
    let (mut many, mut steps, mut largest) = (0, 0, 0);
    let start = Instant::now();
    loop {
        let step = reader.next().await.unwrap();
        many += step.accesses.len();
        largest = largest.max(step.accesses.len() * size_of::<Access>());
        if !step.more {
            break;
        }
        steps += 1;
    }
    assert_eq!(many, accesses);
    let idle = Instant::now();
    assert!(!reader.next().await.unwrap().more);
    let idle_ms = idle.elapsed().as_secs_f64() * 1e3;
    println!(
        "fortnight: {accesses} accesses, {a_row} a row: packed {:.1} bytes each, the table {:.1} ({:.0} MiB); read back in \
         {:.1} s, {steps} steps of at most {:.1} MiB; no news: {:.1} ms",
        bytes as f64 / accesses as f64,
        all as f64 / accesses as f64,
        all as f64 / f64::from(1 << 20),
        (idle - start).as_secs_f64(),
        largest as f64 / f64::from(1 << 20),
        idle_ms,
    );
    folded(&pool).await;
}

/// Puts the rows of the last day together: how long that takes, and what of them is left.
async fn folded(pool: &PgPool) {
    const DAY: &str = "SELECT count(*), sum(length(packed))::bigint, sum(accesses)::bigint FROM access_log
        WHERE flushed_at > now() - interval '1 day'";
    let day = || sqlx::query_as::<_, (i64, i64, i64)>(DAY).fetch_one(pool);
    let (before, _, _) = day().await.unwrap();
    let start = Instant::now();
    fold(pool).await.unwrap();
    let took = start.elapsed().as_secs_f64();
    let (rows, bytes, accesses) = day().await.unwrap();
    println!(
        "  folded a day in {took:.1} s: {before} rows, then {rows}; packed {:.1} bytes an access",
        bytes as f64 / accesses as f64
    );
}

async fn fill(pool: &PgPool, accesses: usize, a_row: usize, from_ms: u64) -> usize {
    const FILL: &str = "
        INSERT INTO access_log SELECT 'github', to_timestamp(at / 1e3), b, 'worker-7d9c8f6b5-x2v4q', at, at, $4, $4, p
        FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS v (at, b, p)";
    let mut load = Load::new(20_000);
    let (rows, mut bytes) = (accesses / a_row, 0);
    let mut row = 0_usize;
    while row < rows {
        let many = ROWS.min(rows - row);
        let [mut batches, mut packs] = [Vec::new(), Vec::new()];
        let mut times = Vec::new();
        for n in row..row + many {
            let at_ms = from_ms + DAYS * DAY_MS * n as u64 / rows as u64;
            let one: Vec<Access> = (0..a_row)
                .map(|n| load.next(at_ms + n as u64 * 5_000 / a_row as u64).1)
                .collect();
            let packed = pack(&one).0;
            bytes += packed.len();
            packs.push(packed);
            times.push(at_ms as i64);
            batches.push(
                (n as u128)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes()
                    .to_vec(),
            );
        }
        sqlx::query(FILL)
            .bind(times)
            .bind(batches)
            .bind(packs)
            .bind(a_row as i32)
            .execute(pool)
            .await
            .unwrap();
        row += many;
    }
    bytes
}
