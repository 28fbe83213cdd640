//! What a worker keeps, in a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use shared::event::{EventId, Tenant};
use shared::servers::{Postgres, PostgresOptions};
use shared::store::migrate::migrate;
use shared::store::pool;
use shared::store::settings::{Settings, Size};
use shared::subject::Service;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;
use worker::metrics::Metrics;
use worker::store::{self, Begun, Finding, Intent, Keep, Owner, Row, State, Store};

struct Kept {
    store: Store,
    pool: PgPool,
    server: Postgres,
    _dir: tempfile::TempDir,
}

const LONGEST_CALL: Duration = Duration::from_secs(3600);

async fn kept() -> Kept {
    let dir = shared::servers::scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let size = Size { least: 0, most: 4 };
    let pool = pool::write(&server.url("weir"), &Settings::default(), size, "weir-worker").unwrap();
    migrate(&pool).await.unwrap();
    let owner = Owner {
        service: Service::new("github").unwrap(),
        worker: "w".into(),
        inbox: Duration::from_secs(86_400),
        longest_call: LONGEST_CALL,
    };
    let metrics = Metrics::register(&mut Registry::default());
    let store = Store::start(&TaskTracker::new(), pool.clone(), owner, metrics.store);
    Kept {
        store,
        pool,
        server,
        _dir: dir,
    }
}

fn id(text: &str) -> EventId {
    EventId::new(text).unwrap()
}

fn row(event: &str, state: Option<State>, intent: Intent) -> Row {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Row {
        event_id: id(event),
        service: Service::new("github").unwrap(),
        tenant: None,
        state,
        failure: state.is_none().then_some("transient"),
        intent,
        attempts: 1,
        code: "http_200".into(),
        detail: String::new(),
        result: Some("{}".into()),
        owed: Vec::new(),
        took: Duration::from_millis(1),
        trace_id: String::new(),
        accepted_ms: now.as_millis() as u64,
        at_ms: now.as_millis() as u64,
        worker: "w".into(),
    }
}

impl Kept {
    async fn count(&self, question: &'static str) -> i64 {
        sqlx::query_scalar(question).fetch_one(&self.pool).await.unwrap()
    }

