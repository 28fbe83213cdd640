#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use ::redis::AsyncCommands as _;
use futures_util::{future::try_join_all, stream::StreamExt as _};
use tokio::time::timeout;

use super::*;

/// Names the directory to `holder`, which does nothing without it.
const HOLD: &str = "WEIR_TEST_HOLD_SERVERS_IN";

fn alive(pid: u32) -> bool {
    // A zombie has ended; whoever reaps it is not our concern.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

async fn set(redis: &Redis, key: &str, value: &str) {
    let client = ::redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = connection.set(key, value).await.unwrap();
}

async fn get(redis: &Redis, key: &str) -> Option<String> {
    let client = ::redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    connection.get(key).await.unwrap()
}

async fn jetstream(nats: &Nats) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

#[tokio::test]
async fn nats_keeps_its_streams_over_stop_and_kill() {
    let scratch = scratch_dir().unwrap();
    let options = NatsOptions {
        sync_always: true,
        max_payload: Some(8 * 1024 * 1024),
        monitor: true,
        ..NatsOptions::new(scratch.path())
    };
    let mut nats = Nats::start(options).await.unwrap();
    let (url, pid, monitor) = (nats.url(), nats.pid(), nats.monitor_url());
    assert!(monitor.is_some());
    {
        let client = async_nats::connect(nats.url()).await.unwrap();
        assert_eq!(client.server_info().max_payload, 8 * 1024 * 1024);
        let jetstream = async_nats::jetstream::new(client);
        let stream = async_nats::jetstream::stream::Config {
            name: "kept".into(),
            subjects: vec!["kept".into()],
            ..Default::default()
        };
        jetstream.create_stream(stream).await.unwrap();
        jetstream
            .publish("kept", "one".into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    nats.restart().await.unwrap();
    assert_eq!((nats.url(), nats.monitor_url()), (url, monitor));
    assert_ne!(nats.pid(), pid);
    jetstream(&nats)
        .await
        .publish("kept", "two".into())
        .await
        .unwrap()
        .await
        .unwrap();

    assert_eq!(nats.kill().await.unwrap().signal(), Some(9));
    assert!(!nats.is_running());
    nats.restart().await.unwrap();
    let mut stream = jetstream(&nats).await.get_stream("kept").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 2);
}

#[tokio::test]
async fn a_cluster_keeps_what_it_has_acknowledged_over_a_leader_that_is_killed() {
    let scratch = scratch_dir().unwrap();
    let mut cluster = NatsCluster::start(scratch.path()).await.unwrap();
    let client = async_nats::connect(cluster.urls().split(',').collect::<Vec<_>>())
        .await
        .unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let stream = async_nats::jetstream::stream::Config {
        name: "kept".into(),
        subjects: vec!["kept".into()],
        num_replicas: 3,
        ..Default::default()
    };
    jetstream.create_stream(stream).await.unwrap();
    jetstream
        .publish("kept", "one".into())
        .await
        .unwrap()
        .await
        .unwrap();
    cluster.step_down("kept").await.unwrap();
    let leader = cluster.leader("kept").await.unwrap();
    cluster.nodes[leader].kill().await.unwrap();
    assert_ne!(cluster.leader("kept").await.unwrap(), leader);
    let mut kept = jetstream.get_stream("kept").await.unwrap();
    assert_eq!(kept.info().await.unwrap().state.messages, 1);
    cluster.nodes[leader].restart().await.unwrap();
    cluster.in_step("kept").await.unwrap();
}

#[tokio::test]
async fn redis_keeps_its_data_when_durable_only() {
    let scratch = scratch_dir().unwrap();
    let durable = RedisOptions {
        durable: true,
        ..RedisOptions::new(scratch.path().join("durable"))
    };
    let quick = RedisOptions::new(scratch.path().join("quick"));
    let (mut durable, mut quick) = tokio::try_join!(Redis::start(durable), Redis::start(quick)).unwrap();
    set(&durable, "key", "kept").await;
    set(&quick, "key", "lost").await;
    tokio::try_join!(durable.restart(), quick.restart()).unwrap();
    assert_eq!(get(&durable, "key").await.as_deref(), Some("kept"));
    assert_eq!(get(&quick, "key").await, None);
    assert_eq!(quick.stop().await.unwrap().signal(), None);
}

#[tokio::test]
async fn postgres_keeps_its_databases_over_stop_and_kill() {
    let scratch = scratch_dir().unwrap();
    let options = PostgresOptions {
        durable: true,
        ..PostgresOptions::new(scratch.path())
    };
    let mut postgres = Postgres::start(options).await.unwrap();
    postgres.create_database("weir").await.unwrap();
    postgres.create_database("weir").await.unwrap();
    let refused = postgres.create_database("weir\"; DROP DATABASE weir; --").await;
    assert!(
        matches!(refused, Err(ServerError::DatabaseName(_))),
        "{refused:?}"
    );

    let port = postgres.port();
    postgres
        .kind
        .query(port, "CREATE TABLE kept (id int)")
        .await
        .unwrap();
    postgres.restart().await.unwrap();
    assert_eq!(postgres.port(), port);
    postgres
        .kind
        .query(port, "INSERT INTO kept VALUES (1)")
        .await
        .unwrap();
    postgres.kill().await.unwrap();
    postgres.restart().await.unwrap();
    postgres
        .kind
        .query(port, "SELECT 1 / count(*) FROM kept")
        .await
        .unwrap();
    assert_eq!(postgres.stop().await.unwrap(), Exit { code: 0 });
}

#[tokio::test]
async fn a_directory_closed_to_postgres_is_no_obstacle() {
    let scratch = scratch_dir().unwrap();
    let closed = scratch.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let mut postgres = Postgres::start(PostgresOptions::new(closed.join("data")))
        .await
        .unwrap();
    let cluster = postgres.cluster_dir().to_owned();
    postgres.stop().await.unwrap();
    if !cluster.starts_with(&closed) {
        fs::remove_dir_all(cluster.parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_sigkill_from_outside_is_noticed() {
    let scratch = scratch_dir().unwrap();
    let redis = Redis::start(RedisOptions::new(scratch.path())).await.unwrap();
    let exited = redis.exited();
    let pid = redis.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "KILL", &pid])
            .status()
            .unwrap()
            .success()
    );
    let exit = timeout(Duration::from_secs(10), exited).await.unwrap();
    assert_eq!(exit.signal(), Some(9));
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let scratch = scratch_dir().unwrap();
    let first = Redis::start(RedisOptions::new(scratch.path().join("first")))
        .await
        .unwrap();
    let options = RedisOptions {
        port: Some(first.port()),
        ..RedisOptions::new(scratch.path().join("second"))
    };
    let error = Redis::start(options).await.unwrap_err().to_string();
    assert!(error.contains(&first.port().to_string()), "{error}");
    assert!(error.contains("in use"), "{error}");

    let options = NatsOptions {
        max_payload: Some(u32::MAX),
        ..NatsOptions::new(scratch.path().join("nats"))
    };
    let error = Nats::start(options).await.unwrap_err().to_string();
    assert!(error.contains("max_payload"), "{error}");
}

#[tokio::test]
async fn many_start_at_the_same_time() {
    let scratch = scratch_dir().unwrap();
    let dir = |name: &str, n: u8| scratch.path().join(format!("{name}{n}"));
    let nats = try_join_all((0..4).map(|n| Nats::start(NatsOptions::new(dir("nats", n)))));
    let redis = try_join_all((0..4).map(|n| Redis::start(RedisOptions::new(dir("redis", n)))));
    let (nats, redis) = tokio::try_join!(nats, redis).unwrap();
    let mut ports: Vec<u16> = nats
        .iter()
        .map(Server::port)
        .chain(redis.iter().map(Server::port))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
}

#[tokio::test]
async fn nothing_is_left_after_a_drop() {
    let servers = Servers::start_scratch().await.unwrap();
    let pids = [servers.nats.pid(), servers.redis.pid(), servers.postgres.pid()];
    let dir = servers.nats.data_dir().parent().unwrap().to_owned();
    assert!(pids.into_iter().all(alive));
    drop(servers);
    assert!(!pids.into_iter().any(alive));
    assert!(!dir.exists());
}

#[tokio::test]
async fn servers_end_with_a_parent_that_is_killed() {
    let scratch = scratch_dir().unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::tests::holder", "--ignored", "--nocapture"])
        .env(HOLD, scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let pids: Vec<u32> = lines
        .map(Result::unwrap)
        .find_map(|line| line.split_once("holding ").map(|(_, pids)| pids.to_owned()))
        .unwrap()
        .split(' ')
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| alive(*pid)));
    holder.kill().unwrap();
    holder.wait().unwrap();
    // A successor waits until the last server on the same files has gone.
    let successors = Servers::start(scratch.path()).await.unwrap();
    assert!(!pids.into_iter().any(alive));
    drop(successors);
}

/// Not a test: the process that `servers_end_with_a_parent_that_is_killed` starts and kills.
#[tokio::test]
#[ignore = "run by another test"]
async fn holder() {
    let Some(dir) = std::env::var_os(HOLD) else { return };
    let servers = Servers::start(Path::new(&dir)).await.unwrap();
    let pids = [servers.nats.pid(), servers.redis.pid(), servers.postgres.pid()];
    #[allow(clippy::print_stdout, reason = "read by the test that started this process")]
    {
        println!("\nholding {}", pids.map(|pid| pid.to_string()).join(" "));
    }
    futures_util::stream::pending::<()>().next().await;
}

#[test]
fn what_is_not_there_is_told_with_where_it_was_looked_for() {
    let missing = super::binary::find("no-such-server", "WEIR_PRIVATE_NO_SUCH").unwrap_err();
    let told = missing.to_string();
    let here = std::env::current_dir().unwrap();
    let program = std::env::current_exe().unwrap();
    for place in [here.as_path(), program.parent().unwrap(), "PATH".as_ref()] {
        assert!(told.contains(&place.display().to_string()), "{told}");
    }
    assert!(told.ends_with("set WEIR_PRIVATE_NO_SUCH"), "{told}");
}
