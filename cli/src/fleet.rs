//! Where the fleet is: what flags, variables and a running `weir up` say.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use shared::config::reader::without_password;
use shared::config::{Environment, Fleet, Process, Reader};
use shared::connect;
use shared::subject::Service;

use crate::args::Where;
use crate::failure::Failure;

/// Name of the file in which `weir up` says where its parts are.
pub(crate) const FLEET_FILE: &str = "fleet.json";
/// Name of the file that a running `weir up` holds locked.
pub(crate) const LOCK_FILE: &str = "lock";
/// Name of the data folder where nobody names another.
pub(crate) const DATA: &str = ".weir";
/// How long NATS may take to answer a command.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What `weir up` tells other commands and scripts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FleetFile {
    /// Process id of `weir up`.
    pub(crate) pid: u32,
    /// When it was ready, RFC 3339.
    pub(crate) ready_at: String,
    pub(crate) services: Vec<String>,
    pub(crate) nats_url: String,
    pub(crate) redis_url: String,
    pub(crate) postgres_url: String,
    pub(crate) ingest_url: Option<String>,
    pub(crate) scheduler_url: Option<String>,
    pub(crate) worker_urls: Vec<String>,
    /// File with the token for the events API; `None` where the caller brought tokens of their own.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) parts: Vec<PartRecord>,
}

/// A process of the fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    pub(crate) name: String,
    pub(crate) url: String,
    /// `None` for a server that was given and not started here.
    pub(crate) pid: Option<u32>,
    pub(crate) log: Option<PathBuf>,
}

/// Variables of this process with some of them set otherwise.
#[derive(Debug, Default, Clone)]
pub(crate) struct Overlay(BTreeMap<String, String>);

impl Overlay {
    /// Sets a variable, whatever this process has for it.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Sets a variable that this process does not set, directly or by a file.
    pub(crate) fn fallback(&mut self, name: &str, value: impl Into<String>) {
        if self
            .get(name)
            .or_else(|| self.get(&format!("{name}_FILE")))
            .is_none_or(|text| text.trim().is_empty())
        {
            self.set(name, value);
        }
    }

    /// The variables that are set otherwise.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn hides(&self, name: &str) -> bool {
        name.strip_suffix("_FILE")
            .is_some_and(|direct| self.0.contains_key(direct))
    }
}

impl Environment for Overlay {
    fn raw(&self, name: &str) -> Option<OsString> {
        if self.hides(name) {
            return None;
        }
        self.0.get(name).map(OsString::from).or_else(|| Process.raw(name))
    }

    fn names(&self) -> Vec<String> {
        let mut names = Process.names();
        names.retain(|name| !self.hides(name) && !self.0.contains_key(name));
        names.extend(self.0.keys().cloned());
        names
    }
}

/// A fleet that commands can speak with.
pub(crate) struct Reached {
    pub(crate) fleet: Fleet,
    pub(crate) redis_url: String,
    pub(crate) postgres_url: Option<String>,
    pub(crate) client: async_nats::Client,
    pub(crate) js: jetstream::Context,
    /// Services of the running `weir up`, where this is its fleet.
    pub(crate) services: Option<Vec<String>>,
}

/// What is known of a fleet before anything is asked.
pub(crate) struct Settings {
    pub(crate) fleet: Fleet,
    /// Where its buckets are.
    pub(crate) redis_url: String,
    /// Its database, if one is known.
    pub(crate) postgres_url: Option<String>,
    /// Services of the running `weir up`, where this is its fleet.
    pub(crate) services: Option<Vec<String>>,
    /// Nobody named a NATS server and no `weir up` runs: `fleet` has the usual address.
    unnamed: bool,
}

/// Reads the settings and connects to NATS, or says within seconds that it does not answer.
pub(crate) async fn reach(place: &Where, postgres_url: Option<&str>) -> Result<Reached, Failure> {
    reach_all(place, postgres_url, None).await
}

/// The same, for a command that may be told where Redis is.
pub(crate) async fn reach_all(
    place: &Where,
    postgres_url: Option<&str>,
    redis_url: Option<&str>,
) -> Result<Reached, Failure> {
    let Settings {
        fleet,
        redis_url,
        postgres_url,
        services,
        unnamed,
    } = settings_of(place, postgres_url, redis_url)?;
    if unnamed && let Some(folder) = &place.folder {
        return Err(Failure::Failed(format!(
            "{}; start one with `weir up --data {}`, or give WEIR_NATS_URL",
            none_runs(folder),
            folder.display()
        )));
    }
    let (client, js) = connect(&fleet).await.map_err(|failure| {
        if unnamed {
            Failure::failed(
                "no fleet runs from ./.weir or a folder above; start one with `weir up`, or give --fleet DIR or \
                 WEIR_NATS_URL",
            )
        } else {
            failure
        }
    })?;
    Ok(Reached {
        fleet,
        redis_url,
        postgres_url,
        client,
        js,
        services,
    })
}

/// That no fleet runs from a folder that was named, and which file is missing there.
pub(crate) fn none_runs(folder: &Path) -> String {
    let file = folder.join(FLEET_FILE);
    let missing = if file.is_file() {
        String::new()
    } else {
        format!(": there is no {}", file.display())
    };
    format!("no fleet runs from {}{missing}", folder.display())
}

