//! `weir up` with the fleet's real programs, which a test run of the workspace builds beside it.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
/// Postgres makes its cluster, workers their tables.
const START_WITHIN: Duration = Duration::from_mins(2);

/// A `weir` command in `dir`, told nothing by the environment of the test.
fn weir(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(WEIR);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") && !name.to_string_lossy().ends_with("_SERVER") {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(dir).stdin(Stdio::null());
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    weir(dir, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory that the user `postgres` may walk into.
fn folder() -> tempfile::TempDir {
    let open = fs::Permissions::from_mode(0o711);
    tempfile::Builder::new()
        .prefix("weir-up-")
        .permissions(open)
        .tempdir()
        .unwrap()
}

fn alive(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

fn signal(name: &str, pid: u64) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A running `weir up`.
struct Fleet {
    up: Child,
    _stdout: BufReader<ChildStdout>,
    file: Value,
    dir: PathBuf,
}

impl Fleet {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        for program in ["weir-ingest", "weir-worker", "weir-scheduler"] {
            let path = Path::new(WEIR).with_file_name(program);
            assert!(
                path.exists(),
                "{} is missing: run `cargo build --workspace` first",
                path.display()
            );
        }
        let stderr = fs::File::create(dir.join("up.stderr")).unwrap();
        let all = [&["up", "--json-ready", "--services", "github,slack"], arguments].concat();
        let mut command = weir(dir, &all);
        // Nobody is called: whatever a test publishes fails at once and for good.
        command.env("WEIR_SERVICE_GITHUB_URL", "http://127.0.0.1:9");
        let mut up = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(up.stdout.take().unwrap());
        let started = Instant::now();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let said = || fs::read_to_string(dir.join("up.stderr")).unwrap();
        let file = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line}{}", said()));
        assert!(started.elapsed() < START_WITHIN, "{}", said());
        Self {
            up,
            _stdout: stdout,
            file,
            dir: dir.to_owned(),
        }
    }

    fn pids(&self) -> HashMap<String, u64> {
        let file = fs::read(self.dir.join(".weir/fleet.json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        let parts = file["parts"].as_array().unwrap().clone();
        parts
            .iter()
            .map(|part| {
                (
                    part["name"].as_str().unwrap().to_owned(),
                    part["pid"].as_u64().unwrap(),
                )
            })
            .collect()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.join("up.stderr")).unwrap()
    }

    /// Ctrl-C's way to end: everything stops, exit code 0.
    fn stop(mut self) {
        let pids = self.pids();
        signal("TERM", u64::from(self.up.id()));
        let mut code = None;
        eventually("weir up ends", Duration::from_secs(45), || {
            code = self.up.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(0), "{}", self.said());
        for (name, pid) in pids {
            assert!(!alive(pid), "{name} runs on: {}", self.said());
        }
        assert!(!self.dir.join(".weir/fleet.json").exists());
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

async fn status_of(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_fleet_starts_works_recovers_and_stops() {
    let scratch = folder();
    let dir = scratch.path();
    let fleet = Fleet::start(dir, &[]);
    let mut names: Vec<_> = fleet.pids().into_keys().collect();
    names.sort();
    assert_eq!(
        names,
        [
            "ingest",
            "nats",
            "postgres",
            "redis",
            "scheduler",
            "worker-1",
            "worker-2"
        ]
    );

    let second = run(dir, &["up"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).contains("runs in")
            && text(&second.stderr).contains("already (pid ")
            && text(&second.stderr).contains("--data DIR"),
        "{second:?}"
    );

    let token_file = dir.join(".weir/token");
    assert_eq!(
        fs::metadata(&token_file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = fs::read_to_string(&token_file).unwrap();
    shared::lifecycle::install_tls();
    let client = reqwest::Client::new();
    let event = |token: &str| {
        client
            .post(format!(
                "{}/v1/events/github",
                fleet.file["ingest_url"].as_str().unwrap()
            ))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body("{\"v\":1,\"type\":\"push\",\"id\":\"by-http\"}")
    };
    assert_eq!(status_of(event(token.trim())).await, 202);
    assert!([401, 403].contains(&status_of(event("wrong")).await));

    // Other commands find the fleet from below its folder, without flags.
    let below = dir.join("below");
    fs::create_dir(&below).unwrap();
    let published = run(&below, &["publish", "github", "--id", "by-nats", "--json"]);
    assert!(published.status.success(), "{published:?}");
    let refused = run(&below, &["publish", "http"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        text(&refused.stderr).contains("its services are github, slack"),
        "{refused:?}"
    );
    eventually("both events are settled", Duration::from_secs(30), || {
        let status = run(&below, &["status", "--json"]);
        assert!(status.status.success(), "{status:?}");
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let github = &status["services"][0];
        let ended = &github["last_hour"];
        github["totals"]["waiting"] == 0
            && ended["done"].as_i64().unwrap_or(0) + ended["dead"].as_i64().unwrap_or(0) == 2
    });

    let worker = fleet.pids()["worker-1"];
    signal("KILL", worker);
    eventually("a new worker", Duration::from_secs(20), || {
        fleet.pids()["worker-1"] != worker
    });
    assert!(
        fleet.said().contains("worker-1 ended by signal 9: started again"),
        "{}",
        fleet.said()
    );
    let redis = fleet.pids()["redis"];
    signal("KILL", redis);
    eventually("a new redis", Duration::from_secs(20), || {
        fleet.pids()["redis"] != redis
    });
    let ready = format!("{}/health/ready", fleet.file["worker_urls"][0].as_str().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while client
        .get(&ready)
        .send()
        .await
        .map_or(0, |answer| answer.status().as_u16())
        != 200
    {
        assert!(
            Instant::now() < deadline,
            "the worker does not recover: {}",
            fleet.said()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (nats_url, worker_urls) = (fleet.file["nats_url"].clone(), fleet.file["worker_urls"].clone());
    fleet.stop();

    // The same ports and data the next time.
    let again = Fleet::start(dir, &[]);
    assert_eq!(
        (&again.file["nats_url"], &again.file["worker_urls"]),
        (&nats_url, &worker_urls)
    );
    let status: Value = serde_json::from_slice(&run(dir, &["status", "--json"]).stdout).unwrap();
    let ended = &status["services"][0]["last_hour"];
    assert_eq!(
        ended["done"].as_i64().unwrap() + ended["dead"].as_i64().unwrap(),
        2
    );
    again.stop();
}

#[test]
fn nothing_runs_on_when_it_is_killed() {
    let scratch = folder();
    let dir = scratch.path();
    let mut fleet = Fleet::start(dir, &["--workers", "1"]);
    let pids = fleet.pids();
    assert_eq!(pids.len(), 6);
    fleet.up.kill().unwrap();
    fleet.up.wait().unwrap();
    eventually("all parts end", Duration::from_secs(20), || {
        pids.values().all(|pid| !alive(*pid))
    });

    // What it said of itself is not believed any more, and it starts again.
    assert!(dir.join(".weir/fleet.json").exists());
    let status = run(dir, &["status", "--nats-url", "nats://127.0.0.1:9"]);
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    Fleet::start(dir, &["--workers", "0", "--no-scheduler"]).stop();
}

#[test]
fn what_cannot_work_is_told_before_anything_is_started() {
    let scratch = folder();
    let dir = scratch.path();
    let lone = dir.join("bin");
    fs::create_dir(&lone).unwrap();
    fs::copy(WEIR, lone.join("weir")).unwrap();
    let output = Command::new(lone.join("weir"))
        .arg("up")
        .current_dir(dir)
        .env("PATH", &lone)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("`cargo build --release`"),
        "{output:?}"
    );

    let idle = ["up", "--workers", "0", "--no-ingest", "--no-scheduler"];
    for (flag, url, says) in [
        (
            "--nats-url",
            "nats://127.0.0.1:9",
            "WEIR_NATS_URL: NATS at nats://127.0.0.1:9",
        ),
        (
            "--redis-url",
            "redis://:hunter2@127.0.0.1:9",
            "WEIR_REDIS_URL: Redis at redis://:***@127.0.0.1:9",
        ),
        (
            "--postgres-url",
            "postgres://me:hunter2@127.0.0.1:9/x",
            "WEIR_POSTGRES_URL: Postgres at postgres://me:***@",
        ),
    ] {
        let output = run(dir, &[&idle[..], &[flag, url]].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(says) && !stderr.contains("hunter2"), "{stderr}");
        assert!(!dir.join(".weir/nats").exists(), "a server was started: {stderr}");
    }
    let output = run(dir, &[&idle[..], &["--redis-url", "http://x"]].concat());
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}

#[test]
fn wrong_settings_of_every_part_are_told_once_before_anything_is_started() {
    let scratch = folder();
    let dir = scratch.path();
    let mut command = weir(dir, &["up", "--services", "github,billing"]);
    command
        .env("WEIR_STREAM_REPLICAS", "2")
        .env("WEIR_REDIS_URL", "http://x")
        .env("WEIR_TOKENS", "ci:zz:*")
        .env("WEIR_SERVICE_GITHUB_TIMEOUT", "soon")
        .env("WEIR_SERVICE_BILLING_HANDLER", "http")
        .env("WEIR_SCHEDULER_INTERVL", "5s");
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    for setting in [
        "WEIR_STREAM_REPLICAS",
        "WEIR_REDIS_URL",
        "WEIR_TOKENS",
        "WEIR_SERVICE_GITHUB_TIMEOUT",
        "WEIR_SERVICE_BILLING_URL",
        "WEIR_SCHEDULER_INTERVL",
    ] {
        let line = format!("\n  {setting} ");
        assert_eq!(stderr.matches(&line).count(), 1, "{setting}: {stderr}");
    }
    assert!(!stderr.contains("WEIR_POSTGRES_URL"), "{stderr}");
    assert!(!dir.join(".weir").exists(), "a server was started: {stderr}");
}

#[test]
fn where_no_fleet_runs_a_command_says_how_to_get_one() {
    let scratch = folder();
    let output = run(scratch.path(), &["status", "--fleet", "elsewhere"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("no fleet runs from elsewhere: there is no elsewhere/fleet.json"),
        "{output:?}"
    );
}
