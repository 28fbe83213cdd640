//! The services of the fleet: their binaries, where they listen, what they are told.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use shared::config::Environment as _;

use super::Settings;
use super::folder::{Folder, Register, is_free};
use super::private::Backing;
use crate::args::Up;
use crate::failure::Failure;

/// Name of the part that takes events in.
pub(super) const INGEST: &str = "ingest";
/// What the names of workers begin with.
pub(super) const WORKER: &str = "worker-";
/// Name of the part that observes.
pub(super) const SCHEDULER: &str = "scheduler";

/// Settings of private servers: they are for this process, and a service would take them for misspelt ones.
pub(super) const NOT_FOR_SERVICES: [&str; 3] =
    ["WEIR_PRIVATE_NATS", "WEIR_PRIVATE_REDIS", "WEIR_PRIVATE_POSTGRES"];

/// A service to be run.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) log: PathBuf,
    pub(super) register: Register,
    pub(super) listen: SocketAddr,
    /// Where to listen when somebody else turns out to listen there already; `None` where the address was asked for.
    spare: Option<SocketAddr>,
    /// The setting that tells it where to listen.
    listen_setting: &'static str,
    /// The other variables set; the same names with `_FILE` are taken away.
    set: Vec<(String, String)>,
}

impl Part {
    /// How its environment differs from ours.
    pub(super) fn environment(&self) -> Vec<(String, Option<String>)> {
        let listen = (self.listen_setting.to_owned(), self.listen.to_string());
        let set: Vec<_> = self.set.iter().cloned().chain([listen]).collect();
        let unset = NOT_FOR_SERVICES.map(str::to_owned).into_iter();
        let unset = unset.chain(set.iter().map(|(name, _)| format!("{name}_FILE")));
        let unset: Vec<_> = unset.map(|name| (name, None)).collect();
        let set = set.into_iter().map(|(name, value)| (name, Some(value)));
        unset.into_iter().chain(set).collect()
    }

    /// How to reach it from this machine.
    pub(super) fn url(&self) -> String {
        let ip = self.listen.ip();
        let ip = if ip.is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            ip
        };
        format!("http://{}", SocketAddr::new(ip, self.listen.port()))
    }

    /// Goes to the spare address when the first one was taken in the moment between looking and listening.
    pub(super) fn moves(&mut self) -> bool {
        let spare = if is_free(self.listen) {
            None
        } else {
            self.spare.take()
        };
        spare.map(|spare| self.listen = spare).is_some()
    }
}

/// What is to be run.
pub(super) struct Parts {
    pub(super) parts: Vec<Part>,
    pub(super) token_file: Option<PathBuf>,
}

/// The programs that this start needs.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) ingest: Option<PathBuf>,
    pub(super) worker: Option<PathBuf>,
    pub(super) scheduler: Option<PathBuf>,
}

/// Finds them beside this program, else on `PATH`. Done before anything is started.
pub(super) fn binaries(up: &Up) -> Result<Binaries, Failure> {
    let find = |wanted: bool, name| if wanted { program(name).map(Some) } else { Ok(None) };
    Ok(Binaries {
        ingest: find(!up.no_ingest, "weir-ingest")?,
        worker: find(up.workers > 0, "weir-worker")?,
        scheduler: find(!up.no_scheduler, "weir-scheduler")?,
    })
}

fn program(name: &str) -> Result<PathBuf, Failure> {
    let here = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(std::path::Path::to_path_buf));
    let path = env::var_os("PATH").unwrap_or_default();
    let runnable = |candidate: &PathBuf| {
        candidate
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    here.clone()
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(runnable)
        .ok_or_else(|| {
            let beside = here.unwrap_or_default();
            Failure::Failed(format!(
                "{name} is neither in {} nor on PATH: build the fleet with `cargo build --release`",
                beside.display()
            ))
        })
}

/// Decides where each part listens and what it is told.
pub(super) fn plan(
    up: &Up,
    settings: &Settings,
    folder: &mut Folder,
    backing: &Backing,
    binaries: &Binaries,
) -> Result<Parts, Failure> {
    let services: Vec<_> = settings.fleet.services.iter().map(ToString::to_string).collect();
    let mut common = vec![
        ("WEIR_NATS_URL".to_owned(), backing.nats_url.clone()),
        ("WEIR_REDIS_URL".to_owned(), backing.redis_url.clone()),
        ("WEIR_POSTGRES_URL".to_owned(), backing.postgres_url.clone()),
        ("WEIR_SERVICES".to_owned(), services.join(",")),
    ];
    if settings.redis_url.is_none() && std::env::var_os("WEIR_LIMITS_START").is_none() {
        // The private Redis is as old as the fleet: what it does not know has not happened.
        common.push(("WEIR_LIMITS_START".to_owned(), "full".to_owned()));
    }
    let token_file = if settings.own_tokens || binaries.ingest.is_none() {
        None
    } else {
        let (token, file) = folder.token()?;
        let tokens = format!("dev:{}:*", hex::encode(Sha256::digest(token)));
        if std::env::var_os("WEIR_SCHEDULER_TOKENS").is_none() {
            common.push(("WEIR_SCHEDULER_TOKENS".to_owned(), tokens.clone()));
        }
        common.push(("WEIR_TOKENS".to_owned(), tokens));
        Some(file)
    };
    let mut parts = Vec::new();
    let mut add = |folder: &Folder, name: &str, program: &PathBuf, listen_setting, (listen, spare)| {
        parts.push(Part {
            name: name.to_owned(),
            program: program.clone(),
            log: folder.log(name),
            register: folder.register.clone(),
            listen,
            spare,
            listen_setting,
            set: common.clone(),
        });
    };
    if let Some(program) = &binaries.ingest {
        let setting = "WEIR_INGEST_LISTEN";
        let listen = listen(up.ingest_listen, setting, 8080, INGEST, settings, folder)?;
        add(folder, INGEST, program, setting, listen);
    }
    if let Some(program) = &binaries.worker {
        for n in 1..=up.workers {
            let name = format!("{WORKER}{n}");
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, folder.port(&name)?));
            add(folder, &name, program, "WEIR_WORKER_LISTEN", (listen, None));
        }
    }
    if let Some(program) = &binaries.scheduler {
        let setting = "WEIR_SCHEDULER_LISTEN";
        let listen = listen(up.scheduler_listen, setting, 8082, SCHEDULER, settings, folder)?;
        add(folder, SCHEDULER, program, setting, listen);
    }
    Ok(Parts { parts, token_file })
}

/// The flag, else the variable, else the usual port if it is free with another to spare, else that other.
fn listen(
    flag: Option<SocketAddr>,
    setting: &str,
    usual: u16,
    name: &str,
    settings: &Settings,
    folder: &mut Folder,
) -> Result<(SocketAddr, Option<SocketAddr>), Failure> {
    let variable = settings
        .environment
        .get(setting)
        .filter(|text| !text.trim().is_empty());
    let asked = match (flag, variable) {
        (Some(address), _) => Some(address),
        (None, Some(text)) => {
            let address = text.trim().parse();
            Some(address.map_err(|error| Failure::Usage(format!("{setting} cannot be read: {error}")))?)
        }
        (None, None) => None,
    };
    if let Some(address) = asked {
        return if is_free(address) {
            Ok((address, None))
        } else {
            Err(Failure::Failed(format!(
                "{name} cannot listen on {address}: the address is in use"
            )))
        };
    }
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
    let spare = SocketAddr::from((Ipv4Addr::LOCALHOST, folder.port(name)?));
    if is_free(usual) {
        Ok((usual, Some(spare)))
    } else {
        Ok((spare, None))
    }
}
