//! Caches warmed ahead of need, by real schedulers and workers: a provider that counts sees who asks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::kv;
use loadtest::fleet::Member;
use loadtest::provider::{Call, ProviderConfig};
use serde_json::{Value, json};
use shared::access::pack::pack;
use shared::access::{Access, Asked, Digest, Found, What};
use shared::config::fleet::Streams;
use shared::event::Data;
use shared::subject::Service;
use shared::topology;
use sqlx::AssertSqlSafe;
use tokio::time::Instant;

use super::world::{World, calls, until};

/// What will be asked for.
const ISSUE: &str = "/repos/octo/cat/issues/7";
/// What nobody has read yet.
const NEW: &str = "/users/new";
/// For how long an answer stays.
const TTL: Duration = Duration::from_secs(10);
/// Calls of events that a worker has made before, so that it may make three that nobody waits for.
const BEFORE: usize = 60;
/// In which every source has proved itself.
const LIVE: &str = r#"{"records":[{"right":0,"known":0,"live":true},{"right":0,"known":0,"live":true},
    {"right":0,"known":0,"live":true}],"refused_ms":null,"doublings":0}"#;

/// A fleet with a worker, and an access log in which the issue is asked for every second.
struct Stage {
    world: World,
    worker: Member,
    github: Service,
    bucket: kv::Store,
}

impl Stage {
    async fn new(limits: ProviderConfig, settings: &[(&str, &str)]) -> Self {
        let own = [("WEIR_SERVICE_GITHUB_CACHE", "10s")];
        let mut world = World::new(limits, &[&own[..], settings].concat()).await;
        let worker = world.fleet.start("worker").await.unwrap();
        let reads = (0..BEFORE).flat_map(|n| calls(1, &json!({"path": format!("/users/u{n}")})));
        let reads: Vec<_> = reads.collect();
        world.publish("github", reads).await;
        world.publish("github", calls(1, &json!({"path": ISSUE}))).await;
        world.done(BEFORE as i64 + 1).await;
        let expired = Instant::now() + TTL;
        let digest = until("what to fetch for the issue", async || {
            let named = format!("SELECT digest FROM access_keys WHERE name LIKE '%{ISSUE}%'");
            let found: Option<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(named))
                .fetch_optional(&world.database)
                .await
                .unwrap();
            found
        })
        .await;
        let github = Service::new("github").unwrap();
        past(&world, Digest(digest.try_into().unwrap())).await;
        let bucket = topology::warm_bucket(&world.js, &Streams::default())
            .await
            .unwrap();
        bucket.put(github.warm_standing(), LIVE.into()).await.unwrap();
        tokio::time::sleep_until(expired).await;
        Self {
            world,
            worker,
            github,
            bucket,
        }
    }

    async fn scheduler(&mut self, warm: &str) -> Member {
        let settings = [("WEIR_WARM", warm)];
        self.world.fleet.start_with("scheduler", &settings).await.unwrap()
    }

    /// Calls for this.
    fn asked(&self, path: &str) -> Vec<Call> {
        let mut calls = self.world.calls(0.0, f64::INFINITY);
        calls.retain(|call| call.path == path);
        calls
    }

    /// What `weir warm` says, as JSON.
    async fn weir(&self, args: &[&str]) -> Option<Value> {
        let said = tokio::process::Command::new(loadtest::fleet::binary("weir").unwrap())
            .arg("warm")
            .args(args)
            .envs(&self.world.fleet.settings)
            .output()
            .await
            .unwrap();
        let ok = said.status.success();
        ok.then(|| serde_json::from_slice(&said.stdout).unwrap_or_default())
    }

    /// What the leader says of the service.
    async fn status(&self) -> Option<Value> {
        let status = self.weir(&["status", "--json"]).await?;
        let services = status["services"].as_array()?;
        services.iter().find(|of| of["service"] == "github").cloned()
    }

    /// Waits until the leader says so of the service.
    async fn says(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, async || self.status().await.filter(|status| holds(status))).await
    }
}

