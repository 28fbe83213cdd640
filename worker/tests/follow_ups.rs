//! What events owe, in a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use prometheus_client::registry::Registry;
use serde_json::json;
use shared::event::EventId;
use shared::servers::{Postgres, PostgresOptions};
use shared::store::migrate::migrate;
use shared::store::pool;
use shared::store::settings::{Settings, Size};
use shared::subject::Service;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;
use worker::follow::Message;
use worker::metrics::Metrics;
use worker::store::follow_ups::{left_behind, put_off, remove};
use worker::store::{Finding, Intent, Keep, Owner, Row, State, Store, tend};

fn service(name: &str) -> Service {
    Service::new(name).unwrap()
}

fn id(text: &str) -> EventId {
    EventId::new(text).unwrap()
}

fn message(name: &str) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", name);
    Message {
        rule: "tell".into(),
        subject: "events.slack.high.acme".into(),
        headers,
        payload: b"\x81\0\xff".to_vec().into(),
    }
}

fn row(event: &str, owed: &[&str]) -> Row {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Row {
        event_id: id(event),
        service: service("github"),
        tenant: None,
        state: Some(State::Done),
        failure: None,
        intent: Intent::None,
        attempts: 1,
        code: "http_200".into(),
        detail: String::new(),
        result: Some(json!({"n": 1}).to_string()),
        owed: owed.iter().map(|name| message(name)).collect(),
        took: Duration::from_millis(1),
        trace_id: String::new(),
        accepted_ms: now.as_millis() as u64,
        at_ms: now.as_millis() as u64,
        worker: "w".into(),
    }
}

fn start(pool: &PgPool) -> Store {
    let owner = Owner {
        service: service("github"),
        worker: "w".into(),
        inbox: Duration::from_secs(86_400),
        longest_call: Duration::from_secs(60),
    };
    let metrics = Metrics::register(&mut Registry::default());
    Store::start(&TaskTracker::new(), pool.clone(), owner, metrics.store)
}

#[tokio::test]
async fn what_is_owed_is_committed_with_its_outcome_and_stays_until_it_is_settled() {
    let dir = shared::servers::scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let size = Size { least: 0, most: 4 };
    let pool = pool::write(&server.url("weir"), &Settings::default(), size, "weir-worker").unwrap();
    migrate(&pool).await.unwrap();
    let store = start(&pool);
    // Many at once, so that some of them share a statement with those that owe nothing.
    let rows = (0..60).map(|n| match n % 3 {
        0 => row(&format!("e{n}"), &["a", "b", "c"]),
        1 => row(&format!("e{n}"), &["a"]),
        _ => row(&format!("e{n}"), &[]),
    });
    let commits: Vec<_> = rows
        .map(|row| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(row).await })
        })
        .collect();
    for commit in commits {
        assert!(commit.await.unwrap());
    }
    assert_eq!(store.find(id("e0")).await, Finding::Done);
    assert_eq!(store.owed(id("e0")).await, ["a", "b", "c"].map(message));
    assert_eq!(store.owed(id("e1")).await, [message("a")]);
    assert_eq!(store.owed(id("e2")).await, []);
    assert_eq!(
        store.ending(id("e2")).await,
        Some(("http_200".into(), Some(json!({"n": 1}))))
    );
    assert_eq!(store.ending(id("x")).await, None);
    // Decided once more, by a delivery that had not seen it: the first decision holds.
    assert!(store.commit(row("e1", &["z", "y"])).await);
    assert_eq!(store.owed(id("e1")).await, [message("a")]);
    let kin = async |event: &str| {
        sqlx::query_as::<_, (String, String, String)>(
            "SELECT rule, child_id, child_service FROM followed WHERE event_id = $1 AND service = 'github' ORDER BY 2",
        )
        .bind(event)
        .fetch_all(&pool)
        .await
        .unwrap()
    };
    let told = |child: &str| ("tell".to_owned(), child.to_owned(), "slack".to_owned());
    assert_eq!(kin("e1").await, [told("a")]);
    assert_eq!(kin("e2").await, []);
    store.settled(id("e0")).await;
    store.settled(id("e1")).await;
    // Published, and people still see what followed from what, until it is old.
    assert_eq!(kin("e0").await, ["a", "b", "c"].map(told));
    tend(
        &pool,
        Keep {
            rows: Duration::from_secs(60),
            days: 7,
        },
    )
    .await
    .unwrap();
    assert_eq!(kin("e0").await.len(), 3);
    sqlx::query("UPDATE followed SET at = at - interval '1 hour'")
        .execute(&pool)
        .await
        .unwrap();
    tend(
        &pool,
        Keep {
            rows: Duration::from_secs(60),
            days: 7,
        },
    )
    .await
    .unwrap();
    assert_eq!(kin("e0").await, []);
    assert_eq!(store.owed(id("e0")).await, []);

    let github = [service("github"), service("http")];
    let left = async |services: &[Service], age: u64| {
        left_behind(&pool, services, Duration::from_secs(age))
            .await
            .unwrap()
    };
    assert_eq!(left(&github, 60).await.len(), 0, "they are too young");
    assert_eq!(left(&[service("http")], 0).await.len(), 0, "they are another's");
    sqlx::query("UPDATE follow_ups SET at = at - interval '1 hour'")
        .execute(&pool)
        .await
        .unwrap();
    let old = left(&github, 60).await;
    assert_eq!(old.len(), 19 * 3 + 19);
    let places: Vec<_> = old.into_iter().map(|(place, _)| place).collect();
    put_off(&pool, &places[..10]).await.unwrap();
    assert_eq!(left(&github, 60).await.len(), 66);
    remove(&pool, &places[10..]).await.unwrap();
    assert_eq!(left(&github, 60).await.len(), 0);
    assert_eq!(left(&github, 0).await.len(), 10);
}

#[test]
fn rules_that_are_wrong_are_told_with_the_other_settings() {
    let rules =
        "[[rule]]\nname = 'Bad'\non = { service = 'jira', types = ['*'] }\nemit = { service = 'slack' }\n";
    let told = |rules: &str, hops: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir-worker"));
        let settings = [
            ("WEIR_POSTGRES_URL", "none"),
            ("WEIR_RULES", rules),
            ("WEIR_RULES_HOPS", hops),
        ];
        let ended = command
            .env_clear()
            .arg("--print-config")
            .envs(settings)
            .output()
            .unwrap();
        let text = String::from_utf8(if ended.status.success() {
            ended.stdout
        } else {
            ended.stderr
        })
        .unwrap();
        (ended.status.code(), text)
    };
    let (code, text) = told(rules, "0");
    assert_eq!(code, Some(64));
    for says in [
        "WEIR_RULES line 2, rule number 1: name must be",
        "WEIR_RULES line 3, rule number 1: on.service is jira, which is not in WEIR_SERVICES: github, slack",
        "WEIR_RULES line 4, rule number 1: emit.type is missing",
        "WEIR_RULES_HOPS",
        "4 settings are wrong",
    ] {
        assert!(text.contains(says), "{says} in:\n{text}");
    }
    let good = "[[rule]]\nname = 'tell'\non = { service = 'github', types = ['*'] }\nemit = { service = 'slack', type = 'x' }\n";
    let (code, text) = told(good, "4");
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("WEIR_RULES=tell\n") && text.contains("WEIR_RULES_HOPS=4\n"),
        "{text}"
    );
}
