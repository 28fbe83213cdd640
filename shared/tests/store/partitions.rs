//! Partitions as days go by.

use std::time::Duration;

use shared::store::partitions::{tend, tend_at};

use crate::world::{DAY, NOON, World, migrated, table};

impl World {
    /// The first and last days of all partitions of outcomes, counted from [`NOON`]'s.
    async fn days(&self) -> Vec<(i64, i64)> {
        let midnight = NOON - NOON.rem_euclid(DAY);
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            r"SELECT coalesce(extract(epoch FROM substring(bound FROM 'FROM \(''([^'']+)')::timestamptz)::bigint, 0),
                 extract(epoch FROM substring(bound FROM 'TO \(''([^'']+)')::timestamptz)::bigint
              FROM (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits
                  JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'outcomes'::regclass) b
              WHERE bound <> 'DEFAULT' ORDER BY 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let day = |at: i64| (at - midnight).div_euclid(DAY);
        rows.into_iter()
            .map(|(from, to)| (day(from), day(to) - 1))
            .collect()
    }

    async fn end_at(&self, event: &str, at: i64) {
        self.run(&format!(
            "INSERT INTO outcomes VALUES ('{event}', 'github', 'done', 1, '', '', NULL, 1, 'w', '',
                to_timestamp({at}), to_timestamp({at}))"
        ))
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_month_of_days_is_made_and_dropped() {
    let world = migrated().await;
    let table = table(1, 10);
    for day in 0..31 {
        let now = NOON + day * DAY;
        tend_at(&world.pool, &table, now).await.unwrap();
        world.end_at(&format!("day {day}"), now).await;
        // From the day that an event of ten days ago lies in, to the day after tomorrow.
        let first = (day - 10).max(0);
        let expected: Vec<_> = (first..=day + 2).map(|day| (day, day)).collect();
        assert_eq!(world.days().await, expected, "on day {day}");
    }
    let left = world
        .texts("SELECT event_id FROM outcomes ORDER BY finished_at")
        .await;
    let expected: Vec<String> = (20..31).map(|day| format!("day {day}")).collect();
    assert_eq!(left, expected);
    assert_eq!(world.number("SELECT count(*) FROM outcomes_default").await, 0);
    // A fleet that was away for a quarter.
    let now = NOON + 120 * DAY;
    tend_at(&world.pool, &table, now).await.unwrap();
    assert_eq!(world.days().await, [(120, 120), (121, 121), (122, 122)]);
    assert_eq!(world.number("SELECT count(*) FROM outcomes").await, 0);
}

#[tokio::test]
async fn another_width_goes_on_where_the_one_before_ends_and_names_do_not_matter() {
    let world = migrated().await;
    let week = 7 * DAY;
    let monday = (NOON / week) * week;
    world
        .run(&format!(
            "CREATE TABLE outcomes_w2968 PARTITION OF outcomes FOR VALUES FROM (to_timestamp({})) TO (to_timestamp({}));
             CREATE TABLE named_by_hand PARTITION OF outcomes FOR VALUES FROM (MINVALUE) TO (to_timestamp({}))",
            monday,
            monday + week,
            monday - 20 * week
        ))
        .await
        .unwrap();
    let before = world.days().await.len();
    tend_at(&world.pool, &table(1, 365), NOON).await.unwrap();
    let days = world.days().await;
    // What has no beginning is left alone until its end is old.
    assert!(days.len() >= before, "{days:?}");
    for pair in days[1..].windows(2) {
        assert!(pair[0].1 < pair[1].0, "{days:?}");
    }
    assert!(days.last().unwrap().1 >= 2, "{days:?}");
    tend_at(&world.pool, &table(7, 30), NOON + 30 * DAY)
        .await
        .unwrap();
    let days = world.days().await;
    assert!(days.iter().any(|(from, to)| to - from == 6), "{days:?}");
    let names = world
        .texts("SELECT relname::text FROM pg_class WHERE relname = 'named_by_hand'")
        .await;
    assert!(names.is_empty(), "wholly old");
}

#[tokio::test]
async fn rows_without_a_partition_are_kept_moved_and_dropped_in_time() {
    let world = migrated().await;
    for (event, day) in [("old", -20), ("last week", -5), ("today", 0)] {
        world.end_at(event, NOON + day * DAY).await;
    }
    tend_at(&world.pool, &table(1, 10), NOON).await.unwrap();
    let left =
        "SELECT event_id || ' ' || (tableoid::regclass::text = 'outcomes_default') FROM outcomes ORDER BY 1";
    assert_eq!(world.texts(left).await, ["last week true", "today false"]);
    tend_at(&world.pool, &table(1, 10), NOON + 6 * DAY).await.unwrap();
    assert_eq!(world.texts(left).await, ["today false"]);
}

/// Somebody reads for long. Whoever writes must not stand behind the keeper for long, nor the keeper give up at once.
#[tokio::test]
async fn a_long_question_holds_up_the_keeper_and_nobody_else() {
    let world = migrated().await;
    let table = table(1, 10);
    tend_at(&world.pool, &table, NOON).await.unwrap();
    let mut reader = world.pool.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM outcomes")
        .execute(&mut *reader)
        .await
        .unwrap();
    let keeper = tokio::spawn({
        let (pool, table) = (world.pool.clone(), table.clone());
        async move { tend_at(&pool, &table, NOON + 30 * DAY).await }
    });
    let mut writes = 0;
    while !keeper.is_finished() {
        let event = format!("e{writes}");
        let write = world.end_at(&event, NOON);
        tokio::time::timeout(Duration::from_secs(5), write).await.unwrap();
        writes += 1;
        if writes == 20 {
            reader.rollback().await.unwrap();
            break;
        }
    }
    keeper.await.unwrap().unwrap();
    assert_eq!(
        world.number("SELECT count(*) FROM outcomes").await,
        0,
        "all of them are old"
    );
}

#[tokio::test]
async fn the_database_keeps_what_was_recorded_from_being_changed() {
    let world = migrated().await;
    tend(&world.pool, &[table(1, 36_500)]).await.unwrap();
    tend_at(&world.pool, &table(1, 36_500), NOON).await.unwrap();
    world.end_at("in a partition", NOON).await;
    world.end_at("in the default one", NOON - 100 * DAY).await;
    world
        .run(&format!(
            "INSERT INTO failures VALUES ('f', 'github', 1, 'transient', '', '', 1, 'w', '', to_timestamp({NOON}))"
        ))
        .await
        .unwrap();
    let day = world
        .texts("SELECT tableoid::regclass::text FROM outcomes WHERE event_id = 'in a partition'")
        .await;
    let day = &day[0];
    for statement in [
        "UPDATE outcomes SET code = 'x'",
        "DELETE FROM outcomes",
        "TRUNCATE outcomes",
        "TRUNCATE outcomes_default",
        "UPDATE failures SET code = 'x'",
        "DELETE FROM failures WHERE event_id = 'f'",
        "TRUNCATE failures",
        "UPDATE results SET code = 'x' WHERE event_id = 'f'; UPDATE outcomes_default SET code = 'x'",
        "INSERT INTO outcomes SELECT * FROM outcomes ON CONFLICT (event_id, service, finished_at) DO UPDATE SET code = 'x'",
        // What the keeper may do ends at the default partition, and at moving rows.
        "SET weir.keeper = 'on'; DELETE FROM outcomes WHERE event_id = 'in a partition'",
        "SET weir.keeper = 'on'; UPDATE outcomes_default SET code = 'x'",
        "SET weir.keeper = 'on'; TRUNCATE outcomes_default",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("TRUNCATE {day}"), format!("DELETE FROM {day}"), format!("UPDATE {day} SET code = 'x'")])
    {
        let refused = world.run(&statement).await;
        assert!(refused.is_err(), "{statement}");
    }
    let all = "SELECT (SELECT count(*) FROM outcomes WHERE code = '') + (SELECT count(*) FROM failures WHERE code = '')";
    assert_eq!(world.number(all).await, 3);
}
