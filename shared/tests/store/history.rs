//! What became of events, at a million of them: each question goes over an index and reads little.

use std::collections::BTreeSet;

use shared::store::history::{self, Filter, Place, State, page};
use shared::store::metrics::Metrics;
use shared::store::partitions::complete;
use shared::store::reads::Reads;
use shared::store::report::report;
use shared::store::settings::Settings;

use crate::filters::{filters, service};
use crate::world::{DAY, NOON, World, failures, migrated, size, table};

/// As many as a fleet ends in a busy hour, over three weeks.
const EVENTS: i64 = 1_000_000;
/// 1.8 s between two of them: 21 days.
const STEP: f64 = 1.8;

async fn full(events: i64, step: f64) -> World {
    let world = migrated().await;
    let days = (events as f64 * step / DAY as f64) as i64 + 1;
    world.partitions(&table(7, 3_650), days + 7).await;
    world.partitions(&failures(), days).await;
    world.ends(events, step).await;
    world
        .run(&format!(
            "INSERT INTO failures SELECT 'event-' || n, (ARRAY['github', 'slack', 'http'])[1 + n % 3], 1, 'transient', 'http_500',
                 '', 10, 'w', '', to_timestamp({NOON} - n * {step} - 60), CASE WHEN n % 10 = 0 THEN 'acme' END
             FROM generate_series(0, {events} - 1, 20) n"
        ))
        .await
        .unwrap();
    complete(&world.pool, &[table(7, 3_650), failures()])
        .await
        .unwrap();
    world.run("VACUUM ANALYZE outcomes").await.unwrap();
    world.run("VACUUM ANALYZE failures").await.unwrap();
    world
}

/// What a question read, as the server explains it.
#[derive(Debug)]
struct Explained {
    question: String,
    blocks: u64,
    /// Nodes that read a table as a whole, or more of an index than is asked for.
    scans: Vec<String>,
}

/// Every question of `asks` with the plan that it was really answered by.
async fn explained(world: &World, asks: impl AsyncFnOnce()) -> Vec<Explained> {
    let before = std::fs::metadata(world.server.log()).unwrap().len() as usize;
    asks().await;
    let log = std::fs::read_to_string(world.server.log()).unwrap();
    let plans = log[before..].split("plan:").skip(1);
    let explained = plans.map(|plan| {
        let first = plan
            .lines()
            .find(|line| line.contains("Buffers:"))
            .unwrap_or_default();
        let blocks = first.split_whitespace().filter_map(|word| word.split_once('='));
        let scans = plan
            .lines()
            .filter(|line| line.contains("Seq Scan") || line.contains("Bitmap"));
        Explained {
            question: plan.lines().take(40).collect::<Vec<_>>().join("\n"),
            blocks: blocks.map(|(_, blocks)| blocks.parse().unwrap_or(0)).sum(),
            scans: scans.map(str::to_owned).collect(),
        }
    });
    explained
        .filter(|explained| explained.question.contains("FROM"))
        .collect()
}

