//! Many rows made few.

use shared::access::fold::fold;
use shared::access::pack::pack;
use shared::access::{Access, Found};

use crate::world::{World, access, all, github, world};

/// Rows of a service, `many` with `a_row` accesses each, spread over the hour that ended so many minutes before the quarter of an
/// hour that is let pass.
async fn rows(world: &World, service: &str, many: usize, a_row: usize) -> Vec<Access> {
    let mut written = Vec::new();
    for n in 0..many {
        let one: Vec<Access> = (0..a_row)
            .map(|k| Access {
                at_ms: 1_790_000_000_000 + (n * a_row + k) as u64,
                key: (k % 17) as u64,
                ..access("/", Found::ALL[k % 5])
            })
            .collect();
        sqlx::query(
            "INSERT INTO access_log SELECT $1, date_trunc('hour', now() - interval '15 minutes', 'UTC')
                 - interval '1 second' * (3600 - $2), int8send($2), 'w', 0, 0, $3, 1, $4",
        )
        .bind(service)
        .bind(n as i64 * 3_600 / many as i64)
        .bind(a_row as i32)
        .bind(pack(&one).0)
        .execute(&world.pool)
        .await
        .unwrap();
        written.extend(one);
    }
    written
}

fn sorted(mut accesses: Vec<Access>) -> Vec<Access> {
    accesses.sort_by_key(|access| access.at_ms);
    accesses
}

#[tokio::test]
async fn an_hour_in_few_rows_is_the_same_hour() {
    let world = world().await;
    let written = rows(&world, "github", 1_200, 150).await;
    rows(&world, "slack", 3, 1).await;
    let (one, other) = tokio::join!(fold(&world.pool), fold(&world.pool));
    let less = one.unwrap() + other.unwrap();
    let left = world
        .number("SELECT count(*) FROM access_log WHERE service = 'github'")
        .await;
    assert_eq!(less, 1_200 - left as u64);
    // 180,000 accesses: 22 rows are the fewest.
    assert!((22..=24).contains(&left), "{left}");
    assert!(sorted(all(&mut world.since(0)).await) == written);
    assert_eq!(
        world
            .number("SELECT sum(accesses)::bigint FROM access_log WHERE service = 'github'")
            .await,
        180_000
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM access_log WHERE service = 'slack'")
            .await,
        3,
        "too few to bother"
    );
    assert_eq!(fold(&world.pool).await.unwrap(), 0);
}

#[tokio::test]
async fn all_hours_of_a_day_are_put_together() {
    let world = world().await;
    rows(&world, "github", 10, 1).await;
    world
        .run(
            "INSERT INTO access_log SELECT service, flushed_at - interval '1 hour' * ago, batch, worker, 0, 0, 1, 1, packed
             FROM access_log, generate_series(1, 30) ago",
        )
        .await;
    fold(&world.pool).await.unwrap();
    let hours: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM access_log GROUP BY date_trunc('hour', flushed_at, 'UTC') ORDER BY max(flushed_at) DESC",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    // Older ones were put together yesterday, or never will be.
    assert_eq!(hours[..23], [1; 23]);
    assert_eq!(hours[25..], [10; 6]);
    assert_eq!(
        world.number("SELECT sum(accesses)::bigint FROM access_log").await,
        310
    );
}

#[tokio::test]
async fn what_is_young_or_broken_stays_as_it_is() {
    let world = world().await;
    let mut worker = world.worker("one", shared::access::Share::ALL);
    let mut reader = world.since(0);
    for _ in 0..10 {
        worker.note("/", access("/", Found::Memory));
        worker.writer.flush().await;
    }
    assert_eq!(fold(&world.pool).await.unwrap(), 0);
    assert_eq!(all(&mut reader).await.len(), 10);
    rows(&world, "slack", 20, 2).await;
    world
        .run("UPDATE access_log SET packed = '\\x0203' WHERE batch = int8send(180)")
        .await;
    assert_eq!(fold(&world.pool).await.unwrap(), 0);
    assert_eq!(world.number("SELECT count(*) FROM access_log").await, 30);
    // What is folded is no news.
    rows(&world, github().as_str(), 20, 2).await;
    assert_eq!(fold(&world.pool).await.unwrap(), 19);
    assert_eq!(all(&mut reader).await, []);
}
