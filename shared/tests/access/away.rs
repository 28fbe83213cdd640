//! Postgres away, slow, or of another mind.

use std::time::Duration;

use loadtest::fault::proxy::{Mode, Proxy};
use shared::access::{Found, Share};
use shared::store::pool;
use shared::store::settings::Settings;
use tokio::time::Instant;

use crate::world::{SIZE, Worker, access, all, now_ms, world};

/// A worker whose connections go over a proxy, and that waits a second for one.
async fn behind(port: u16) -> (Proxy, Worker) {
    let proxy = Proxy::start(port).await.unwrap();
    let url = format!("postgres://weir@127.0.0.1:{}/weir", proxy.address.port());
    let settings = Settings {
        acquire_timeout: Duration::from_secs(1),
        ..Settings::default()
    };
    let pool = pool::write(&url, &settings, SIZE, "test").unwrap();
    (proxy, Worker::over(pool, "one", Share::ALL))
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later_and_once() {
    let world = world().await;
    let (proxy, mut worker) = behind(world.server.port()).await;
    worker.note("/a", access("/a", Found::Nowhere));
    worker.writer.flush().await;
    for mode in [Mode::Refuse, Mode::Drop] {
        proxy.mode(mode);
        let start = Instant::now();
        for name in ["/b", "/c"] {
            worker.note(name, access(name, Found::Nowhere));
            worker.writer.flush().await;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        assert_eq!(all(&mut world.since(0)).await.len(), 1);
        proxy.heal();
        proxy.cut();
        while all(&mut world.since(0)).await.len() < 3 {
            worker.writer.flush().await;
        }
        worker.writer.flush().await;
        assert_eq!(all(&mut world.since(0)).await.len(), 3);
        world
            .run("DELETE FROM access_log WHERE from_ms > (SELECT min(from_ms) FROM access_log)")
            .await;
    }
    assert_eq!(
        world
            .number("SELECT sum(nowhere)::bigint FROM access_hours")
            .await,
        5
    );
    assert_eq!(worker.dropped("away"), 0);
}

#[tokio::test]
async fn what_waits_is_bounded_and_what_is_dropped_is_counted() {
    let world = world().await;
    let (proxy, mut worker) = behind(world.server.port()).await;
    proxy.mode(Mode::Refuse);
    let mut noted = 0;
    // Ids that do not compress: about 24 bytes an access.
    while worker.dropped("away") == 0 {
        for _ in 0..60_000_u64 {
            noted += 1;
            let name = "/a";
            let mut access = access(name, Found::Memory);
            access.actor = Some(
                access
                    .at_ms
                    .wrapping_mul(noted)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15),
            );
            access.repository = access.actor.map(|id| id.rotate_left(23).wrapping_mul(noted));
            worker.note(name, access);
        }
        assert!(noted < 2_000_000, "nothing is dropped");
        worker.writer.flush().await;
    }
    proxy.heal();
    worker.writer.flush().await;
    let written = all(&mut world.since(0)).await.len() as u64;
    assert_eq!(written + worker.dropped("away"), noted);
    assert!(written > 100_000, "{written}");
    // The key whose row was dropped is told again.
    assert_eq!(world.number("SELECT count(*) FROM access_keys").await, 0);
    worker.note("/a", access("/a", Found::Memory));
    worker.writer.flush().await;
    assert_eq!(world.number("SELECT count(*) FROM access_keys").await, 1);
}

#[tokio::test]
async fn times_that_cannot_be_are_dropped() {
    let world = world().await;
    let mut worker = world.worker("one", Share::ALL);
    for at_ms in [
        0,
        1,
        now_ms() - 600_000,
        now_ms() + 600_000,
        u64::MAX / 2,
        u64::MAX,
    ] {
        let access = shared::access::Access {
            at_ms,
            ..access("/a", Found::Memory)
        };
        worker.note("/a", access);
    }
    worker.note("/a", access("/a", Found::Memory));
    worker.writer.flush().await;
    assert_eq!(worker.dropped("time"), 6);
    assert_eq!(all(&mut world.since(0)).await.len(), 1);
}

#[tokio::test]
async fn a_row_that_postgres_refuses_holds_nothing_up() {
    let world = world().await;
    let mut worker = world.worker("one", Share::ALL);
    world
        .run("ALTER TABLE access_hours ADD CONSTRAINT odd EXCLUDE (worker WITH =) WHERE (memory = 1)")
        .await;
    worker.note("/a", access("/a", Found::Memory));
    worker.writer.flush().await;
    let mut other = world.worker("one", "99%".parse().unwrap());
    for name in ["/a", "/b", "/c"] {
        other.note(name, access(name, Found::Memory));
        other.writer.flush().await;
    }
    assert!(other.dropped("refused") > 0);
    world.run("ALTER TABLE access_hours DROP CONSTRAINT odd").await;
    other.note("/d", access("/d", Found::Memory));
    other.writer.flush().await;
    assert_eq!(
        other.dropped("refused") + all(&mut world.since(0)).await.len() as u64,
        5
    );
}
