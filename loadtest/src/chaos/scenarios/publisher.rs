//! What a client is told while NATS is in trouble: a 202 that holds, or when to come again.

use std::time::Duration;

use crate::chaos::account::Told;
use crate::chaos::client::{ALL, Kind, Manner};
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble, until};
use crate::fault::proxy::Mode;

/// How long it may take until the first refusal.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "publisher_leader_election",
            "three NATS servers, leaders killed; the client sends nothing again: 202, or 503 with Retry-After",
            leader_election,
        ),
        Scenario::new(
            "publisher_connection_lost",
            "ingest loses NATS: a black hole of 10 s (short: 4 s); the client sends nothing again",
            connection_lost,
        ),
        Scenario::new(
            "publisher_stream_full",
            "a stream is full (WEIR_STREAM_MAX_MESSAGES), then worked off; refused events are sent again",
            stream_full,
        ),
    ]
}

fn once(order: Order) -> Manner {
    Manner {
        rate: order.length.of(45, 90),
        mix: ALL,
        again: false,
        copies: 1,
        balanced: false,
    }
}

/// Tells what the client was answered, and objects to anything but 202 and 503.
fn answers(scene: &mut Scene) -> Result<(), Trouble> {
    let traffic = scene.client()?.traffic();
    let told: Vec<String> = traffic
        .answers
        .iter()
        .map(|(answer, count)| format!("{count} × {answer}"))
        .collect();
    let slowest = traffic.slowest.as_millis();
    scene.notes.push(format!(
        "{}; slowest answer {slowest} ms of 3000 ms patience",
        told.join(", ")
    ));
    let others: Vec<_> = traffic
        .answers
        .keys()
        .filter(|answer| !["202", "503"].contains(&answer.as_str()))
        .collect();
    if !others.is_empty() {
        let told = format!("the client saw {others:?}, such as {:#?}", traffic.examples);
        scene.problems.push(told);
    }
    Ok(())
}

async fn leader_election(order: Order) -> Result<Told, Trouble> {
    let (mut scene, mut cluster, _dir) = super::nats::cluster(order, &[]).await?;
    scene.load_like(once(order));
    for stream in ["WEIR_github", "WEIR_slack", "WEIR_http"]
        .into_iter()
        .take(order.length.of(1, 3))
    {
        scene.moment().await?;
        let leader = cluster.leader(stream).await.map_err(Trouble::at(stream))?;
        cluster.nodes[leader]
            .kill()
            .await
            .map_err(Trouble::at("killing NATS"))?;
        scene.mended();
        scene.moment().await?;
        cluster.nodes[leader]
            .restart()
            .await
            .map_err(Trouble::at("starting NATS"))?;
        cluster.in_step(stream).await.map_err(Trouble::at(stream))?;
    }
    answers(&mut scene)?;
    scene.close().await
}

async fn connection_lost(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    let nats = format!("nats://{}", scene.nats.address);
    let ingest = scene.member("ingest", &[("WEIR_NATS_URL", &nats)]).await?;
    scene.ingest.push(ingest);
    let direct = scene.fleet.servers.nats.url();
    let worker = scene.member("worker", &[("WEIR_NATS_URL", &direct)]).await?;
    scene.workers.push(worker);
    scene.load_like(once(order));
    scene.moment().await?;
    scene.nats.mode(Mode::Drop);
    until("a refusal", REFUSED_WITHIN, async || {
        let answers = scene.client().ok()?.traffic().answers;
        answers.contains_key("503").then_some(())
    })
    .await?;
    scene
        .lasting(Duration::from_millis(500), Duration::from_secs(7))
        .await;
    scene.nats.heal();
    scene.mended();
    scene.moment().await?;
    answers(&mut scene)?;
    scene.close().await
}

async fn stream_full(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[("WEIR_STREAM_MAX_MESSAGES", "60")]).await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    scene.load_like(Manner {
        mix: &[Kind::Comment],
        again: true,
        ..once(order)
    });
    until("a refusal", REFUSED_WITHIN, async || {
        let answers = scene.client().ok()?.traffic().answers;
        (answers.get("503").copied().unwrap_or(0) >= 5).then_some(())
    })
    .await?;
    let worker = scene.member("worker", &[]).await?;
    scene.workers.push(worker);
    scene.mended();
    scene.moment().await?;
    answers(&mut scene)?;
    scene.close().await
}
