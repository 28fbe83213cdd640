//! NATS, Redis and Postgres for the fleet: those that were given, and private ones for the rest.

use std::path::PathBuf;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use shared::servers::{Exit, Nats, NatsOptions, Postgres, PostgresOptions, Redis, RedisOptions, ServerError};
use shared::wire;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::folder::{Folder, Register};
use super::keeper::{FIRST_PAUSE, LONGEST_PAUSE, STEADY};
use super::progress::Progress;
use super::{Settings, given, short};
use crate::failure::Failure;
use crate::fleet::{PartRecord, shown};
use crate::terminal;

/// Name of the database in a private Postgres.
const DATABASE: &str = "weir";
/// Largest message of a private NATS server in bytes: the largest event and its headers.
const MAX_PAYLOAD: u32 = wire::MAX_BYTES as u32 + (2 << 20);

/// What the services stand on.
#[derive(Default)]
pub(super) struct Backing {
    pub(super) nats_url: String,
    pub(super) redis_url: String,
    pub(super) postgres_url: String,
    given: Vec<PartRecord>,
    guards: Vec<Guard>,
}

/// A private server and the task that looks after it.
struct Guard {
    record: PartRecord,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

/// A private server of any kind.
enum Private {
    Nats(Box<Nats>),
    Redis(Box<Redis>),
    Postgres(Box<Postgres>),
}

impl Private {
    fn about(&self) -> (u32, PathBuf) {
        match self {
            Self::Nats(server) => (server.pid(), server.log()),
            Self::Redis(server) => (server.pid(), server.log()),
            Self::Postgres(server) => (server.pid(), server.log()),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Nats(server) => server.url(),
            Self::Redis(server) => server.url(),
            Self::Postgres(server) => server.url(DATABASE),
        }
    }

    fn exited(&self) -> BoxFuture<'static, Exit> {
        match self {
            Self::Nats(server) => server.exited().boxed(),
            Self::Redis(server) => server.exited().boxed(),
            Self::Postgres(server) => server.exited().boxed(),
        }
    }

    async fn restart(&mut self) -> Result<(), ServerError> {
        match self {
            Self::Nats(server) => server.restart().await,
            Self::Redis(server) => server.restart().await,
            Self::Postgres(server) => server.restart().await,
        }
    }

    async fn stop(&mut self) -> Result<Exit, ServerError> {
        match self {
            Self::Nats(server) => server.stop().await,
            Self::Redis(server) => server.stop().await,
            Self::Postgres(server) => server.stop().await,
        }
    }
}

/// Checks what was given and starts the rest, all at the same time. What runs when it fails comes with the failure.
pub(super) async fn start(
    settings: &Settings,
    folder: &mut Folder,
    progress: &Progress,
    abort: &CancellationToken,
) -> Result<Backing, (Backing, Failure)> {
    let mut backing = Backing::default();
    // What is given is asked first: starting servers for nothing takes longer than asking.
    if let Err(why) = ask_given(settings, progress, &mut backing).await {
        return Err((backing, Failure::Failed(why)));
    }
    let mut starts: Vec<(&'static str, BoxFuture<'_, Result<Private, ServerError>>)> = Vec::new();
    let mut port = |name| folder.port(name);
    let ports = (|| Ok::<_, Failure>((port("nats")?, port("redis")?, port("postgres")?)))();
    let (nats, redis, postgres) = match ports {
        Ok(ports) => ports,
        Err(failure) => return Err((backing, failure)),
    };
    if backing.nats_url.is_empty() {
        let options = NatsOptions {
            port: Some(nats),
            sync_always: true,
            max_payload: Some(MAX_PAYLOAD),
            ..NatsOptions::new(folder.join("nats"))
        };
        starts.push((
            "nats",
            async { Nats::start(options).await.map(|s| Private::Nats(Box::new(s))) }.boxed(),
        ));
    }
    if backing.redis_url.is_empty() {
        let options = RedisOptions {
            data_dir: folder.join("redis"),
            port: Some(redis),
            durable: true,
        };
        starts.push((
            "redis",
            async { Redis::start(options).await.map(|s| Private::Redis(Box::new(s))) }.boxed(),
        ));
    }
    if backing.postgres_url.is_empty() {
        let options = PostgresOptions {
            data_dir: folder.join("postgres"),
            port: Some(postgres),
            durable: true,
        };
        let start = async {
            let server = Postgres::start(options).await?;
            server.create_database(DATABASE).await?;
            Ok(Private::Postgres(Box::new(server)))
        };
        starts.push(("postgres", start.boxed()));
    }
    let starts = starts.into_iter().map(|(name, start)| {
        let step = progress.step(name, "starting");
        async move {
            match abort.run_until_cancelled(start).await {
                Some(Ok(server)) => {
                    step.done(&server.url());
                    Ok((name, server))
                }
                Some(Err(error)) => {
                    let why = error.to_string();
                    step.failed(&why);
                    abort.cancel();
                    Err(Some(why))
                }
                None => {
                    step.say("stopped before it was ready");
                    Err(None)
                }
            }
        }
    });
    let mut failures = Vec::new();
    for started in join_all(starts).await {
        match started {
            Ok((name, server)) => backing.keep(name, server, &folder.register),
            Err(why) => failures.extend(why),
        }
    }
    if failures.is_empty() {
        Ok(backing)
    } else {
        Err((backing, Failure::Failed(failures.join("\nweir: "))))
    }
}

