//! Postgres and Redis: gone and back, and there without being of use.

use std::time::Duration;

use crate::chaos::account::Told;
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble};
use crate::fault::postgres::{Crowd, read_only};
use crate::fault::process::signal_family;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "postgres_gone",
            "Postgres is stopped for 30 s (short: 3 s), and back",
            gone,
        ),
        Scenario::new(
            "postgres_killed",
            "SIGKILL of Postgres with `synchronous_commit=on`, and back",
            killed,
        ),
        Scenario::new(
            "postgres_paused",
            "SIGSTOP of Postgres for 30 s (short: 3 s), then SIGCONT",
            paused,
        ),
        Scenario::new(
            "postgres_read_only",
            "every transaction is read-only for 10 s (short: 2 s)",
            refuses_writes,
        ),
        Scenario::new(
            "postgres_out_of_connections",
            "all connections are taken, the workers' too, for 10 s (short: 2 s)",
            crowded,
        ),
        Scenario::new(
            "redis_gone",
            "SIGKILL of Redis for 10 s (short: 2 s), and back with nothing in it",
            redis_gone,
        ),
    ]
}

const SHORT: Duration = Duration::from_secs(3);

async fn gone(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let at = || Trouble::at("Postgres");
    scene.fleet.servers.postgres.stop().await.map_err(at())?;
    scene.lasting(SHORT, Duration::from_secs(30)).await;
    scene.fleet.servers.postgres.restart().await.map_err(at())?;
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn killed(order: Order) -> Result<Told, Trouble> {
    use shared::servers::{Postgres, PostgresOptions, Servers};
    let dir = shared::servers::scratch_dir().map_err(Trouble::at("a directory"))?;
    let mut servers = Servers::start_scratch().await.map_err(Trouble::at("servers"))?;
    let options = PostgresOptions {
        durable: true,
        ..PostgresOptions::new(dir.path().join("postgres"))
    };
    let at = || Trouble::at("Postgres");
    servers.postgres = Postgres::start(options).await.map_err(at())?;
    let mut scene = Scene::on(order, servers, &[], crate::provider::ProviderConfig::default()).await?;
    scene.people().await?;
    scene.load();
    for _ in 0..order.length.of(1, 3) {
        scene.moment().await?;
        scene.fleet.servers.postgres.kill().await.map_err(at())?;
        scene
            .lasting(Duration::from_secs(1), Duration::from_secs(5))
            .await;
        scene.fleet.servers.postgres.restart().await.map_err(at())?;
        scene.mended();
    }
    scene.moment().await?;
    scene.close().await
}

async fn paused(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let pid = scene.fleet.servers.postgres.pid();
    signal_family("STOP", pid).await.map_err(Trouble::at("SIGSTOP"))?;
    scene.lasting(SHORT, Duration::from_secs(30)).await;
    signal_family("CONT", pid).await.map_err(Trouble::at("SIGCONT"))?;
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn refuses_writes(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let url = scene.fleet.servers.postgres.url("weir");
    read_only(&url, true).await.map_err(Trouble::at("read-only"))?;
    scene
        .lasting(Duration::from_secs(2), Duration::from_secs(10))
        .await;
    read_only(&url, false).await.map_err(Trouble::at("writable"))?;
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn crowded(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let url = scene.fleet.servers.postgres.url("weir");
    let crowd = Crowd::gather(&url, "weir-worker")
        .await
        .map_err(Trouble::at("a crowd"))?;
    scene.notes.push(format!("{} connections taken", crowd.len()));
    scene
        .lasting(Duration::from_secs(2), Duration::from_secs(10))
        .await;
    drop(crowd);
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn redis_gone(order: Order) -> Result<Told, Trouble> {
    let settings = [("WEIR_SERVICE_GITHUB_LIMIT", "500 per second, burst 50")];
    let mut scene = Scene::open(order, &settings).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let at = || Trouble::at("Redis");
    scene.fleet.servers.redis.kill().await.map_err(at())?;
    scene
        .lasting(Duration::from_secs(2), Duration::from_secs(10))
        .await;
    scene.fleet.servers.redis.restart().await.map_err(at())?;
    scene.mended();
    scene.moment().await?;
    scene.close().await
}
