//! Indexes that came when there were partitions already.

use shared::store::migrate::migrate;
use shared::store::partitions::{complete, tend_at};
use sqlx::AssertSqlSafe;

use crate::world::{NOON, World, empty, failures, table};

/// The tables as they were before history was asked for, with a week of rows.
async fn before() -> World {
    let world = empty().await;
    for migration in [
        include_str!("../../migrations/0001_results.sql"),
        include_str!("../../migrations/0002_inbox.sql"),
    ] {
        sqlx::raw_sql(migration).execute(&world.pool).await.unwrap();
    }
    world
        .run(&format!(
            "CREATE TABLE outcomes_w2968 PARTITION OF outcomes
                 FOR VALUES FROM (to_timestamp({NOON} - 7 * 86400)) TO (to_timestamp({NOON}));
             INSERT INTO outcomes SELECT 'e' || n, 'github', 'done', 1, '', '', NULL, 1, 'w', '', to_timestamp({NOON} - n),
                 to_timestamp({NOON} - n) FROM generate_series(1, 1000) n"
        ))
        .await
        .unwrap();
    for migration in [
        include_str!("../../migrations/0007_outcomes_history.sql"),
        include_str!("../../migrations/0008_failures_history.sql"),
        include_str!("../../migrations/0009_views_with_tenants.sql"),
    ] {
        let mut one = world.pool.begin().await.unwrap();
        sqlx::raw_sql(migration).execute(&mut *one).await.unwrap();
        one.commit().await.unwrap();
    }
    world
}

/// Indexes of the table that are not whole, and partitions that lack one.
const WANTING: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";

#[tokio::test]
async fn older_partitions_get_what_they_lack_and_writers_go_on() {
    let world = before().await;
    assert_eq!(world.number(WANTING).await, 4);
    let tables = [table(7, 3_650), failures()];
    // One that was begun and never finished.
    world
        .run("CREATE INDEX outcomes_w2968_by_service ON outcomes_w2968 (service)")
        .await
        .unwrap();
    world
        .run(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'outcomes_w2968_by_service'::regclass",
        )
        .await
        .unwrap();
    // Two at once: one does it.
    let (one, other) = tokio::join!(complete(&world.pool, &tables), complete(&world.pool, &tables));
    one.and(other).unwrap();
    complete(&world.pool, &tables).await.unwrap();
    assert_eq!(world.number(WANTING).await, 0);
    tend_at(&world.pool, &tables[0], NOON).await.unwrap();
    complete(&world.pool, &tables).await.unwrap();
    assert_eq!(world.number(WANTING).await, 0, "new ones have theirs");
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(
        "EXPLAIN SELECT event_id FROM outcomes_w2968 WHERE (service || ' ' || state) = 'github done'
         ORDER BY finished_at DESC LIMIT 5",
    ))
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(plan.concat().contains("outcomes_w2968_by_service"), "{plan:#?}");
}

/// Whoever waits for a long question holds the index up, and nobody waits for the index.
#[tokio::test]
async fn an_index_waits_for_a_long_question_and_nobody_for_the_index() {
    let world = before().await;
    let mut reader = world.pool.begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        .execute(&mut *reader)
        .await
        .unwrap();
    sqlx::query("SELECT count(*) FROM outcomes")
        .execute(&mut *reader)
        .await
        .unwrap();
    let indexing = tokio::spawn({
        let pool = world.pool.clone();
        async move { complete(&pool, &[table(7, 3_650)]).await }
    });
    for n in 0..200 {
        world
            .run(&format!(
                "INSERT INTO outcomes VALUES ('new{n}', 'github', 'done', 1, '', '', NULL, 1, 'w', '', now(),
                    to_timestamp({NOON} - 1))"
            ))
            .await
            .unwrap();
    }
    assert!(!indexing.is_finished());
    reader.rollback().await.unwrap();
    indexing.await.unwrap().unwrap();
    let found = "SELECT count(*) FROM outcomes WHERE (service || ' ' || state) = 'github done'";
    assert_eq!(world.number(found).await, 1_200);
}

#[tokio::test]
async fn tables_of_a_fleet_that_starts_are_whole() {
    let world = crate::world::empty().await;
    migrate(&world.pool).await.unwrap();
    let tables = [table(7, 3_650), failures()];
    complete(&world.pool, &tables).await.unwrap();
    assert_eq!(world.number(WANTING).await, 0);
}