#[tokio::test]
async fn at_a_million_events_every_question_goes_over_an_index_and_reads_little() {
    let world = full(EVENTS, STEP).await;
    let explain = [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_buffers", "on"),
        ("auto_explain.log_timing", "off"),
    ];
    let explain = explain
        .map(|(name, value)| format!("options[{name}]={value}"))
        .join("&");
    let url = format!("{}?{explain}", world.server.url("weir"));
    let reads = Reads::open(&url, &Settings::default(), size(4), "test", Metrics::default()).unwrap();
    let middle = Place {
        at_us: (NOON - 10 * DAY) * 1_000_000,
        event_id: "event-480000".into(),
        service: "github".into(),
    };
    let (mut most, mut questions) = (0, 0);
    let mut seen = |name: &str, explained: Vec<Explained>| {
        assert!(!explained.is_empty(), "{name}");
        let blocks: u64 = explained.iter().map(|one| one.blocks).sum();
        println!("{name}: {blocks} blocks in {} questions", explained.len());
        for one in explained {
            assert!(one.scans.is_empty(), "{name}: {:#?}\n{}", one.scans, one.question);
            assert!(
                one.blocks < 2_000,
                "{name}: {} blocks\n{}",
                one.blocks,
                one.question
            );
            most = most.max(one.blocks);
            questions += 1;
        }
    };
    for (name, filter) in filters() {
        for before in [None, Some(middle.text(&filter))] {
            let asks = async || {
                let page = page(&reads, &filter, before.as_deref(), 50).await.unwrap();
                assert_eq!(
                    page.events.len(),
                    if name.contains("not") { 0 } else { 50 },
                    "{name}"
                );
            };
            seen(name, explained(&world, asks).await);
        }
        let asks = async || drop(history::newer(&reads, &filter, &middle, 50).await.unwrap());
        seen(&format!("what follows: {name}"), explained(&world, asks).await);
    }
    let asks = async || drop(history::story(&reads, "event-480000", &[]).await.unwrap());
    seen("a story", explained(&world, asks).await);
    let all = world.number("SELECT sum(relpages)::bigint FROM pg_class").await;
    println!("{questions} questions, at most {most} of {all} blocks each");
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap_whatever_is_asked_for() {
    // Ten at each moment, so that the time alone tells nothing.
    let world = full(3_000, 0.1).await;
    world
        .run(
            "ALTER TABLE outcomes DISABLE TRIGGER USER; ALTER TABLE failures DISABLE TRIGGER USER;
              UPDATE outcomes SET finished_at = date_trunc('second', finished_at)",
        )
        .await
        .unwrap();
    let reads = world.reads();
    for (name, filter) in filters() {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = page(&reads, &filter, cursor.as_deref(), 37).await.unwrap();
            pages += 1;
            assert!(page.events.len() <= 37 && pages < 200, "{name}");
            seen.extend(page.events);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let order = |one: &history::Entry| (one.at_us, one.event_id.clone(), one.service.clone());
        assert!(
            seen.windows(2).all(|pair| order(&pair[0]) >= order(&pair[1])),
            "{name}: the newest first"
        );
        let keys: BTreeSet<_> = seen.iter().map(|one| (order(one), one.state.clone())).collect();
        assert_eq!(keys.len(), seen.len(), "{name}: each once");
        let expected = world.number(&count(&filter)).await;
        assert_eq!(seen.len() as i64, expected, "{name}");
        // And the other way round.
        let start = Place::default();
        let newer = history::newer(&reads, &filter, &start, 100_000).await.unwrap();
        let mut back: Vec<_> = newer.iter().map(|one| (order(one), one.state.clone())).collect();
        back.sort();
        assert_eq!(back, keys.into_iter().collect::<Vec<_>>(), "{name}");
    }
}

/// The same question, asked without an index.
fn count(filter: &Filter) -> String {
    let both = match (filter.state, filter.attempts) {
        (Some(State::Failed), _) => "WHERE state = 'failed'".to_owned(),
        (Some(state), _) => format!("WHERE state = '{state}'"),
        (None, true) => "WHERE true".into(),
        (None, false) => "WHERE state <> 'failed'".into(),
    };
    let mut count = format!(
        "SELECT count(*) FROM (SELECT event_id, service, state, tenant, finished_at AS at FROM outcomes
            UNION ALL SELECT event_id, service, 'failed', tenant, at FROM failures) e {both}"
    );
    if !filter.services.is_empty() {
        let names: Vec<_> = filter
            .services
            .iter()
            .map(|service| format!("'{service}'"))
            .collect();
        count += &format!(" AND service IN ({})", names.join(","));
    }
    if let Some(tenant) = &filter.tenant {
        count += &format!(" AND tenant = '{}'", tenant.as_str());
    }
    for (than, at) in [(">=", filter.from_us), ("<", filter.to_us)] {
        if let Some(at) = at {
            count += &format!(" AND at {than} to_timestamp({at} / 1000000.0)");
        }
    }
    count
}

