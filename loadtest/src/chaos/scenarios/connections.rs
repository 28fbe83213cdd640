//! The way between a worker and its servers: black holes, cuts, half-closed and slow connections.

use std::time::Duration;

use rand::Rng as _;

use crate::chaos::account::Told;
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble};
use crate::fault::proxy::{Link, Mode, Proxy};

/// Which connections.
#[derive(Clone, Copy)]
enum To {
    Nats,
    Redis,
    Postgres,
}

pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, to) in [
        ("nats", To::Nats),
        ("redis", To::Redis),
        ("postgres", To::Postgres),
    ] {
        all.push(Scenario::new(
            format!("partition_from_{name}"),
            format!("all workers lose {name}: a black hole of 10 s (short: 3 s)"),
            move |order| partition(order, to),
        ));
    }
    for (name, to) in [
        ("nats", To::Nats),
        ("redis", To::Redis),
        ("postgres", To::Postgres),
    ] {
        all.push(Scenario::new(
            format!("bad_way_to_{name}"),
            format!("connections of workers to {name} are cut, half-closed, slow and late"),
            move |order| bad_way(order, to),
        ));
    }
    all
}

fn proxy(scene: &Scene, to: To) -> &Proxy {
    match to {
        To::Nats => &scene.nats,
        To::Redis => &scene.redis,
        To::Postgres => &scene.postgres,
    }
}

/// A limit, so that Redis is asked.
const LIMITED: [(&str, &str); 1] = [("WEIR_SERVICE_GITHUB_LIMIT", "500 per second, burst 50")];

async fn partition(order: Order, to: To) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &LIMITED).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    proxy(&scene, to).mode(Mode::Drop);
    scene
        .lasting(Duration::from_secs(3), Duration::from_secs(10))
        .await;
    proxy(&scene, to).heal();
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn bad_way(order: Order, to: To) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &LIMITED).await?;
    scene.people().await?;
    scene.load();
    for _ in 0..order.length.of(1, 3) {
        scene.moment().await?;
        proxy(&scene, to).cut();
        scene.moment().await?;
        proxy(&scene, to).half_close();
        scene.moment().await?;
        let delay = Duration::from_millis(scene.random.random_range(5..80));
        proxy(&scene, to).set(Link {
            delay,
            bytes_per_second: Some(50_000),
            mode: Mode::Pass,
        });
        scene.moment().await?;
        proxy(&scene, to).mode(Mode::Hold);
        scene
            .lasting(Duration::from_secs(1), Duration::from_secs(5))
            .await;
        proxy(&scene, to).heal();
    }
    scene.mended();
    scene.moment().await?;
    scene.close().await
}
