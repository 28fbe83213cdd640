//! Messages that come more than once, and messages that do harm.

use std::time::Duration;

use async_nats::HeaderMap;
use rand::{Rng as _, RngCore as _};
use shared::event::{Event, EventId};
use shared::{failpoint, wire};
use tokio::io::AsyncWriteExt as _;

use crate::chaos::account::Told;
use crate::chaos::client::{ALL, Manner};
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble, until};

/// How long a message that does harm may be around.
const BURIED_WITHIN: Duration = Duration::from_secs(60);
/// Most workers that one message may cost.
const MOST_VICTIMS: usize = 8;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "copies_at_once",
            "each delivery is sent three times at the same time, to two replicas of ingest",
            copies_at_once,
        ),
        Scenario::new(
            "copies_after_the_window",
            "each delivery comes again after the server has forgotten it (WEIR_STREAM_DEDUP_WINDOW=1s)",
            copies_later,
        ),
        Scenario::new(
            "poison_undecodable",
            "messages that are no events, among others",
            undecodable,
        ),
        Scenario::new(
            "poison_ends_the_nats_client",
            "a message whose headers end the NATS client, and its worker with it",
            ends_the_client,
        ),
        Scenario::new(
            "poison_ends_its_worker",
            "a message that ends every worker that begins it",
            ends_its_worker,
        ),
    ]
}

async fn copies_at_once(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    scene.load_like(Manner {
        rate: order.length.of(30, 90),
        mix: ALL,
        again: true,
        copies: 3,
        balanced: false,
    });
    for _ in 0..order.length.of(3, 10) {
        scene.moment().await?;
    }
    scene.close().await
}

async fn copies_later(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[("WEIR_STREAM_DEDUP_WINDOW", "1s")]).await?;
    scene.people().await?;
    let ids: Vec<String> = (0..order.length.of(40, 400))
        .map(|n| format!("comment:later:{}:{n}", order.seed))
        .collect();
    for round in 0..3 {
        for id in &ids {
            let data = serde_json::json!({
                "method": "POST", "path": "/repos/octo/hello/issues/7/comments", "body": {"body": id},
            });
            let id = EventId::new(id.as_str()).map_err(Trouble::at("an id"))?;
            let event = Event {
                data: shared::event::Data::json(data.to_string()),
                ..Event::new(id, "call")
            };
            publish(
                &scene,
                "events.github",
                Some(event.id.as_str()),
                wire::encode(&event).into(),
            )
            .await?;
        }
        until(&format!("round {round} done"), BURIED_WITHIN, async || {
            let left = scene.js.get_stream("WEIR_github").await.ok()?;
            (left.cached_info().state.messages == 0).then_some(())
        })
        .await?;
        // The server's window is the scenario's length, not a wait for anything.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    scene.close_with(ids, None).await
}

async fn undecodable(order: Order) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    let mut poison = Vec::new();
    for n in 0..order.length.of(20, 200) {
        let mut bytes = vec![0u8; scene.random.random_range(1..400)];
        scene.random.fill_bytes(&mut bytes);
        // No first byte of a map, in either form.
        bytes[0] = 0xc1;
        let id = format!("poison:{n}");
        let service = ["github", "slack", "http"][n % 3];
        publish(&scene, &format!("events.{service}"), Some(&id), bytes).await?;
        poison.push(id);
    }
    scene.mended();
    scene.moment().await?;
    let count = poison.len() as u64;
    let mut told = scene.close_adding(poison).await?;
    if told.account.dead != count {
        told.problems
            .push(format!("{} of {count} are dead letters", told.account.dead));
    }
    Ok(told)
}

