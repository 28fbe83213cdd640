//! `weir up`: the whole fleet on this machine. Servers first, then services; stopped the other way round.

mod calls;
mod child;
mod folder;
mod given;
mod keeper;
mod part;
mod preflight;
mod private;
mod progress;
mod ready;
mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use shared::config::{Environment as _, Fleet, Reader};
use shared::lifecycle::{self, FLUSH};
use shared::telemetry::propagation::rfc3339;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::Up;
use crate::failure::Failure;
use crate::fleet::{self, FleetFile, Overlay};
use crate::terminal;

use self::folder::Folder;
use self::keeper::Keeper;
use self::part::Parts;
use self::private::Backing;
use self::progress::Progress;

/// What stopping may take beyond what the services themselves are given.
const STOP_SLACK: Duration = Duration::from_secs(7);

/// What `weir up` reads of the fleet's settings for itself.
struct Settings {
    environment: Overlay,
    fleet: Fleet,
    nats_url: Option<String>,
    redis_url: Option<String>,
    postgres_url: Option<String>,
    /// The caller set `WEIR_TOKENS`.
    own_tokens: bool,
    /// What a worker has in effect, secrets hidden.
    worker: BTreeMap<String, String>,
}

pub(crate) async fn run(up: Up) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    lifecycle::cancel_on_signal(shutdown.clone()).map_err(Failure::at("waiting for signals"))?;
    let binaries = part::binaries(&up)?;
    let settings = settings(&up, &binaries).await?;
    let mut folder = Folder::open(&up.data).await?;
    let progress = Progress::new();

    // A part that cannot start ends the whole start, and a signal does so as well; both then stop what runs.
    let abort = shutdown.child_token();
    let starting = private::start(&settings, &mut folder, &progress, &abort).await;
    let (mut backing, failure) = match starting {
        Ok(backing) => (backing, None),
        Err((backing, failure)) => (backing, Some(failure)),
    };
    let mut keepers = Vec::new();
    let mut done = match failure {
        Some(failure) => Err(failure),
        None if abort.is_cancelled() => Ok(()),
        None => {
            serve(
                &up,
                &settings,
                &mut folder,
                &progress,
                &backing,
                &binaries,
                &abort,
                &mut keepers,
            )
            .await
        }
    };
    if done.is_ok() && !shutdown.is_cancelled() {
        shutdown.cancelled().await;
    }
    folder.register.remove();
    let deadline = Instant::now() + settings.fleet.shutdown_deadline + FLUSH + STOP_SLACK;
    if let Err(failure) = stop(&progress, keepers, &mut backing, deadline).await {
        done = done.and(Err(failure));
    }
    done
}

/// Starts the services and tells where everything is. What runs when it fails is in `keepers`.
#[allow(
    clippy::too_many_arguments,
    reason = "one caller, and each is a different thing"
)]
async fn serve(
    up: &Up,
    settings: &Settings,
    folder: &mut Folder,
    progress: &Progress,
    backing: &Backing,
    binaries: &part::Binaries,
    abort: &CancellationToken,
    keepers: &mut Vec<Keeper>,
) -> Result<(), Failure> {
    let Parts { parts, token_file } = part::plan(up, settings, folder, backing, binaries)?;
    let starts = parts.into_iter().map(|part| {
        let step = progress.step(&part.name, "starting");
        async move {
            let name = part.name.clone();
            match Keeper::start(part, abort.clone()).await {
                Ok(keeper) if abort.is_cancelled() => {
                    step.say("stopped before it was ready");
                    Ok(keeper)
                }
                Ok(keeper) => {
                    step.done(&keeper.record().url);
                    Ok(keeper)
                }
                Err((keeper, why)) => {
                    step.failed(&why);
                    abort.cancel();
                    Err((keeper, format!("{name} {why}")))
                }
            }
        }
    });
    let mut failures = Vec::new();
    for start in join_all(starts).await {
        match start {
            Ok(keeper) => keepers.push(keeper),
            Err((keeper, why)) => {
                keepers.extend(keeper);
                failures.push(why);
            }
        }
    }
    if !failures.is_empty() {
        return Err(Failure::Failed(failures.join("\nweir: ")));
    }
    if abort.is_cancelled() {
        return Ok(());
    }
    let urls = |name| {
        keepers
            .iter()
            .filter(move |k| k.name().starts_with(name))
            .map(|k| k.record().url)
    };
    let mut file = FleetFile {
        pid: std::process::id(),
        ready_at: rfc3339(SystemTime::now()),
        services: settings.fleet.services.iter().map(ToString::to_string).collect(),
        nats_url: backing.nats_url.clone(),
        redis_url: backing.redis_url.clone(),
        postgres_url: backing.postgres_url.clone(),
        ingest_url: urls(part::INGEST).next(),
        scheduler_url: urls(part::SCHEDULER).next(),
        worker_urls: urls(part::WORKER).collect(),
        token_file,
        parts: backing.records(),
    };
    file.parts.extend(keepers.iter().map(Keeper::record));
    folder.register.publish(file.clone())?;
    if up.json_ready {
        // Whoever gave a URL knows its password; a log of this output need not.
        for (given, url) in [
            (&settings.nats_url, &mut file.nats_url),
            (&settings.redis_url, &mut file.redis_url),
            (&settings.postgres_url, &mut file.postgres_url),
        ] {
            if given.is_some() {
                *url = fleet::shown(url);
            }
        }
        terminal::out_json(&file);
    } else {
        terminal::out(summary::page(&file, folder.path(), &settings.worker));
    }
    Ok(())
}