#[tokio::test]
async fn the_story_of_an_event_has_all_of_it_and_no_more_than_fits() {
    let world = full(2_000, 1.0).await;
    let reads = world.reads();
    let story = history::story(&reads, "event-40", &[]).await.unwrap();
    assert_eq!((story.ends.len(), story.failed.len(), story.more), (1, 1, false));
    let end = &story.ends[0];
    assert_eq!(end.entry.tenant.as_deref(), Some("acme"));
    assert_eq!(end.result, Some(serde_json::json!({"n": 1})));
    assert_eq!(end.entry.at_us, (NOON - 40) * 1_000_000);
    assert_eq!(end.entry.accepted_ms, Some((NOON - 41) * 1_000));
    assert!(
        history::story(&reads, "event-40", &["none".into()])
            .await
            .unwrap()
            .ends
            .is_empty()
    );
    assert!(
        history::story(&reads, "'; DROP TABLE outcomes --", &[])
            .await
            .unwrap()
            .ends
            .is_empty()
    );
    world
        .run(&format!(
            "INSERT INTO failures SELECT 'much', 'github', n, 'transient', '', '', 1, 'w', '', to_timestamp({NOON} - n)
             FROM generate_series(1, 500) n;
             INSERT INTO outcomes VALUES ('much', 'github', 'done', 501, '', '', to_json(repeat('x', 100000)), 1, 'w', '',
                 to_timestamp({NOON}), to_timestamp({NOON}))"
        ))
        .await
        .unwrap();
    let story = history::story(&reads, "much", &[]).await.unwrap();
    assert_eq!((story.failed.len(), story.more), (100, true));
    assert_eq!(
        (story.ends[0].result.as_ref(), story.ends[0].result_bytes),
        (None, Some(100_002))
    );
}

#[tokio::test]
async fn a_cursor_is_checked_and_missing_tables_are_told() {
    let world = full(200, 1.0).await;
    let reads = world.reads();
    let first = page(&reads, &Filter::default(), None, 10).await.unwrap();
    let next = first.next.unwrap();
    let dead = Filter {
        state: Some(State::Dead),
        ..Filter::default()
    };
    for bad in [
        "",
        "x",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        &next[1..],
        &(next.clone() + "A"),
    ] {
        let refused = page(&reads, &Filter::default(), Some(bad), 10).await.unwrap_err();
        assert!(refused.to_string().contains("cursor"), "{bad}: {refused}");
    }
    let refused = page(&reads, &dead, Some(&next), 10).await.unwrap_err();
    assert!(refused.to_string().contains("the same filters"), "{refused}");
    let empty = crate::world::empty().await;
    let refused = page(&empty.reads(), &dead, None, 10).await.unwrap_err();
    assert!(
        refused.to_string().contains("no worker has made the tables"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_report_tells_hour_by_hour_how_long_events_took() {
    let world = migrated().await;
    world
        .run("INSERT INTO outcomes SELECT 'e' || n, 'github', CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'done' END, 2, '', '', NULL, n,
                  'w', '', now(), date_trunc('hour', now(), 'UTC') - (n / 101) * interval '1 hour'
              FROM generate_series(1, 200) n;
              INSERT INTO outcomes VALUES ('old', 'github', 'done', 1, '', '', NULL, 1, 'w', '', now(), now() - interval '3 days')")
        .await
        .unwrap();
    let reads = world.reads();
    let lines = report(&reads, 24, &[]).await.unwrap();
    let shown: Vec<_> = lines
        .iter()
        .map(|line| (line.state.as_str(), line.events, line.attempts))
        .collect();
    assert_eq!(
        shown,
        [
            ("dead", 10, 20),
            ("done", 90, 180),
            ("dead", 10, 20),
            ("done", 90, 180)
        ]
    );
    assert!(lines[1].p50_ms >= 49.0 && lines[1].p50_ms <= 51.0, "{lines:?}");
    assert!(lines[1].p95_ms >= 94.0 && lines[1].p95_ms <= 96.0, "{lines:?}");
    assert_eq!(lines[0].hour - lines[2].hour, 3_600);
    assert!(report(&reads, 24, &[service("slack")]).await.unwrap().is_empty());
    assert_eq!(
        report(&reads, u16::MAX, &[]).await.unwrap().len(),
        5,
        "a week at most"
    );
}
