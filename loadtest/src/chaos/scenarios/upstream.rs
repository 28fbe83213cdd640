//! The API at the other end fails in every way that leaves one wondering, and clocks are wrong.

use std::time::Duration;

use shared::servers::Servers;

use crate::chaos::account::Told;
use crate::chaos::scene::Scene;
use crate::chaos::{Order, Scenario, Trouble};
use crate::fault::clock::FakeClock;
use crate::provider::{Faults, ProviderConfig};

pub(super) fn all() -> Vec<Scenario> {
    let none = Faults::default();
    let ways = [
        (
            "hangs",
            "calls are never answered and have no effect",
            Faults { hangs: 0.3, ..none },
        ),
        (
            "swallows",
            "calls have their effect and are never answered",
            Faults {
                swallows: 0.3,
                ..none
            },
        ),
        (
            "closes",
            "calls have their effect, the answer ends in the middle of its body",
            Faults { closes: 0.4, ..none },
        ),
        (
            "fails",
            "calls are answered 500 and have no effect",
            Faults { errors: 0.5, ..none },
        ),
        (
            "fails_late",
            "calls have their effect and are answered 500",
            Faults {
                late_errors: 0.4,
                ..none
            },
        ),
        (
            "lies",
            "Slack answers 200 with `ok: false`, without an effect",
            Faults { lies: 0.5, ..none },
        ),
        (
            "does_it_all",
            "all of that at once",
            Faults {
                hangs: 0.05,
                swallows: 0.05,
                closes: 0.1,
                errors: 0.1,
                late_errors: 0.1,
                lies: 0.1,
                ..none
            },
        ),
    ];
    let mut all: Vec<Scenario> = ways
        .into_iter()
        .map(|(name, what, faults)| {
            Scenario::new(format!("upstream_{name}"), what, move |order| {
                failing(order, faults)
            })
        })
        .collect();
    for policy in ["retry", "dead"] {
        let promise = if policy == "retry" { "at least" } else { "at most" };
        let what =
            format!("calls have their effect and are never answered, policy `{policy}`: {promise} once");
        let name = format!("upstream_swallows_policy_{policy}");
        all.push(Scenario::new(name, what, move |order| {
            under_policy(order, policy)
        }));
    }
    for (name, minutes) in [("upstream_clock_off", 4), ("upstream_clock_far_off", 60)] {
        let what = format!("the API's clock is {minutes} minutes behind or ahead, and calls fail");
        all.push(Scenario::new(name, what, move |order| clock_off(order, minutes)));
    }
    all.push(Scenario::new(
        "clock_jumps",
        "the workers' and schedulers' time of day jumps an hour ahead, back, and right again",
        clock_jumps,
    ));
    all
}

async fn failing(order: Order, faults: Faults) -> Result<Told, Trouble> {
    let mut scene = Scene::open(order, &[]).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    scene.provider.set_faults(faults).map_err(Trouble::at("faults"))?;
    for _ in 0..order.length.of(2, 6) {
        scene.moment().await?;
    }
    scene
        .provider
        .set_faults(Faults::default())
        .map_err(Trouble::at("faults"))?;
    scene.mended();
    scene.moment().await?;
    scene.close().await
}

async fn under_policy(order: Order, policy: &'static str) -> Result<Told, Trouble> {
    let settings = [
        ("WEIR_SERVICE_GITHUB_UNKNOWN", policy),
        ("WEIR_SERVICE_SLACK_UNKNOWN", policy),
    ];
    let mut scene = Scene::open(order, &settings).await?;
    scene.at_least_once = policy == "retry";
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let faults = Faults {
        swallows: 0.3,
        ..Faults::default()
    };
    scene.provider.set_faults(faults).map_err(Trouble::at("faults"))?;
    for _ in 0..order.length.of(2, 6) {
        scene.moment().await?;
    }
    scene
        .provider
        .set_faults(Faults::default())
        .map_err(Trouble::at("faults"))?;
    scene.mended();
    scene.moment().await?;
    let mut told = scene.close().await?;
    // What the policy is for must have happened, or nothing was shown.
    let (shown, what) = match policy {
        "retry" => (told.effects_twice, "effects took place twice"),
        _ => (told.account.dead, "events became dead letters"),
    };
    if shown == 0 {
        told.problems.push(format!("no {what}: nothing is shown"));
    }
    Ok(told)
}

async fn clock_off(order: Order, minutes: i64) -> Result<Told, Trouble> {
    let off = minutes * 60_000;
    let provider = ProviderConfig {
        clock_skew_ms: if order.seed.is_multiple_of(2) { off } else { -off },
        ..ProviderConfig::default()
    };
    let servers = Servers::start_scratch().await.map_err(Trouble::at("servers"))?;
    let settings = [("WEIR_SERVICE_GITHUB_LIMIT", "500 per second, burst 50")];
    let mut scene = Scene::on(order, servers, &settings, provider).await?;
    scene.people().await?;
    scene.load();
    scene.moment().await?;
    let faults = Faults {
        closes: 0.2,
        errors: 0.2,
        ..Faults::default()
    };
    scene.provider.set_faults(faults).map_err(Trouble::at("faults"))?;
    scene.moment().await?;
    scene.moment().await?;
    scene
        .provider
        .set_faults(Faults::default())
        .map_err(Trouble::at("faults"))?;
    scene.mended();
    scene.close().await
}

async fn clock_jumps(order: Order) -> Result<Told, Trouble> {
    let dir = shared::servers::scratch_dir().map_err(Trouble::at("a directory"))?;
    let clock = FakeClock::find(dir.path()).map_err(Trouble::at("a clock"))?;
    let clock = clock.ok_or_else(|| {
        Trouble::Unplayable(
            "a clock that jumps needs libfaketime (Debian: apt-get install libfaketime)".to_owned(),
        )
    })?;
    let environment = clock.environment();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut scene = Scene::open(order, &[]).await?;
    let ingest = scene.member("ingest", &[]).await?;
    scene.ingest.push(ingest);
    for _ in 0..2 {
        let worker = scene.member("worker", &environment).await?;
        scene.workers.push(worker);
    }
    let scheduler = scene.member("scheduler", &environment).await?;
    scene.schedulers.push(scheduler);
    scene.load();
    for seconds in [3_600, -3_600, 0] {
        scene.moment().await?;
        clock.jump(seconds).map_err(Trouble::at("a clock"))?;
        scene
            .lasting(Duration::from_secs(2), Duration::from_secs(10))
            .await;
    }
    scene.mended();
    scene.moment().await?;
    scene.close().await
}
