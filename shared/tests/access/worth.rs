//! What people are told, against a count by hand.

use shared::access::worth::{Sums, worth};
use shared::access::{Found, Share};

use crate::world::{access, github, world};

#[tokio::test]
async fn an_hour_is_worth_what_was_noted_of_it() {
    let world = world().await;
    let mut one = world.worker("one", Share::ALL);
    let mut other = world.worker("other", Share::ALL);
    for (worker, found, fetch_ms, times) in [
        (&one, Found::Memory, None, 5),
        (&one, Found::Nowhere, Some(100), 2),
        (&one, Found::Nowhere, None, 1),
        (&other, Found::Redis, None, 3),
        (&other, Found::Redis, Some(50), 1),
        (&other, Found::Postgres, None, 2),
        (&other, Found::Nowhere, Some(400), 1),
        (&other, Found::Unasked, Some(70), 2),
    ] {
        for _ in 0..times {
            let mut access = access("/a", found);
            access.fetch_ms = fetch_ms;
            worker.note("/a", access);
        }
    }
    one.writer.flush().await;
    other.writer.flush().await;
    one.note("/a", access("/a", Found::Memory));
    one.writer.flush().await;
    let lines = worth(&world.reads(), 2, &[github()]).await.unwrap();
    // The hour may have ended meanwhile: then there are two, with the same sums together.
    let sum = |of: fn(&Sums) -> f64| lines.iter().map(|line| of(&line.sums)).sum::<f64>();
    assert_eq!(sum(|sums| sums.lookups), 16.0);
    assert_eq!(
        [
            sum(|s| s.memory),
            sum(|s| s.redis),
            sum(|s| s.postgres),
            sum(|s| s.missed)
        ],
        [6.0, 4.0, 2.0, 4.0]
    );
    assert_eq!(
        (sum(|sums| sums.unasked), sum(|sums| sums.calls_saved)),
        (2.0, 9.0)
    );
    if let [line] = &lines[..] {
        assert_eq!((line.service.as_str(), line.share), ("github", 1.0));
        assert_eq!(
            (line.sums.hit_share, line.sums.fetch_ms),
            (Some(0.75), Some(200.0))
        );
        assert_eq!(line.sums.saved_s, Some(2.4));
    }
}

#[tokio::test]
async fn hours_are_told_each_by_itself_and_shares_are_scaled() {
    let world = world().await;
    world
        .run(
            "INSERT INTO access_hours
             SELECT service, date_trunc('hour', now(), 'UTC') - ago * interval '1 hour', worker, share, hits, 0, 0, misses, 0, 0,
                fetched, ms
             FROM (VALUES ('github', 0, 'a', 1000000, 30, 10, 10, 1000), ('github', 0, 'a', 500000, 5, 10, 10, 3000),
                ('github', 0, 'b', 1000000, 10, 0, 0, 0), ('github', 1, 'a', 100000, 0, 0, 0, 0),
                ('github', 30, 'a', 250000, 1, 0, 0, 0), ('slack', 1, 'a', 1000000, 0, 4, 0, 0))
                AS v (service, ago, worker, share, hits, misses, fetched, ms)",
        )
        .await;
    let told = |lines: &[shared::access::worth::Line]| -> Vec<_> {
        lines
            .iter()
            .map(|line| {
                (
                    line.service.clone(),
                    line.share,
                    line.sums.memory,
                    line.sums.missed,
                    line.sums.fetch_ms,
                )
            })
            .collect()
    };
    let lines = worth(&world.reads(), 24, &[]).await.unwrap();
    assert_eq!(
        told(&lines),
        [
            ("github".to_owned(), 0.5, 50.0, 30.0, Some(7_000.0 / 30.0)),
            ("github".to_owned(), 0.1, 0.0, 0.0, None),
            ("slack".to_owned(), 1.0, 0.0, 4.0, None),
        ]
    );
    assert_eq!((lines[1].sums.hit_share, lines[1].sums.saved_s), (None, None));
    assert_eq!(
        (lines[2].sums.hit_share, lines[2].sums.calls_saved),
        (Some(0.0), 0.0)
    );
    assert_eq!(lines[0].hour - lines[1].hour, 3_600);
    assert_eq!(worth(&world.reads(), 1, &[]).await.unwrap().len(), 1);
    assert_eq!(worth(&world.reads(), 360, &[github()]).await.unwrap().len(), 3);
}