/// Reads the settings and asks the services what they think of theirs: all mistakes are told at once.
async fn settings(up: &Up, binaries: &part::Binaries) -> Result<Settings, Failure> {
    let mut environment = Overlay::default();
    let flags = [
        ("WEIR_SERVICES", &up.services),
        ("WEIR_NATS_URL", &up.nats_url),
        ("WEIR_REDIS_URL", &up.redis_url),
        ("WEIR_POSTGRES_URL", &up.postgres_url),
    ];
    for (name, flag) in flags {
        if let Some(value) = flag {
            environment.set(name, value);
        }
    }
    let verdict = preflight::ask(up, &environment, binaries).await?;
    let mut reader = Reader::new(&environment);
    let given = |url: String| Some(url).filter(|url| !url.is_empty());
    let is_given = ["WEIR_NATS_URL", "WEIR_NATS_URL_FILE"]
        .iter()
        .filter_map(|name| environment.get(name))
        .any(|value| !value.trim().is_empty());
    let redis_url = given(reader.url("WEIR_REDIS_URL", "", &["redis", "rediss"]));
    let postgres_url = given(reader.url("WEIR_POSTGRES_URL", "", &["postgres", "postgresql"]));
    let own_tokens = reader.secret("WEIR_TOKENS").is_some();
    let fleet = Fleet::read(&mut reader);
    let (fleet, _) = verdict.finish(reader.finish(&[], fleet))?;
    Ok(Settings {
        nats_url: is_given.then(|| fleet.nats_url.clone()),
        environment,
        fleet,
        redis_url,
        postgres_url,
        own_tokens,
        worker: verdict.worker,
    })
}

/// Ingest first, so that nothing new comes in; then workers, scheduler and servers. Each stage may take what is left
/// until `deadline` and at least two seconds; then it is killed.
async fn stop(
    progress: &Progress,
    keepers: Vec<Keeper>,
    backing: &mut Backing,
    deadline: Instant,
) -> Result<(), Failure> {
    let limit = || deadline.max(Instant::now() + Duration::from_secs(2));
    let (ingest, rest): (Vec<_>, Vec<_>) = keepers.into_iter().partition(|k| k.name() == part::INGEST);
    let (scheduler, workers): (Vec<_>, Vec<_>) = rest.into_iter().partition(|k| k.name() == part::SCHEDULER);
    let mut unclean = Vec::new();
    for stage in [ingest, workers, scheduler] {
        let until = limit();
        let stops = stage.into_iter().map(|keeper| {
            let step = progress.step(keeper.name(), "stopping");
            async move {
                let name = keeper.name().to_owned();
                match keeper.stop(until).await {
                    Ok(()) => {
                        step.done("stopped");
                        None
                    }
                    Err(why) => {
                        step.failed(&why);
                        Some(format!("{name} {why}"))
                    }
                }
            }
        });
        unclean.extend(join_all(stops).await.into_iter().flatten());
    }
    unclean.extend(backing.stop(progress, limit()).await);
    if unclean.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(unclean.join("\nweir: ")))
    }
}

/// A path as people in the current folder would write it.
fn short(path: &std::path::Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).to_owned()
}