/// The issue was asked for each second of the last hour, and many other things were that took a call.
async fn past(world: &World, digest: Digest) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let access = |key: u64, ago_ms: u64, found: Found| Access {
        at_ms: now - ago_ms,
        key,
        actor: None,
        repository: None,
        found,
        fetch_ms: (found == Found::Nowhere).then_some(300),
    };
    let others = (0..1_000).map(|other| access(other, 7_200_000 + other, Found::Nowhere));
    let issue = (60..3_600).map(|second| {
        let found = if second % 10 == 0 {
            Found::Nowhere
        } else {
            Found::Redis
        };
        access(digest.id(), second * 1_000, found)
    });
    let accesses: Vec<_> = others.chain(issue).collect();
    let (packed, keys) = pack(&accesses);
    sqlx::query("INSERT INTO access_log VALUES ('github', now(), 'past', 'past', $1, $2, $3, $4, $5)")
        .bind(now as i64 - 7_300_000)
        .bind(now as i64)
        .bind(accesses.len() as i32)
        .bind(keys as i32)
        .bind(packed)
        .execute(&world.database)
        .await
        .unwrap();
}

/// What is answered with this status.
async fn get(url: &str, status: u16) -> Value {
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status().as_u16(), status, "{url}");
    answer.json().await.unwrap()
}

