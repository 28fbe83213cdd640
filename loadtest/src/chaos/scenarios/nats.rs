//! NATS: killed and back, and a cluster of three that loses its leaders.

use std::time::Duration;

use shared::servers::{NatsCluster, Servers, scratch_dir};

use crate::chaos::account::Told;
use crate::chaos::client::{ALL, Manner};
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble};
use crate::provider::ProviderConfig;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("nats_killed", "SIGKILL of the only NATS server, and back", killed),
        Scenario::new(
            "nats_leader_killed",
            "three NATS servers: SIGKILL of the leader of a stream, and back",
            leader_killed,
        ),
        Scenario::new(
            "nats_leaders_step_down",
            "three NATS servers: the leaders of all streams step down, again and again",
            step_downs,
        ),
        Scenario::new(
            "nats_rolling_restart",
            "three NATS servers: each is stopped and started",
            rolling,
        ),
        Scenario::new(
            "copies_at_once_in_a_cluster",
            "three NATS servers, each delivery sent three times at the same time, leaders step down",
            copies,
        ),
    ]
}

async fn killed(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    for _ in 0..order.length.of(1, 3) {
        scene.moment().await?;
        let nats = &mut scene.fleet.servers.nats;
        nats.kill().await.map_err(Trouble::at("killing NATS"))?;
        scene
            .lasting(Duration::from_secs(1), Duration::from_secs(10))
            .await;
        let nats = &mut scene.fleet.servers.nats;
        nats.restart().await.map_err(Trouble::at("starting NATS"))?;
        scene.mended();
    }
    scene.moment().await?;
    scene.close().await
}

/// A fleet on three servers. They end after the scene.
pub(super) async fn cluster(
    order: Order,
    settings: &[(&str, &str)],
) -> Result<(Scene, NatsCluster, tempfile::TempDir), Trouble> {
    let dir = scratch_dir().map_err(Trouble::at("a directory"))?;
    let cluster = NatsCluster::start(dir.path())
        .await
        .map_err(Trouble::at("NATS"))?;
    let servers = Servers::start_scratch().await.map_err(Trouble::at("servers"))?;
    let urls = cluster.urls();
    let own = [("WEIR_NATS_URL", urls.as_str()), ("WEIR_STREAM_REPLICAS", "3")];
    let all: Vec<(&str, &str)> = own.into_iter().chain(settings.iter().copied()).collect();
    let mut scene = Scene::on(order, servers, &all, ProviderConfig::default()).await?;
    scene.people().await?;
    Ok((scene, cluster, dir))
}

async fn leader_killed(order: Order) -> Result<Told, Trouble> {
    let (mut scene, mut cluster, _dir) = cluster(order, &[]).await?;
    scene.load();
    for stream in ["WEIR_github", "WEIR_http", "WEIR_RETRY"]
        .into_iter()
        .take(order.length.of(1, 3))
    {
        scene.moment().await?;
        let leader = cluster.leader(stream).await.map_err(Trouble::at(stream))?;
        cluster.nodes[leader]
            .kill()
            .await
            .map_err(Trouble::at("killing NATS"))?;
        // The others go on without it.
        scene.mended();
        scene.moment().await?;
        cluster.nodes[leader]
            .restart()
            .await
            .map_err(Trouble::at("starting NATS"))?;
        cluster.in_step(stream).await.map_err(Trouble::at(stream))?;
    }
    scene.close().await
}

async fn step_downs(order: Order) -> Result<Told, Trouble> {
    let (mut scene, cluster, _dir) = cluster(order, &[]).await?;
    scene.load();
    for _ in 0..order.length.of(1, 4) {
        for stream in [
            "WEIR_github",
            "WEIR_slack",
            "WEIR_http",
            "WEIR_RETRY",
            "WEIR_DEAD",
        ] {
            cluster.step_down(stream).await.map_err(Trouble::at(stream))?;
        }
        scene.moment().await?;
    }
    scene.mended();
    scene.close().await
}

async fn rolling(order: Order) -> Result<Told, Trouble> {
    let (mut scene, mut cluster, _dir) = cluster(order, &[]).await?;
    scene.load();
    for which in 0..cluster.nodes.len() {
        scene.moment().await?;
        cluster.nodes[which]
            .restart()
            .await
            .map_err(Trouble::at("restarting NATS"))?;
        for stream in ["WEIR_github", "WEIR_slack", "WEIR_http", "WEIR_RETRY"] {
            cluster.in_step(stream).await.map_err(Trouble::at(stream))?;
        }
    }
    scene.mended();
    scene.close().await
}

async fn copies(order: Order) -> Result<Told, Trouble> {
    let (mut scene, cluster, _dir) = cluster(order, &[]).await?;
    scene.load_like(Manner {
        rate: order.length.of(30, 60),
        mix: ALL,
        again: true,
        copies: 3,
        balanced: false,
    });
    for stream in ["WEIR_github", "WEIR_http"] {
        scene.moment().await?;
        cluster.step_down(stream).await.map_err(Trouble::at(stream))?;
    }
    scene.mended();
    scene.moment().await?;
    scene.close().await
}
