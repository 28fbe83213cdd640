//! The access log of a worker: its partitions go by days, and its task writes what events noted last.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::access::{Access, AccessMetrics, Digest, Found, Notes, Share};
use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::migrate::migrate;
use shared::store::pool;
use shared::store::settings::{Settings, Size};
use shared::subject::Service;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::task::TaskTracker;
use worker::store::{Keep, tend};

const DAY: i64 = 86_400;

struct World {
    pool: PgPool,
    _server: Postgres,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = scratch_dir().unwrap();
    let server = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
    server.create_database("weir").await.unwrap();
    let size = Size { least: 0, most: 4 };
    let pool = pool::write(&server.url("weir"), &Settings::default(), size, "test").unwrap();
    migrate(&pool).await.unwrap();
    World {
        pool,
        _server: server,
        _dir: dir,
    }
}

impl World {
    async fn run(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn number(&self, question: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn fifteen_days_are_kept_and_what_is_older_goes() {
    let world = world().await;
    let today = UNIX_EPOCH.elapsed().unwrap().as_secs() as i64 / DAY;
    for back in [20, 17, 14, 1] {
        let from = (today - back) * DAY;
        world
            .run(&format!(
                "CREATE TABLE access_log_b{back} PARTITION OF access_log
                     FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({from} + {DAY}));
                 INSERT INTO access_log VALUES ('github', to_timestamp({from}), 'b{back}', 'w', 0, 0, 1, 1, '');
                 INSERT INTO access_hours VALUES ('github', to_timestamp({from}), 'w', 1000000, 1, 1, 1, 1, 1, 1, 1, 1);
                 INSERT INTO access_keys VALUES ('github', 'k{back}', 'n', NULL, '', to_timestamp({from}))"
            ))
            .await;
    }
    // One of today, for which there is no partition yet.
    world
        .run("INSERT INTO access_log VALUES ('github', now(), 'now', 'w', 0, 0, 1, 1, '')")
        .await;
    let keep = Keep {
        rows: Duration::from_secs(365 * 86_400),
        days: 7,
    };
    tend(&world.pool, keep).await.unwrap();
    for (question, left) in [
        ("SELECT count(*) FROM access_log", 3),
        ("SELECT count(*) FROM access_log_default", 0),
        ("SELECT count(*) FROM access_hours", 2),
        ("SELECT count(*) FROM access_keys", 2),
        // Two of those that were there, today, tomorrow, and the one that the end of the second day lies in; the default one.
        (
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'access_log'::regclass",
            6,
        ),
    ] {
        assert_eq!(world.number(question).await, left, "{question}");
    }
}

#[tokio::test]
async fn what_is_noted_last_is_written_when_there_are_no_more_events() {
    let world = world().await;
    let github = Service::new("github").unwrap();
    let notes = Notes::new(
        Share::ALL,
        std::slice::from_ref(&github),
        AccessMetrics::default(),
    );
    let (tasks, events) = (TaskTracker::new(), TaskTracker::new());
    worker::access::start(&tasks, &events, world.pool.clone(), &notes, "w");
    let event = events.token();
    events.close();
    tasks.close();
    // The last event still runs.
    let access = Access {
        at_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64,
        key: 0,
        actor: None,
        repository: None,
        found: Found::Memory,
        fetch_ms: None,
    };
    notes.note(&github, Digest([7; 32]), access, || None);
    drop(event);
    tokio::time::timeout(Duration::from_secs(30), tasks.wait())
        .await
        .unwrap();
    assert_eq!(
        world.number("SELECT sum(accesses)::bigint FROM access_log").await,
        1
    );
}
