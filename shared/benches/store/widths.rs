//! Partitions of a week against partitions of a day.

use sqlx::{AssertSqlSafe, PgPool};

use crate::inserts::outcomes;
use crate::rows::{commit, fill};
use crate::{World, run, shown, timed};

/// Ids of a look-up, as many as the worker asks for at once; half of them are there.
const IDS: usize = 500;

const TOGETHER: &str =
    "SELECT event_id FROM outcomes WHERE service = $1 AND state = 'done' AND event_id = ANY($2)
    AND finished_at > now() - $3 * interval '1 second'";
const ID_BY_ID: &str = "SELECT id FROM unnest($2::text[]) AS t(id) CROSS JOIN LATERAL (
        SELECT FROM outcomes WHERE event_id = id AND service = $1 AND state = 'done'
            AND finished_at > now() - $3 * interval '1 second' LIMIT 1
    ) known";

/// The look-up of the inbox and commits.
pub(crate) async fn compare(rows: usize) {
    let world = World::start(false).await;
    let mut pools = Vec::new();
    for (name, days) in [("weeks", 7_u16), ("days", 1)] {
        let pool = world.database(name).await;
        shared::store::migrate::migrate(&pool).await.unwrap();
        let now: i64 = sqlx::query_scalar("SELECT extract(epoch FROM now())::bigint")
            .fetch_one(&pool)
            .await
            .unwrap();
        for back in (0..=30).rev() {
            shared::store::partitions::tend_at(&pool, &outcomes(days), now - back * 86_400)
                .await
                .unwrap();
        }
        fill(&pool, "outcomes", rows, 30, true).await;
        run(&pool, "VACUUM ANALYZE outcomes").await;
        pools.push((name, pool));
    }
    println!(
        "\n{rows} rows of 30 days; the look-up of {IDS} ids, half of them there, and commits of 100: p50\n"
    );
    println!("| partitions | looking back | all at once | id by id | commit |\n|---|---|---|---|---|");
    for days in [14_usize, 30] {
        let mut figures = vec![(Vec::new(), Vec::new(), Vec::new()); pools.len()];
        for round in 0..60 {
            let ids = ids(&pools[0].1, rows * days / 31).await;
            for ((_, pool), (together, one, commits)) in pools.iter().zip(&mut figures) {
                let look = async |statement| look(pool, statement, &ids, days).await;
                together.push(timed(look(TOGETHER)).await);
                one.push(timed(look(ID_BY_ID)).await);
                commits.push(timed(commit(pool, "outcomes", &format!("{days}-{round}"), 100, true)).await);
            }
        }
        for ((name, _), (together, one, commits)) in pools.iter().zip(figures) {
            let [together, one, commits] = [together, one, commits].map(|figures| shown(figures).0);
            println!("| {name} | {days} days | {together:.1} ms | {one:.1} ms | {commits:.2} ms |");
        }
    }
}

/// Half of them of rows that are there, done and of the first service, and half of none.
async fn ids(pool: &PgPool, rows: usize) -> Vec<String> {
    let known =
        "SELECT 'github:' || md5((floor(random() * $1)::bigint * 150)::text) FROM generate_series(1, $2)";
    let mut ids: Vec<String> = sqlx::query_scalar(known)
        .bind((rows / 150) as f64)
        .bind((IDS / 2) as i64)
        .fetch_all(pool)
        .await
        .unwrap();
    let new = |_| {
        format!(
            "github:{:016x}{:016x}",
            rand::random::<u64>(),
            rand::random::<u64>()
        )
    };
    ids.extend((0..IDS / 2).map(new));
    ids
}

async fn look(pool: &PgPool, statement: &str, ids: &[String], days: usize) {
    let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement.to_owned()))
        .bind("github")
        .bind(ids)
        .bind(days as f64 * 86_400.0)
        .fetch_all(pool)
        .await
        .unwrap();
    assert!(found.len() >= IDS / 4, "{}", found.len());
}
