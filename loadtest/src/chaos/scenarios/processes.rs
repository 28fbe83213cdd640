//! Processes that stand still, and processes that are replaced one after another.

use std::time::Duration;

use rand::Rng as _;

use crate::chaos::account::Told;
use crate::chaos::client::{ALL, Manner};
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble};
use crate::fault::process::signal;

/// How long a member may take from SIGTERM to its end.
const STOPPED_WITHIN: Duration = Duration::from_secs(40);

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "worker_killed",
            "SIGKILL of a worker at any moment, one after another",
            worker_killed,
        ),
        Scenario::new(
            "worker_paused",
            "SIGSTOP of a worker for longer than the ack wait, then SIGCONT",
            worker_paused,
        ),
        Scenario::new(
            "ingest_paused",
            "SIGSTOP of ingest, then SIGCONT: what was under way is answered late",
            ingest_paused,
        ),
        Scenario::new(
            "rolling_restart",
            "two replicas of each, SIGTERM one after another; the client, behind a balancer, sends nothing again",
            rolling_restart,
        ),
    ]
}

async fn worker_killed(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    for _ in 0..order.length.of(2, 6) {
        scene.moment().await?;
        let which = scene.random.random_range(0..scene.workers.len());
        let mut victim = scene.workers.swap_remove(which);
        victim.kill().await.map_err(Trouble::at("killing"))?;
        scene.mended();
        let heir = scene.member("worker", &[]).await?;
        scene.workers.push(heir);
    }
    scene.close().await
}

async fn worker_paused(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let pid = scene.workers[0].pid();
    signal("STOP", pid).await.map_err(Trouble::at("SIGSTOP"))?;
    scene
        .lasting(Duration::from_secs(4), Duration::from_secs(15))
        .await;
    signal("CONT", pid).await.map_err(Trouble::at("SIGCONT"))?;
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn ingest_paused(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let pid = scene.ingest[0].pid();
    signal("STOP", pid).await.map_err(Trouble::at("SIGSTOP"))?;
    scene
        .lasting(Duration::from_secs(3), Duration::from_secs(15))
        .await;
    signal("CONT", pid).await.map_err(Trouble::at("SIGCONT"))?;
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn rolling_restart(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    let scheduler = scene.member("scheduler", &[]).await?;
    scene.schedulers.push(scheduler);
    scene.load_like(Manner {
        rate: order.length.of(45, 90),
        mix: ALL,
        again: false,
        copies: 1,
        balanced: true,
    });
    for _ in 0..order.length.of(1, 3) {
        for service in ["ingest", "worker", "scheduler"] {
            for which in 0..2 {
                scene.moment().await?;
                replace(&mut scene, service, which).await?;
            }
        }
    }
    scene.mended();
    scene.moment().await?;
    let traffic = scene.client()?.traffic();
    let wrong: Vec<_> = traffic
        .answers
        .iter()
        .filter(|(answer, _)| *answer != "202")
        .collect();
    if !wrong.is_empty() {
        let told = format!("the client saw {wrong:?}, such as {:#?}", traffic.examples);
        scene.problems.push(told);
    }
    scene
        .notes
        .push(format!("slowest answer {} ms", traffic.slowest.as_millis()));
    scene.close().await
}

/// Stops one replica and starts another in its place.
async fn replace(scene: &mut Scene, service: &str, which: usize) -> Result<(), Trouble> {
    let members = match service {
        "ingest" => &mut scene.ingest,
        "worker" => &mut scene.workers,
        _ => &mut scene.schedulers,
    };
    let mut old = members.remove(which.min(members.len() - 1));
    let ended = old.stop(STOPPED_WITHIN).await.map_err(Trouble::at("stopping"))?;
    if ended != Some(0) {
        scene
            .problems
            .push(format!("{} ended with {ended:?} after SIGTERM", old.name));
    }
    let new = scene.member(service, &[]).await?;
    match service {
        "ingest" => {
            // In front, so that the next one stopped is the other old one.
            scene.ingest.insert(0, new);
            scene.doors()?;
            scene.client()?.all_ready().await?;
        }
        "worker" => scene.workers.insert(0, new),
        _ => scene.schedulers.insert(0, new),
    }
    Ok(())
}