async fn ask_given(settings: &Settings, progress: &Progress, backing: &mut Backing) -> Result<(), String> {
    let nats = async {
        if let Some(url) = &settings.nats_url {
            ask(progress, "nats", url, given::nats(&settings.fleet).boxed()).await?;
        }
        Ok(settings.nats_url.clone())
    };
    let redis = async {
        if let Some(url) = &settings.redis_url {
            ask(progress, "redis", url, given::redis(url).boxed()).await?;
        }
        Ok(settings.redis_url.clone())
    };
    let postgres = async {
        if let Some(url) = &settings.postgres_url {
            ask(progress, "postgres", url, given::postgres(url).boxed()).await?;
        }
        Ok(settings.postgres_url.clone())
    };
    let (nats, redis, postgres) = tokio::join!(nats, redis, postgres);
    let answers = [("nats", nats), ("redis", redis), ("postgres", postgres)];
    let problems: Vec<String> = answers
        .iter()
        .filter_map(|(_, answer)| answer.clone().err())
        .collect();
    if !problems.is_empty() {
        return Err(problems.join("\nweir: "));
    }
    let mut urls = Vec::new();
    for (name, answer) in answers {
        let url = answer.ok().flatten();
        if let Some(url) = &url {
            let url = shown(url);
            backing.given.push(PartRecord {
                name: name.to_owned(),
                url,
                pid: None,
                log: None,
            });
        }
        urls.push(url.unwrap_or_default());
    }
    if let [nats, redis, postgres] = &mut urls[..] {
        backing.nats_url = std::mem::take(nats);
        backing.redis_url = std::mem::take(redis);
        backing.postgres_url = std::mem::take(postgres);
    }
    Ok(())
}

async fn ask(
    progress: &Progress,
    name: &str,
    url: &str,
    question: BoxFuture<'_, Result<(), String>>,
) -> Result<(), String> {
    let step = progress.step(name, "asked");
    match question.await {
        Ok(()) => {
            step.done(&format!("{}, given", shown(url)));
            Ok(())
        }
        Err(why) => {
            step.failed(&why);
            Err(why)
        }
    }
}

impl Backing {
    fn keep(&mut self, name: &'static str, server: Private, register: &Register) {
        let url = server.url();
        match server {
            Private::Nats(_) => self.nats_url.clone_from(&url),
            Private::Redis(_) => self.redis_url.clone_from(&url),
            Private::Postgres(_) => self.postgres_url.clone_from(&url),
        }
        let (pid, log) = server.about();
        let record = PartRecord {
            name: name.to_owned(),
            url,
            pid: Some(pid),
            log: Some(log),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(look_after(name, server, stop.clone(), register.clone()));
        self.guards.push(Guard { record, stop, task });
    }

    /// What `fleet.json` says of them.
    pub(super) fn records(&self) -> Vec<PartRecord> {
        self.given
            .iter()
            .chain(self.guards.iter().map(|guard| &guard.record))
            .cloned()
            .collect()
    }

    /// Stops the private ones; they are killed at `until`.
    pub(super) async fn stop(&mut self, progress: &Progress, until: Instant) -> Vec<String> {
        let stops = self.guards.drain(..).map(|mut guard| {
            let step = progress.step(&guard.record.name, "stopping");
            async move {
                guard.stop.cancel();
                let stopped = match timeout_at(until, &mut guard.task).await {
                    Ok(Ok(stopped)) => stopped,
                    Ok(Err(error)) => Err(format!("was not looked after: {error}")),
                    Err(_) => {
                        // Dropping a private server kills it and waits.
                        guard.task.abort();
                        let _ = guard.task.await;
                        Err("did not stop in time and was killed".to_owned())
                    }
                };
                match stopped {
                    Ok(()) => {
                        step.done("stopped");
                        None
                    }
                    Err(why) => {
                        step.failed(&why);
                        Some(format!("{} {why}", guard.record.name))
                    }
                }
            }
        });
        join_all(stops).await.into_iter().flatten().collect()
    }
}

async fn look_after(
    name: &'static str,
    mut server: Private,
    stop: CancellationToken,
    register: Register,
) -> Result<(), String> {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let Some(exit) = stop.run_until_cancelled(server.exited()).await else {
            return server.stop().await.map(drop).map_err(|error| error.to_string());
        };
        if started.elapsed() > STEADY {
            pause = FIRST_PAUSE;
        }
        let (_, log) = server.about();
        let seconds = pause.as_secs_f64();
        terminal::note(format_args!(
            "{name} {exit}: started again in {seconds:.1} s; see {}",
            short(&log).display()
        ));
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return Ok(());
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        match stop.run_until_cancelled(server.restart()).await {
            Some(Ok(())) => {
                register.restarted(name, server.about().0);
                terminal::note(format_args!("{name} is back"));
            }
            Some(Err(error)) => terminal::note(format_args!("{name}: {error}")),
            None => return server.stop().await.map(drop).map_err(|error| error.to_string()),
        }
    }
}
