//! Rows as a worker writes them.

use sqlx::PgPool;

/// One group, as the worker's statement writes it, into a table of this name: as many ends as there are numbers. A twentieth
/// are dead, a tenth have a tenant where the table knows tenants.
pub(crate) async fn commit(pool: &PgPool, table: &str, seed: &str, count: usize, tenants: bool) {
    let (column, value) = if tenants {
        (", tenant", ", CASE WHEN n % 10 = 0 THEN 'acme' END")
    } else {
        ("", "")
    };
    let statement = format!(
        "INSERT INTO {table} (event_id, service, state, attempts, code, detail, result, took_ms, worker, trace_id, accepted_at,
             finished_at{column})
         SELECT DISTINCT ON (event_id, service) event_id, service, state, 1, 'http_200', '', result::json, 12, 'worker-1', trace,
             now(), clock_timestamp(){value}
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[])
             AS t(event_id, service, state, result, trace, n)
         ORDER BY event_id, service, state DESC ON CONFLICT DO NOTHING"
    );
    let numbers: Vec<i32> = (0..count as i32).collect();
    let of = |text: &dyn Fn(i32) -> String| numbers.iter().map(|n| text(*n)).collect::<Vec<_>>();
    let random = |n: i32| {
        format!(
            "{:016x}{:016x}",
            rand::random::<u64>(),
            rand::random::<u64>() ^ n as u64
        )
    };
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(of(&|n| format!("github:{}-{seed}-{n}", random(n))))
        .bind(of(&|n| ["github", "slack", "http"][n as usize % 3].to_owned()))
        .bind(of(&|n| if n % 20 == 7 { "dead" } else { "done" }.to_owned()))
        .bind(of(&|_| {
            r#"{"status":200,"url":"https://api.example.com/x"}"#.to_owned()
        }))
        .bind(of(&random))
        .bind(&numbers)
        .execute(pool)
        .await
        .unwrap();
}

/// Fills a table with rows of the last `days`, evenly, their ids `event-<n>` hashed as those of webhooks are random.
pub(crate) async fn fill(pool: &PgPool, table: &str, rows: usize, days: i64, tenants: bool) {
    let (column, value) = if tenants {
        (", tenant", ", CASE WHEN n % 10 = 0 THEN 'acme' END")
    } else {
        ("", "")
    };
    let statement = format!(
        "INSERT INTO {table} (event_id, service, state, attempts, code, detail, result, took_ms, worker, trace_id, accepted_at,
             finished_at{column})
         SELECT 'github:' || md5(n::text), (ARRAY['github', 'slack', 'http'])[1 + n % 3],
             CASE WHEN n % 50 = 7 THEN 'dead' ELSE 'done' END, 1, 'http_200', '',
             '{{\"status\":200,\"url\":\"https://api.example.com/x\"}}', 10 + n % 90, 'worker-1', md5((-n)::text), now(),
             now() - n * ({days} * 86400.0 / {rows}) * interval '1 second'{value}
         FROM generate_series({rows} - 1, 0, -1) n"
    );
    super::run(pool, &statement).await;
}