/// The client library cannot live with such a header; the process must not live on without it.
async fn ends_the_client(order: Order) -> Result<Told, Trouble> {
    let settings = [("WEIR_STREAM_MAX_DELIVER", "3"), ("WEIR_STREAM_ACK_WAIT", "1s")];
    let mut scene = Scene::open(order, &settings).await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    let scheduler = scene.member("scheduler", &[]).await?;
    scene.schedulers.push(scheduler);
    let at = || Trouble::at("publishing");
    let address = scene.fleet.servers.nats.url().replace("nats://", "");
    let mut raw = tokio::net::TcpStream::connect(address).await.map_err(at())?;
    let (head, body) = (
        "NATS/1.0\r\nX: a\rb: c\r\n\r\n",
        r#"{"v":1,"type":"t","id":"poison:client"}"#,
    );
    let text = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB events.http {} {}\r\n{head}{body}\r\nPING\r\n",
        head.len(),
        head.len() + body.len()
    );
    raw.write_all(text.as_bytes()).await.map_err(at())?;
    scene.load();
    let mut victims = 0;
    loop {
        let mut worker = scene.launch("worker", &[])?;
        let buried = async {
            until("its letter", BURIED_WITHIN, async || {
                let letters = scene.js.get_stream("WEIR_DEAD").await.ok()?;
                (letters.cached_info().state.messages > 0).then_some(())
            })
            .await
        };
        tokio::select! {
            buried = buried => {
                buried?;
                scene.workers.push(worker);
                break;
            }
            _ = worker.ended(BURIED_WITHIN) => victims += 1,
        }
        if victims > MOST_VICTIMS {
            return Err(Trouble::Failed(format!("{victims} workers died of one message")));
        }
    }
    scene.notes.push(format!("{victims} workers died of it"));
    scene.mended();
    scene.moment().await?;
    let mut told = scene.close_adding(vec!["poison:client".to_owned()]).await?;
    // What was delivered together with it each time was delivered too often as well: the backstop buries it, though a
    // worker may have recorded it just before it died. That is stated, and nothing else may be in two places.
    let stated = told
        .account
        .doubled_ids
        .iter()
        .all(|id| id.ends_with("dead 0 (letters 1), waiting 0"));
    if stated && told.account.doubled > 0 {
        told.problems
            .retain(|problem| !problem.contains("are in two places"));
        told.notes
            .push(format!("{} done events have a letter too", told.account.doubled));
    }
    Ok(told)
}

async fn ends_its_worker(order: Order) -> Result<Told, Trouble> {
    if !failpoint::ENABLED {
        return Err(Trouble::Unplayable("built without failpoints".to_owned()));
    }
    let mut scene = Scene::open(order, &[("WEIR_STREAM_ACK_WAIT", "1s")]).await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    let scheduler = scene.member("scheduler", &[]).await?;
    scene.schedulers.push(scheduler);
    let event = Event::new(
        EventId::new("hook:lethal").map_err(Trouble::at("an id"))?,
        "order.paid",
    );
    publish(
        &scene,
        "events.http",
        Some("hook:lethal"),
        wire::encode(&event).into(),
    )
    .await?;
    let mut victims = 0;
    loop {
        // It is the only message there is, so whoever begins one begins this one.
        let mut worker = scene.launch("worker", &[(failpoint::SETTING, "worker.intended:1")])?;
        let gone = async {
            until("the message off its stream", BURIED_WITHIN, async || {
                let left = scene.js.get_stream("WEIR_http").await.ok()?;
                (left.cached_info().state.messages == 0).then_some(())
            })
            .await
        };
        tokio::select! {
            gone = gone => { gone?; break }
            _ = worker.ended(BURIED_WITHIN) => victims += 1,
        }
        if victims > MOST_VICTIMS {
            return Err(Trouble::Failed(format!("{victims} workers died of one message")));
        }
    }
    scene.notes.push(format!("{victims} workers died of it"));
    for _ in 0..2 {
        let worker = scene.member("worker", &[]).await?;
        scene.workers.push(worker);
    }
    scene.mended();
    scene.load();
    scene.moment().await?;
    scene.close_adding(vec!["hook:lethal".to_owned()]).await
}

/// Publishes as any client of NATS would, and waits for the acknowledgement.
async fn publish(scene: &Scene, subject: &str, id: Option<&str>, bytes: Vec<u8>) -> Result<(), Trouble> {
    let mut headers = HeaderMap::new();
    if let Some(id) = id {
        headers.insert("Nats-Msg-Id", id);
    }
    let at = || Trouble::at("publishing");
    let kept = scene
        .js
        .publish_with_headers(subject.to_owned(), headers, bytes.into())
        .await;
    kept.map_err(at())?.await.map_err(at())?;
    Ok(())
}