/// The services that have a stream.
pub(crate) async fn services(js: &jetstream::Context) -> Result<Vec<Service>, Failure> {
    let names: Result<Vec<String>, _> = js.stream_names().try_collect().await;
    let names = names.map_err(Failure::at("listing the streams"))?;
    Ok(names.iter().filter_map(|name| Service::of_stream(name)).collect())
}

/// Which of the services that were asked for in vain the fleet does not have, and which ones it has; `None` where it has them
/// all, or nobody here knows: the past may be that of another fleet.
pub(crate) async fn strangers(
    place: &Where,
    postgres_url: Option<&str>,
    asked: &[Service],
) -> Option<String> {
    if asked.is_empty() || postgres_url.is_some() {
        return None;
    }
    let settings = settings(place, None).ok()?;
    let is_set = |name: &str| Process.get(name).is_some_and(|text| !text.trim().is_empty());
    let services = match settings.services {
        Some(names) => names
            .into_iter()
            .filter_map(|name| Service::new(name).ok())
            .collect(),
        None if is_set("WEIR_SERVICES") => settings.fleet.services,
        None if settings.unnamed => return None,
        None => services(&connect(&settings.fleet).await.ok()?.1).await.ok()?,
    };
    let strangers: Vec<&Service> = asked.iter().filter(|one| !services.contains(one)).collect();
    (!strangers.is_empty()).then(|| strange(&strangers, &services))
}

/// That the fleet does not have these services, and which ones it has.
pub(crate) fn strange(strangers: &[&Service], services: &[Service]) -> String {
    let list = |names: Vec<String>| names.join(", ");
    let strangers = list(strangers.iter().map(ToString::to_string).collect());
    let services = match services {
        [] => "none".to_owned(),
        services => list(services.iter().map(ToString::to_string).collect()),
    };
    format!("the fleet has no service {strangers}: its services are {services}")
}

/// The fleet's settings: those of flags and variables, else those of a running `weir up`.
pub(crate) fn settings(place: &Where, postgres_url: Option<&str>) -> Result<Settings, Failure> {
    settings_of(place, postgres_url, None)
}

fn settings_of(
    place: &Where,
    postgres_url: Option<&str>,
    redis_url: Option<&str>,
) -> Result<Settings, Failure> {
    let mut environment = Overlay::default();
    let running = running(place.folder.as_deref());
    if let Some(running) = &running {
        environment.fallback("WEIR_NATS_URL", &running.nats_url);
        environment.fallback("WEIR_REDIS_URL", &running.redis_url);
        environment.fallback("WEIR_POSTGRES_URL", &running.postgres_url);
        environment.fallback("WEIR_SERVICES", running.services.join(","));
    }
    for (name, flag) in [
        ("WEIR_NATS_URL", place.nats_url.as_deref()),
        ("WEIR_POSTGRES_URL", postgres_url),
        ("WEIR_REDIS_URL", redis_url),
    ] {
        if let Some(value) = flag {
            environment.set(name, value);
        }
    }
    let unnamed = ["WEIR_NATS_URL", "WEIR_NATS_URL_FILE"]
        .into_iter()
        .filter_map(|name| environment.get(name))
        .all(|value| value.trim().is_empty());
    let mut reader = Reader::new(&environment);
    let fleet = Fleet::read(&mut reader);
    let redis_url = reader.url("WEIR_REDIS_URL", "redis://127.0.0.1:6379", &["redis", "rediss"]);
    let postgres_url = reader.url("WEIR_POSTGRES_URL", "", &["postgres", "postgresql"]);
    let postgres_url = Some(postgres_url).filter(|url| !url.is_empty());
    let services = running
        .filter(|running| running.nats_url == fleet.nats_url)
        .map(|running| running.services);
    let settings = Settings {
        fleet,
        redis_url,
        postgres_url,
        services,
        unnamed,
    };
    reader
        .finish(&[], settings)
        .map(|(settings, _)| settings)
        .map_err(Failure::usage)
}

/// A connection to NATS that is there.
pub(crate) async fn connect(fleet: &Fleet) -> Result<(async_nats::Client, jetstream::Context), Failure> {
    let (client, js) = connect::nats(fleet, "weir").await.map_err(Failure::failed)?;
    match tokio::time::timeout(CONNECT_WITHIN, client.flush()).await {
        Ok(Ok(())) => Ok((client, js)),
        Ok(Err(_)) | Err(_) => Err(Failure::Failed(format!(
            "NATS at {} does not answer: is the fleet up (`weir up`), or WEIR_NATS_URL wrong?",
            shown(&fleet.nats_url)
        ))),
    }
}

/// A URL, or several separated by commas, without passwords.
pub(crate) fn shown(urls: &str) -> String {
    urls.split(',')
        .map(without_password)
        .collect::<Vec<_>>()
        .join(",")
}

/// What the `weir up` of this data folder says, if one is running.
fn running(data: Option<&Path>) -> Option<FleetFile> {
    let folder = match data {
        Some(folder) => folder.to_owned(),
        None => std::env::current_dir()
            .ok()?
            .ancestors()
            .map(|dir| dir.join(DATA))
            .find(|folder| folder.join(FLEET_FILE).is_file())?,
    };
    // Whoever can lock it knows that its owner is gone and what it said is of no use any more.
    let lock = File::open(folder.join(LOCK_FILE)).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    serde_json::from_slice(&fs::read(folder.join(FLEET_FILE)).ok()?).ok()
}
