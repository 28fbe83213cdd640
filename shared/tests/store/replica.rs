//! Questions go to a replica as long as it keeps up.

use std::time::Duration;

use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::metrics::Metrics;
use shared::store::reads::{Reads, Standing};
use shared::store::settings::Settings;
use sqlx::PgPool;

use crate::world::{World, migrated, size};

struct Pair {
    world: World,
    standby: Postgres,
    reads: Reads,
    _dir: tempfile::TempDir,
}

async fn pair() -> Pair {
    let world = migrated().await;
    let dir = scratch_dir().unwrap();
    let standby = world
        .server
        .standby(PostgresOptions::new(dir.path()))
        .await
        .unwrap();
    let settings = Settings {
        read_url: Some(standby.url("weir")),
        lag: Duration::from_secs(2),
        ..Settings::default()
    };
    let url = world.server.url("weir");
    let reads = Reads::open(&url, &settings, size(8), "test", Metrics::default()).unwrap();
    Pair {
        world,
        standby,
        reads,
        _dir: dir,
    }
}

impl Pair {
    /// Whether a question is answered by the replica.
    async fn by_replica(&self) -> bool {
        let ask = async |pool: PgPool| {
            sqlx::query_scalar("SELECT pg_is_in_recovery()")
                .fetch_one(&pool)
                .await
        };
        self.reads.ask(ask).await.unwrap()
    }

    async fn until(&self, what: &str, stands: fn(&Standing) -> bool) -> Standing {
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let standing = self.reads.look().await.unwrap();
            if stands(&standing) {
                return standing;
            }
            assert!(tokio::time::Instant::now() < end, "never {what}: {standing:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn write(&self) {
        self.world
            .run("INSERT INTO suspects VALUES ('github', 1, 1, now()) ON CONFLICT (service, sequence) DO UPDATE
                  SET starts = suspects.starts + 1, at = now()")
            .await
            .unwrap();
    }

    async fn on_standby(&self, statement: &'static str) {
        sqlx::query(statement)
            .execute(&PgPool::connect(&self.standby.url("postgres")).await.unwrap())
            .await
            .unwrap();
    }
}

fn current(standing: &Standing) -> bool {
    matches!(standing, Standing::Current(_))
}

fn behind(standing: &Standing) -> bool {
    matches!(standing, Standing::Behind(_))
}

fn gone(standing: &Standing) -> bool {
    matches!(standing, Standing::Gone(_))
}

#[tokio::test]
async fn a_replica_is_used_while_it_keeps_up_and_left_alone_while_it_is_behind() {
    let pair = pair().await;
    assert_eq!(pair.reads.standing(), Some(Standing::New));
    assert!(!pair.by_replica().await, "nobody has looked yet");
    pair.write().await;
    pair.until("current", current).await;
    assert!(pair.by_replica().await);
    // A primary at rest is no lag, however long: all there is has been replayed.
    let rest = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < rest {
        let standing = pair.reads.look().await.unwrap();
        assert!(current(&standing), "{standing:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    pair.on_standby("SELECT pg_wal_replay_pause()").await;
    pair.write().await;
    let late = pair.until("behind", behind).await;
    assert!(
        matches!(late, Standing::Behind(Some(lag)) if lag > Duration::from_secs(2)),
        "{late:?}"
    );
    assert!(!pair.by_replica().await);
    let seen: i64 = pair
        .reads
        .ask(async |pool| {
            sqlx::query_scalar("SELECT starts::bigint FROM suspects")
                .fetch_one(&pool)
                .await
        })
        .await
        .unwrap();
    assert_eq!(seen, 2, "what was written last");
    pair.on_standby("SELECT pg_wal_replay_resume()").await;
    pair.until("current again", current).await;
    assert!(pair.by_replica().await);
}

#[tokio::test]
async fn a_replica_that_dies_costs_no_answer_and_is_taken_back_by_itself() {
    let mut pair = pair().await;
    pair.until("current", current).await;
    let watching = tokio::spawn(pair.reads.clone().watch());
    assert!(pair.by_replica().await);
    pair.standby.kill().await.unwrap();
    // It counts as current still: the question itself finds out.
    assert!(!pair.by_replica().await);
    assert!(gone(&pair.reads.standing().unwrap()));
    pair.standby.restart().await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(90);
    while !pair.by_replica().await {
        assert!(tokio::time::Instant::now() < end, "{:?}", pair.reads.standing());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    watching.abort();
}

#[tokio::test]
async fn what_takes_writes_is_no_replica() {
    let pair = pair().await;
    pair.until("current", current).await;
    pair.on_standby("SELECT pg_promote()").await;
    let no = |standing: &Standing| matches!(standing, Standing::NoReplica(_));
    pair.until("no replica", no).await;
    assert!(!pair.by_replica().await);

    let other = migrated().await;
    let settings = Settings {
        read_url: Some(other.server.url("weir")),
        ..Settings::default()
    };
    let url = pair.world.server.url("weir");
    let reads = Reads::open(&url, &settings, size(4), "test", Metrics::default()).unwrap();
    assert!(no(&reads.look().await.unwrap()), "another server");
}

#[tokio::test]
async fn a_replica_that_was_never_there_is_no_error() {
    let world = migrated().await;
    let settings = Settings {
        read_url: Some("postgres://weir@127.0.0.1:1/weir".into()),
        ..Settings::default()
    };
    let url = world.server.url("weir");
    let reads = Reads::open(&url, &settings, size(4), "test", Metrics::default()).unwrap();
    assert!(gone(&reads.look().await.unwrap()));
    let one: i32 = reads
        .ask(async |pool| sqlx::query_scalar("SELECT 1").fetch_one(&pool).await)
        .await
        .unwrap();
    assert_eq!(one, 1);
    let settings = Settings {
        read_url: Some("postgres://[".into()),
        ..Settings::default()
    };
    assert!(Reads::open(&url, &settings, size(4), "test", Metrics::default()).is_err());
}
