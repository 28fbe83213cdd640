//! Each process dies at each boundary of its stages, and is started again.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt as _;
use rand::Rng as _;
use shared::event::{Event, EventId};
use shared::{failpoint, wire};
use tokio::time::Instant;

use crate::chaos::account::Told;
use crate::chaos::client::{ALL, Kind, Manner};
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble, until};
use crate::provider::Faults;

/// Messages that the scheduler has to bury.
const TO_BURY: u64 = 5;
/// How long it may take until they are.
const BURIED_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn all() -> Vec<Scenario> {
    let scenario = |point: &'static str| {
        let name = format!("killed_at_{}", point.replace('.', "_"));
        let (process, stage) = point.split_once('.').unwrap_or((point, ""));
        let what = format!("{process} dies at `{stage}`, at a time that the seed decides");
        Scenario::new(name, what, move |order| killed(order, point))
    };
    failpoint::ALL.into_iter().map(scenario).collect()
}

async fn killed(order: Order, point: &'static str) -> Result<Told, Trouble> {
    if !failpoint::ENABLED {
        let how =
            "this program is built without failpoints: build everything with --features shared/failpoints";
        return Err(Trouble::Unplayable(how.to_owned()));
    }
    match point.split_once('.') {
        Some(("ingest", _)) => ingest(order, point).await,
        Some(("worker", _)) => worker(order, point).await,
        Some(("scheduler", _)) => scheduler(order, point).await,
        _ => Err(Trouble::Failed(format!("nobody knows what {point} is of"))),
    }
}

async fn ingest(order: Order, point: &'static str) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    let large = point == "ingest.stored";
    let at = scene.random.random_range(1..=if large { 3 } else { 60 });
    let armed = format!("{point}:{at}");
    let mut doomed = scene.member("ingest", &[(failpoint::SETTING, &armed)]).await?;
    let url = doomed.url.clone();
    for _ in 0..2 {
        let worker = scene.member("worker", &[]).await?;
        scene.workers.push(worker);
    }
    let manner = Manner {
        rate: order.length.of(45, 90),
        mix: if large {
            &[Kind::Large, Kind::Hook, Kind::Comment]
        } else {
            ALL
        },
        again: true,
        copies: 1,
        balanced: false,
    };
    let manner = if large {
        Manner { rate: 6, ..manner }
    } else {
        manner
    };
    scene.load_at(manner, &[url]);
    scene.death(&mut doomed, point).await?;
    scene.mended();
    let heir = scene.member("ingest", &[]).await?;
    scene.ingest.push(heir);
    scene.doors()?;
    scene.moment().await?;
    scene.close().await
}

async fn worker(order: Order, point: &'static str) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    let (most, mix): (u32, &[Kind]) = match point {
        "worker.scheduled" => {
            let faults = Faults {
                errors: 0.3,
                ..Faults::default()
            };
            scene.provider.set_faults(faults).map_err(Trouble::at("faults"))?;
            (8, ALL)
        }
        "worker.buried" => (8, &[Kind::Comment, Kind::Wrong, Kind::Message, Kind::Hook]),
        _ => (60, ALL),
    };
    let armed = format!("{point}:{}", scene.random.random_range(1..=most));
    let mut doomed = scene.member("worker", &[(failpoint::SETTING, &armed)]).await?;
    scene.load_like(Manner {
        rate: order.length.of(45, 90),
        mix,
        again: true,
        copies: 1,
        balanced: false,
    });
    scene.death(&mut doomed, point).await?;
    scene
        .provider
        .set_faults(Faults::default())
        .map_err(Trouble::at("faults"))?;
    scene.mended();
    for _ in 0..2 {
        let heir = scene.member("worker", &[]).await?;
        scene.workers.push(heir);
    }
    scene.moment().await?;
    scene.close().await
}

/// Messages that were delivered too often; no worker runs.
async fn scheduler(order: Order, point: &'static str) -> Result<Told, Trouble> {
    let settings = [("WEIR_STREAM_MAX_DELIVER", "2"), ("WEIR_STREAM_ACK_WAIT", "1s")];
    let mut scene = Scene::open(order, &settings).await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    let mut published = Vec::new();
    for _ in 0..TO_BURY {
        let event = Event::new(EventId::generate(), "order.paid");
        published.push(event.id.as_str().to_owned());
        let kept = scene.js.publish("events.http", wire::encode(&event)).await;
        kept.map_err(Trouble::at("publishing"))?
            .await
            .map_err(Trouble::at("publishing"))?;
    }
    exhaust(&scene).await?;
    let armed = format!("{point}:{}", scene.random.random_range(1..=TO_BURY));
    let mut doomed = scene.launch("scheduler", &[(failpoint::SETTING, &armed)])?;
    scene.death(&mut doomed, point).await?;
    let died = Instant::now();
    let heir = scene.member("scheduler", &[]).await?;
    scene.schedulers.push(heir);
    until("everything buried", BURIED_WITHIN, async || {
        let left = scene.js.get_stream("WEIR_http").await.ok()?;
        (left.cached_info().state.messages == 0).then_some(())
    })
    .await?;
    let buried = died.elapsed();
    // It finds nothing to do, and the account needs its tables.
    let worker = scene.member("worker", &[]).await?;
    scene.workers.push(worker);
    scene.close_with(published, Some(buried)).await
}

/// Takes every message as often as it may be delivered, and hands it back.
async fn exhaust(scene: &Scene) -> Result<(), Trouble> {
    let normal: PullConsumer = scene
        .js
        .get_consumer_from_stream("normal", "WEIR_http")
        .await
        .map_err(Trouble::at("the consumer"))?;
    until("messages delivered too often", BURIED_WITHIN, async || {
        let batch = normal
            .fetch()
            .max_messages(TO_BURY as usize)
            .expires(Duration::from_millis(500));
        let mut batch = batch.messages().await.ok()?;
        while let Some(Ok(message)) = batch.next().await {
            message.ack_with(AckKind::Nak(None)).await.ok()?;
        }
        let told = scene.js.get_stream("WEIR_EXHAUSTED").await.ok()?;
        (told.cached_info().state.messages >= TO_BURY).then_some(())
    })
    .await
}
