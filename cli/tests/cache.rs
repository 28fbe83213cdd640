//! `weir cache` beside a process with a cache, and pauses of warming it.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::process::{Output, Stdio};
use std::time::Duration;

use async_nats::jetstream;
use serde_json::Value;
use shared::cache::{
    CacheMetrics, Connections, Fetched, Fresh, Key, Levels, Options, Settings, Space, Wants,
};
use shared::config::fleet::Streams;
use shared::connect;
use shared::servers::{Nats, NatsOptions, Redis, RedisOptions};
use shared::subject::Service;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

struct World {
    nats: Nats,
    redis: Redis,
    scratch: TempDir,
}

impl World {
    async fn weir(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.scratch.path())
            .env("WEIR_NATS_URL", self.nats.url())
            .env("WEIR_REDIS_URL", self.redis.url())
            .stdin(Stdio::null());
        command
    }
}

async fn world() -> (World, Space<String>) {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path().join("nats")))
        .await
        .unwrap();
    let redis = Redis::start(RedisOptions::new(scratch.path().join("redis")))
        .await
        .unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let connections = Connections {
        js: jetstream::new(client.clone()),
        client,
        streams: Streams::default(),
        redis: Some(connect::redis(&redis.url()).unwrap()),
        postgres: None,
    };
    let levels = Levels::start(Settings::default(), connections, CacheMetrics::default());
    timeout(Duration::from_secs(30), levels.heard()).await.unwrap();
    let space = levels.space("reads", Options::default()).unwrap();
    (World { nats, redis, scratch }, space)
}

async fn put(space: &Space<String>) -> Key {
    let key = space.key(None, "/zen").unwrap();
    let found = Fetched::Fresh(Fresh {
        tags: vec!["repo:octo/hello".into()],
        ..String::from("calm").into()
    });
    space.put(&key, space.stamp(), found, None).await.unwrap();
    assert!(is_there(space, &key).await);
    key
}

async fn is_there(space: &Space<String>, key: &Key) -> bool {
    space.look(key, Wants::default()).await.usable().is_some()
}

#[tokio::test]
async fn what_people_drop_is_used_no_more() {
    let (world, space) = world().await;
    for (arguments, says) in [
        (&["--key", "reads::/zen"][..], "reads::/zen"),
        (&["--tag", "repo:Octo/Hello"], "repo:octo/hello"),
        (&["--pattern", "reads:*"], "reads:*"),
        (&["--pattern", "*", "--yes"], "*"),
    ] {
        let key = put(&space).await;
        let said = world
            .weir(&[&["cache", "drop", "--json"], arguments].concat())
            .await;
        assert!(said.status.success(), "{arguments:?}: {said:?}");
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert!(said.to_string().contains(says), "{said}");
        let end = Instant::now() + Duration::from_secs(10);
        while is_there(&space, &key).await {
            assert!(Instant::now() < end, "{arguments:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }
    put(&space).await;
    let said = world.weir(&["cache", "stats", "--json"]).await;
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(said["redis"]["entries"], 1);
    assert_eq!(said["invalidations_remembered"], 4);
    let said = world.weir(&["cache", "stats"]).await;
    assert!(String::from_utf8_lossy(&said.stdout).contains("Redis: 1 answers"));
    let told = String::from_utf8(said.stderr).unwrap();
    assert!(told.contains("until it lapses or is overwritten"), "{told}");
    let said = world.weir(&["cache", "drop", "--tag", "repo:octo/gone"]).await;
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("repo:octo/gone is used no more from now on"),
        "{said}"
    );
    assert!(said.contains("not counted"), "{said}");
    let mut bounded = world.command(&["cache", "stats"]);
    let said = bounded.env("WEIR_CACHE_REDIS", "32MB").output().await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains(" bytes of 3"), "{said}");
}

#[tokio::test]
async fn what_makes_no_sense_or_drops_everything_is_not_done_unasked() {
    let (world, space) = world().await;
    let key = put(&space).await;
    let long = "t".repeat(200);
    for (arguments, says) in [
        (&["--pattern", "*"][..], "--yes"),
        (&["--pattern", "*:*:*"], "--yes"),
        (&["--pattern", ""], "pattern"),
        (&["--key", "reads"], "space:tenant:name"),
        (&["--key", "Reads::x"], "no name of a cache's space"),
        (&["--tag", &long], "tag of 200 bytes"),
        (&["--tag", "a", "--key", "reads::x"], "cannot be used with"),
        (&[], "required"),
    ] {
        let said = world.weir(&[&["cache", "drop"], arguments].concat()).await;
        assert_eq!(said.status.code(), Some(64), "{arguments:?}");
        let told = String::from_utf8(said.stderr).unwrap();
        assert!(told.contains(says), "{arguments:?}: {told}");
    }
    assert!(is_there(&space, &key).await);
}

#[tokio::test]
async fn a_pause_is_of_a_service_that_there_is_for_a_while_and_somebodys() {
    let (world, _space) = world().await;
    let js = jetstream::new(async_nats::connect(world.nats.url()).await.unwrap());
    for (arguments, code, says) in [
        (
            &["pause", "nosuch"][..],
            1,
            "the fleet has no service nosuch: its services are none",
        ),
        (&["resume", "nosuch"], 1, "no service nosuch"),
        (&["pause", "--for", "0s"], 64, "of no time"),
        (&["pause", "--by", " "], 64, "nobody's name"),
        (&["pause", "--by", ""], 64, "--by"),
        (&["pause", "--for", "1h", "--by", "ada"], 0, ""),
    ] {
        let said = world.weir(&[&["warm"], arguments].concat()).await;
        let told = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?}: {told}");
    }
    let github = Service::new("github").unwrap();
    let stream = jetstream::stream::Config {
        name: github.stream(),
        ..Default::default()
    };
    js.create_stream(stream).await.unwrap();
    for arguments in [["warm", "pause", "github"], ["warm", "resume", "github"]] {
        let said = world.weir(&arguments).await;
        assert!(said.status.success(), "{said:?}");
    }
}