/// A figure of a process; `None` where it shows none.
async fn figure(member: &Member, begins: &str) -> Option<f64> {
    let text = reqwest::get(format!("{}/metrics", member.url)).await.ok()?;
    let text = text.text().await.ok()?;
    text.lines()
        .find(|line| line.starts_with(begins))?
        .rsplit(' ')
        .next()?
        .parse()
        .ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_be_asked_for_is_there_and_another_leader_goes_on() {
    let mut stage = Stage::new(ProviderConfig::default(), &[]).await;
    assert_eq!(stage.asked(ISSUE).len(), 1);

    // In shadow it is noted, and nobody is asked.
    let mut first = stage.scheduler("shadow").await;
    until("a round", async || {
        let rounds = figure(&first, "weir_warm_round_seconds_count").await?;
        (rounds >= 1.0).then_some(())
    })
    .await;
    let shadow = stage.says("shadow", |status| status["state"] == "shadow").await;
    assert!(shadow["keys"].as_u64() > Some(1_000), "{shadow}");
    assert_eq!(
        figure(&first, "weir_warm_requests_total").await,
        None,
        "nobody was asked"
    );
    let told = stage.weir(&["explain", "github", ISSUE, "--json"]).await.unwrap();
    let frequency = told[0]["predictions"].as_array().unwrap();
    let frequency = frequency
        .iter()
        .find(|said| said["source"] == "frequency")
        .unwrap();
    assert!(frequency["probability"].as_f64() > Some(0.9), "{told}");

    // Any replica tells, and asks whoever leads.
    let second = stage.scheduler("on").await;
    let told: Value = get(&format!("{}/api/warm", second.url), 200).await;
    assert_eq!(told["mode"], "shadow", "the word of the leader: {told}");
    let refused = get(
        &format!("{}/api/warm/explain?service=github&key=a", second.url),
        401,
    )
    .await;
    assert_eq!(refused["title"], "Token needed");

    // People can stop it, whoever leads.
    stage
        .weir(&["pause", "github", "--by", "ada", "--for", "1h"])
        .await
        .unwrap();
    let paused = stage.says("paused", |status| status["state"] == "paused").await;
    assert_eq!(paused["paused"]["by"], "ada");
    assert_eq!(stage.asked(ISSUE).len(), 1);

    // Nothing that is no request does harm.
    for garbage in [
        &b""[..],
        b"{}",
        b"\x81\xa5items\xdd\xff\xff\xff\xff",
        &[0x91; 10_000],
    ] {
        let client = stage.world.js.client();
        client.publish(stage.github.warm(), garbage.into()).await.unwrap();
        client.flush().await.unwrap();
    }
    until("garbage is counted", async || {
        let label = "weir_worker_warmed_total{service=\"github\",outcome=\"unreadable_request\"}";
        (figure(&stage.worker, label).await? >= 4.0).then_some(())
    })
    .await;

    // The next leader goes on with what was proved, without the pause.
    stage.weir(&["resume", "github"]).await.unwrap();
    first.kill().await.unwrap();
    until("the issue is fetched ahead", async || {
        (stage.asked(ISSUE).len() == 2).then_some(())
    })
    .await;
    let events: Vec<_> = calls(1, &json!({"path": ISSUE})).collect();
    let id = events[0].id.clone();
    stage.world.publish("github", events).await;
    assert_eq!(stage.world.result(id.as_str()).await.code, "cached");
    assert_eq!(stage.asked(ISSUE).len(), 2, "the event made no call of its own");
    let used = stage
        .says("what was fetched was used", |status| {
            status["day"]["right"].as_u64() >= Some(1)
        })
        .await;
    assert!(used["day"]["hit_gain"].as_f64() > Some(0.0), "{used}");
    let fetched = "weir_warm_keys_total{service=\"github\",outcome=\"fetched\"}";
    assert!(figure(&second, fetched).await >= Some(1.0));
    let live = "weir_warm_live{service=\"github\",source=\"frequency\"}";
    assert_eq!(figure(&second, live).await, Some(1.0));
    stage.world.no_breach();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_others_may_need_are_not_spent() {
    let settings = [
        ("WEIR_SERVICE_GITHUB_LIMIT", "100 per hour, fixed"),
        ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
    ];
    let mut stage = Stage::new(ProviderConfig::default(), &settings).await;
    let scheduler = stage.scheduler("on").await;
    until("it is not fetched", async || {
        let quota = "weir_warm_keys_total{service=\"github\",outcome=\"quota\"}";
        (figure(&scheduler, quota).await? >= 1.0).then_some(())
    })
    .await;
    assert_eq!(stage.asked(ISSUE).len(), 1, "39 of 100 calls are left");
    let status = stage.status().await.unwrap();
    assert_eq!(
        status["day"]["wrong"], 0,
        "what was not fetched is not judged: {status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_silences_it_for_whoever_leads() {
    let mut limits = ProviderConfig::default();
    // A secondary limit, of which no header tells.
    limits.github.points = Some("61 per 600s".parse().unwrap());
    let mut stage = Stage::new(limits, &[]).await;
    // What was read before would be asked for by its tag, which costs no point.
    let new = Asked {
        kind: "call".into(),
        data: Data::json(json!({"path": NEW}).to_string()),
    };
    let new = What::new("new", None, new).unwrap();
    sqlx::query("UPDATE access_keys SET request = $1 WHERE name LIKE '%' || $2 || '%'")
        .bind(&new.request[..])
        .bind(ISSUE)
        .execute(&stage.world.database)
        .await
        .unwrap();
    let mut first = stage.scheduler("on").await;
    let silent = stage.says("silent", |status| status["state"] == "silent").await;
    assert!(silent["silent_until_ms"].as_u64().is_some(), "{silent}");
    assert_eq!(
        stage.asked(NEW).len(),
        1,
        "one was refused, and no other was made"
    );
    assert_eq!(stage.world.provider.stats().total.refused, 1);
    let kept = until("it is kept", async || {
        let kept = stage.bucket.get(stage.github.warm_standing()).await.unwrap()?;
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        kept["refused_ms"].is_u64().then_some(kept)
    })
    .await;
    assert_eq!(kept["records"][0]["live"], false, "all has to be proved anew");
    let second = stage.scheduler("on").await;
    first.kill().await.unwrap();
    until("another leads and has looked", async || {
        let rounds = figure(&second, "weir_warm_round_seconds_count").await?;
        (rounds >= 1.0).then_some(())
    })
    .await;
    let silent = stage
        .says("silent still", |status| status["silent_until_ms"].is_u64())
        .await;
    assert_ne!(silent["state"], "live");
    assert_eq!(stage.asked(NEW).len(), 1);
}
