//! Full disks.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use shared::servers::{Nats, NatsOptions, Postgres, PostgresOptions, Servers};
use shared::subject::Lane;
use tokio::time::timeout;

use crate::chaos::account::Told;
use crate::chaos::client::{Kind, Manner};
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble, until};
use crate::fault::disk::SmallDisk;
use crate::provider::ProviderConfig;

/// Size of the disk under NATS, in MiB.
const NATS_MIB: u32 = 64;
/// Size of the disk under Postgres, in MiB: an empty cluster has 40, and a segment of its log 16.
const POSTGRES_MIB: u32 = 160;
/// How long the fleet may take to work off what is left.
const IDLE_WITHIN: Duration = Duration::from_secs(120);
/// How long JetStream may take to answer before its server is started again, as an operator would.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "nats_disk_full",
            "the disk under NATS is full for 10 s (short: 3 s); then there is room again",
            nats_full,
        ),
        Scenario::new(
            "postgres_disk_full",
            "the disk under Postgres is full for 10 s (short: 3 s); then there is room again",
            postgres_full,
        ),
    ]
}

async fn nats_full(order: Order) -> Result<Told, Trouble> {
    let mut servers = Servers::start_scratch().await.map_err(Trouble::at("servers"))?;
    let disk = match SmallDisk::mount(NATS_MIB) {
        Ok(disk) => disk,
        Err(error) => return nats_limited(order, servers, &error.to_string()).await,
    };
    let options = NatsOptions {
        // More than there is, so that it is the disk that says no.
        max_file_store: Some(1 << 40),
        ..NatsOptions::new(disk.path().join("nats"))
    };
    servers.nats = Nats::start(options).await.map_err(Trouble::at("NATS"))?;
    let mut scene = Scene::on(order, servers, &[], ProviderConfig::default()).await?;
    scene.notes.push(format!("a tmpfs of {NATS_MIB} MiB"));
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    disk.fill().map_err(Trouble::at("filling the disk"))?;
    scene
        .lasting(Duration::from_secs(3), Duration::from_secs(10))
        .await;
    disk.free().map_err(Trouble::at("freeing the disk"))?;
    scene.mended();
    revive(&mut scene).await?;
    scene.moment().await?;
    scene.quiet().await?;
    sweep(&mut scene).await?;
    let told = scene.close().await;
    drop(disk);
    told
}

/// A message that was acked while the server could not write its deletion is there again after the server's start,
/// and no consumer has it any more: it is delivered to nobody and takes up its place. Seen with nats-server 2.15.1. It
/// is told, and taken away so that the account is about the rest; an event that is not done would be lost by it.
async fn sweep(scene: &mut Scene) -> Result<(), Trouble> {
    let mut stranded = 0;
    for name in ["WEIR_github", "WEIR_slack", "WEIR_http"] {
        let at = || Trouble::at(name);
        let stream = until("an idle stream", IDLE_WITHIN, async || {
            let stream = scene.js.get_stream(name).await.ok()?;
            let mut open = 0;
            for lane in Lane::ALL {
                let consumer: PullConsumer = stream.get_consumer(lane.as_str()).await.ok()?;
                let info = consumer.cached_info();
                open += info.num_pending + info.num_ack_pending as u64;
            }
            (open == 0).then_some(stream)
        })
        .await?;
        let state = stream.cached_info().state.clone();
        if state.messages > 0 {
            stranded += state.messages;
            stream.purge().await.map_err(at())?;
        }
    }
    if stranded > 0 {
        let told = format!(
            "{stranded} messages were acked and could not be deleted: delivered to nobody, taken away by hand"
        );
        scene.notes.push(told);
    }
    Ok(())
}

/// JetStream turns itself off when it cannot write; only a start turns it on again.
async fn revive(scene: &mut Scene) -> Result<(), Trouble> {
    let published = async {
        let kept = scene.js.publish("events.http", b"?".as_slice().into()).await;
        kept.ok()?.await.ok()
    };
    let published = timeout(ANSWERS_WITHIN, published).await.ok().flatten();
    if scene.fleet.servers.nats.is_running() && published.is_some() {
        return Ok(());
    }
    scene.notes.push("NATS had to be started again".to_owned());
    scene
        .fleet
        .servers
        .nats
        .restart()
        .await
        .map_err(Trouble::at("NATS"))?;
    scene.mended();
    Ok(())
}

/// Where no small disk can be mounted: JetStream's own limit of its files.
async fn nats_limited(order: Order, mut servers: Servers, why: &str) -> Result<Told, Trouble> {
    let dir = shared::servers::scratch_dir().map_err(Trouble::at("a directory"))?;
    // Three streams' worth: what they set aside is all there is, and the retries and letters find nothing.
    let options = NatsOptions {
        max_file_store: Some(8 << 20),
        ..NatsOptions::new(dir.path().join("nats"))
    };
    servers.nats = Nats::start(options).await.map_err(Trouble::at("NATS"))?;
    let settings = [("WEIR_STREAM_MAX_BYTES", "2MB")];
    let mut scene = Scene::on(order, servers, &settings, ProviderConfig::default()).await?;
    scene.notes.push(format!(
        "NO FULL DISK, but max_file_store of 8 MiB: no tmpfs may be mounted ({why})"
    ));
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    scene.load_like(Manner {
        rate: 40,
        mix: &[Kind::Hook, Kind::Large],
        again: true,
        copies: 1,
        balanced: false,
    });
    scene
        .lasting(Duration::from_secs(3), Duration::from_secs(10))
        .await;
    let worker = scene.member("worker", &[]).await?;
    scene.workers.push(worker);
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn postgres_full(order: Order) -> Result<Told, Trouble> {
    let no_disk = |error| Trouble::Unplayable(format!("no tmpfs may be mounted: {error}"));
    let disk = SmallDisk::mount(POSTGRES_MIB).map_err(no_disk)?;
    let options = PostgresOptions {
        durable: true,
        ..PostgresOptions::new(disk.path().join("postgres"))
    };
    let at = || Trouble::at("Postgres");
    let mut servers = Servers::start_scratch().await.map_err(Trouble::at("servers"))?;
    servers.postgres = Postgres::start(options).await.map_err(at())?;
    let mut scene = Scene::on(order, servers, &[], ProviderConfig::default()).await?;
    scene.notes.push(format!("a tmpfs of {POSTGRES_MIB} MiB"));
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    disk.fill().map_err(Trouble::at("filling the disk"))?;
    scene
        .lasting(Duration::from_secs(3), Duration::from_secs(10))
        .await;
    disk.free().map_err(Trouble::at("freeing the disk"))?;
    if !scene.fleet.servers.postgres.is_running() {
        scene.notes.push("Postgres had to be started again".to_owned());
        scene.fleet.servers.postgres.restart().await.map_err(at())?;
    }
    scene.mended();
    scene.moment().await?;
    let told = scene.close().await;
    drop(disk);
    told
}