    /// As if two hours had gone by since the notes were made.
    async fn age_notes(&self) {
        sqlx::query("UPDATE intents SET at = at - interval '2 hours', since = since - interval '2 hours'")
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_done_is_found_and_what_is_dead_may_still_be_done() {
    let kept = kept().await;
    assert!(kept.store.commit(row("a", Some(State::Dead), Intent::None)).await);
    assert_eq!(kept.store.find(id("a")).await, Finding::Open);
    assert!(kept.store.commit(row("a", Some(State::Done), Intent::None)).await);
    assert_eq!(kept.store.find(id("a")).await, Finding::Done);
    assert_eq!(kept.store.find(id("b")).await, Finding::Open);
    assert_eq!(
        kept.count("SELECT count(*) FROM results WHERE state = 'done'")
            .await,
        1
    );
    assert_eq!(kept.count("SELECT count(*) FROM results").await, 1);
}

#[tokio::test]
async fn a_row_written_twice_is_there_once() {
    let kept = kept().await;
    let done = row("a", Some(State::Done), Intent::None);
    let failed = row("b", None, Intent::None);
    for _ in 0..2 {
        assert!(kept.store.commit(done.clone()).await);
        assert!(kept.store.commit(failed.clone()).await);
    }
    assert_eq!(kept.count("SELECT count(*) FROM outcomes").await, 1);
    assert_eq!(kept.count("SELECT count(*) FROM failures").await, 1);
}

/// Rows that go in one group with a bad one are kept all the same.
#[tokio::test]
async fn one_bad_row_keeps_nobody_else() {
    let kept = kept().await;
    let rows = (0..300).map(|n| {
        let mut row = row(&format!("e{n}"), Some(State::Done), Intent::None);
        match n % 100 {
            // No column takes the first; the second is refused for its result only.
            7 => row.code = "nul\0".into(),
            8 => row.result = Some("no json".into()),
            _ => {}
        }
        let store = kept.store.clone();
        tokio::spawn(async move { store.commit(row).await })
    });
    let mut refused = 0;
    for commit in rows.collect::<Vec<_>>() {
        refused += usize::from(!commit.await.unwrap());
    }
    assert_eq!(refused, 3);
    assert_eq!(kept.count("SELECT count(*) FROM outcomes").await, 297);
    assert_eq!(
        kept.count("SELECT count(*) FROM outcomes WHERE result IS NULL")
            .await,
        3
    );
}

#[tokio::test]
async fn one_of_many_deliveries_begins_the_call() {
    let kept = kept().await;
    let begun: Vec<_> = (0..20)
        .map(|_| {
            let store = kept.store.clone();
            tokio::spawn(async move { store.begin(id("a"), 0).await.unwrap() })
        })
        .collect();
    let mut first = 0;
    for begun in begun {
        match begun.await.unwrap().0 {
            Begun::First => first += 1,
            Begun::Elsewhere(wait) => assert!(wait <= LONGEST_CALL && wait > LONGEST_CALL / 2),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first, 1);
}

#[tokio::test]
async fn a_note_goes_with_its_outcome_or_says_that_nobody_knows() {
    let kept = kept().await;
    let begin = async |event| kept.store.begin(id(event), 0).await.unwrap();
    let (begun, ours) = begin("a").await;
    assert_eq!(begun, Begun::First);
    kept.store.commit(row("a", None, Intent::Over(ours))).await;
    let (begun, ours) = begin("a").await;
    assert_eq!(begun, Begun::First, "it failed for certain");
    kept.store.commit(row("a", None, Intent::Unknown(ours))).await;
    let (begun, ours) = begin("a").await;
    assert!(matches!(begun, Begun::Unknown(_)), "nobody knows");
    let (begun, _) = begin("a").await;
    assert!(
        matches!(begun, Begun::Elsewhere(_)),
        "one finds out at a time: {begun:?}"
    );
    kept.store
        .commit(row("a", Some(State::Done), Intent::Over(ours)))
        .await;
    assert_eq!(begin("a").await.0, Begun::Done, "too late");
    kept.age_notes().await;
    assert_eq!(begin("a").await.0, Begun::Done, "however late");
    assert_eq!(begin("b").await.0, Begun::First);
    kept.age_notes().await;
    let (begun, _) = begin("b").await;
    let two_hours_ago = |ago: Duration| ago >= Duration::from_secs(7200);
    assert!(
        matches!(begun, Begun::Unknown(ago) if two_hours_ago(ago)),
        "its worker must have died: {begun:?}"
    );
}

#[tokio::test]
async fn whoever_ends_late_takes_nobody_elses_note() {
    let kept = kept().await;
    let begin = async || kept.store.begin(id("a"), 0).await.unwrap();
    let (_, paused) = begin().await;
    kept.age_notes().await;
    let (begun, ours) = begin().await;
    assert!(matches!(begun, Begun::Unknown(_)), "{begun:?}");
    for late in [Intent::Over(paused), Intent::Unknown(paused)] {
        kept.store.commit(row("a", None, late)).await;
        let (begun, _) = begin().await;
        assert!(matches!(begun, Begun::Elsewhere(_)), "after {late:?}: {begun:?}");
    }
    kept.store.commit(row("a", None, Intent::Over(ours))).await;
    assert_eq!(begin().await.0, Begun::First);
}

#[tokio::test]
async fn a_replay_is_a_decision_and_counts_once() {
    let kept = kept().await;
    let begin = async |replay| {
        let (begun, ours) = kept.store.begin(id("a"), replay).await.unwrap();
        kept.store.commit(row("a", None, Intent::Unknown(ours))).await;
        begun
    };
    assert_eq!(begin(0).await, Begun::First);
    assert!(matches!(begin(0).await, Begun::Unknown(_)));
    let begun = begin(5).await;
    assert!(
        matches!(begun, Begun::Replayed(ago) if ago > Duration::ZERO),
        "somebody has decided: {begun:?}"
    );
    let begun = begin(5).await;
    assert!(
        matches!(begun, Begun::Unknown(_)),
        "and its worker died of it: {begun:?}"
    );
    let begun = begin(0).await;
    assert!(
        matches!(begun, Begun::Unknown(_)),
        "an older delivery knows no better: {begun:?}"
    );
    let begun = begin(9).await;
    assert!(matches!(begun, Begun::Replayed(_)), "decided anew: {begun:?}");
}

#[tokio::test]
async fn starts_without_an_end_are_counted() {
    let kept = kept().await;
    assert_eq!(kept.store.suspect(7).await, 1);
    assert_eq!(kept.store.suspect(7).await, 2);
    assert_eq!(kept.store.suspect(8).await, 1);
    kept.store.clear(7).await;
    assert_eq!(kept.store.suspect(7).await, 1);
    sqlx::query("UPDATE suspects SET starts = 9, at = at - interval '2 days'")
        .execute(&kept.pool)
        .await
        .unwrap();
    assert_eq!(kept.store.suspect(8).await, 1, "of another time");
}

/// The keeper of a fleet that had partitions of a week, which are honoured until they are old.
#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_when_they_are_old() {
    let kept = kept().await;
    kept.store
        .commit(row("default", Some(State::Done), Intent::None))
        .await;
    let today = (UNIX_EPOCH.elapsed().unwrap().as_secs() as i64).div_euclid(86_400);
    let week = |weeks: i64| (today.div_euclid(7) + weeks) * 7;
    for back in [-20, -2] {
        let (from, to) = (week(back) * 86_400, week(back + 1) * 86_400);
        let statement = format!(
            "CREATE TABLE outcomes_w{} PARTITION OF outcomes FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({to}))",
            week(back) / 7
        );
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&kept.pool)
            .await
            .unwrap();
    }
    let keep = Keep {
        rows: Duration::from_secs(30 * 86_400),
        days: 1,
    };
    // Several workers at once do it once.
    let (one, other) = tokio::join!(store::tend(&kept.pool, keep), store::tend(&kept.pool, keep));
    one.and(other).unwrap();
    let days: Vec<String> = sqlx::query_scalar(
        "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
         WHERE inhparent = 'outcomes'::regclass ORDER BY relname",
    )
    .fetch_all(&kept.pool)
    .await
    .unwrap();
    // Today, two more and the one that the end of the second day lies in; the younger week; the default one.
    assert_eq!(days.len(), 5, "{days:?}");
    kept.store
        .commit(row("now", Some(State::Done), Intent::None))
        .await;
    assert_eq!(
        kept.count("SELECT count(*) FROM outcomes_default").await,
        0,
        "they moved"
    );
    assert_eq!(kept.count("SELECT count(*) FROM outcomes").await, 2);
    for known in ["default", "now"] {
        assert_eq!(kept.store.find(id(known)).await, Finding::Done, "{known}");
    }
}

#[tokio::test]
async fn whose_an_event_was_stands_with_its_end_and_its_attempts() {
    let kept = kept().await;
    for (event, state) in [("a", None), ("a", Some(State::Done)), ("b", Some(State::Done))] {
        let mut row = row(event, state, Intent::None);
        row.tenant = (event == "a").then(|| Tenant::new("acme").unwrap());
        assert!(kept.store.commit(row).await);
    }
    let tenants: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT event_id, tenant FROM audit ORDER BY event_id, at")
            .fetch_all(&kept.pool)
            .await
            .unwrap();
    let acme = || ("a".to_owned(), Some("acme".to_owned()));
    assert_eq!(tenants, [acme(), acme(), ("b".to_owned(), None)]);
}

/// A prepared statement keeps the plan that it was given while the tables were empty: it must be one for full ones too.
#[tokio::test]
async fn the_inbox_is_never_looked_up_over_an_index_of_history() {
    let kept = kept().await;
    let keep = Keep {
        rows: Duration::from_secs(30 * 86_400),
        days: 7,
    };
    store::tend(&kept.pool, keep).await.unwrap();
    // More than the five after which a plan is kept.
    for n in 0..10 {
        assert_eq!(kept.store.find(id(&format!("e{n}"))).await, Finding::Open);
    }
    sqlx::query(
        "INSERT INTO outcomes SELECT 'e' || n, 'github', 'done', 1, '', '', NULL, 1, 'w', '', now(), now()
         FROM generate_series(1, 20000) n",
    )
    .execute(&kept.pool)
    .await
    .unwrap();
    for n in 1..=200 {
        assert_eq!(kept.store.find(id(&format!("e{n}"))).await, Finding::Done);
        assert!(kept.store.ending(id(&format!("e{n}"))).await.is_some());
    }
    kept.pool.close().await;
    let again = pool::read(
        &kept.server.url("weir"),
        &Settings::default(),
        Size::COMMAND,
        Duration::from_secs(5),
        "test",
    )
    .unwrap();
    let scans: Vec<(bool, i64)> = sqlx::query_as(
        "SELECT indexrelname LIKE '%pkey', sum(idx_scan)::bigint FROM pg_stat_user_indexes
         WHERE relname LIKE 'outcomes%' GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(&again)
    .await
    .unwrap();
    assert_eq!(scans[0], (false, 0), "{scans:?}");
    assert!(scans[1].1 >= 400, "{scans:?}");
}
