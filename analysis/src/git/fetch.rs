//! One commit from a server, without its history, into the cache.

use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::error::{Class, ResourceExhaustionKind, classify};
use gix::progress::Discard;
use gix::remote::Direction;
use gix::remote::fetch::{Shallow, Tags};
use gix_transport::Protocol;
use gix_transport::client::blocking_io::http::Transport;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::budget::Budget;
use super::cache::{Cache, Lease};
use super::http::{Wire, chain};
use super::options;
use crate::error::AnalysisError;
use crate::settings::Settings;

/// Most references that a server may tell of what was asked for.
const MAX_MAPPINGS: usize = 16;

fn failed(error: impl std::error::Error) -> AnalysisError {
    AnalysisError::Fetch(chain(&error))
}

/// An object that is larger than may be held in memory will be so the next time too.
fn larger_or_failed(error: &gix::Error) -> AnalysisError {
    let limit = Class::ResourceExhaustion(ResourceExhaustionKind::AllocationLimit);
    if !classify(error).has(limit) {
        return failed(error);
    }
    let what = "an object of the pack, or the list of them".to_owned();
    let setting = "object_bytes";
    AnalysisError::TooMuch { setting, what }
}

/// What to ask for, best first: `name` is a branch before it is a tag.
fn refspecs(revision: Option<&str>) -> Vec<String> {
    match revision {
        None | Some("HEAD") => vec!["+HEAD:refs/weir/head".into()],
        Some(name) if name.starts_with("refs/") => vec![format!("+{name}:refs/weir/named")],
        Some(hash) if ObjectId::from_hex(hash.as_bytes()).is_ok() => {
            // Whoever asks for no reference is told of all of them, so one is asked for that nobody has.
            let nothing = "+refs/weir/nothing:refs/weir/nothing".to_owned();
            vec![format!("+{hash}:refs/weir/commit"), nothing]
        }
        Some(name) => vec![
            format!("+refs/heads/{name}:refs/weir/branch"),
            format!("+refs/tags/{name}:refs/weir/tag"),
        ],
    }
}

/// Fetches a revision unless it is in the cache. Gives where it lies and what it is.
pub(crate) fn fetch(
    url: &Url,
    revision: Option<&str>,
    settings: &Settings,
    cancel: &CancellationToken,
    stop: &AtomicBool,
) -> Result<(Lease, ObjectId), AnalysisError> {
    let Some(dir) = &settings.cache else {
        let (setting, what) = ("cache", "no URL is fetched without it".to_owned());
        return Err(AnalysisError::NotAllowed { setting, what });
    };
    let local = |e: std::io::Error| AnalysisError::Fetch(format!("the cache {}: {e}", dir.display()));
    let cache = Cache::open(settings, dir).map_err(local)?;
    if let Some(id) = revision.and_then(|hash| ObjectId::from_hex(hash.as_bytes()).ok())
        && let Some(lease) = cache.find(url, id)
    {
        return Ok((lease, id));
    }

    let unfinished = cache.begin().map_err(local)?;
    let create = gix::create::Options {
        destination_must_be_empty: Some(true),
        ..Default::default()
    };
    let kind = gix::create::Kind::Bare;
    let repository = gix::ThreadSafeRepository::init_opts(unfinished.path(), kind, create, options(settings))
        .map_err(failed)?
        .to_thread_local();
    let address = gix::Url::try_from(url.as_str()).map_err(failed)?;
    let remote = repository
        .remote_at_without_url_rewrite(address.clone())
        .map_err(failed)?
        .with_fetch_tags(Tags::None)
        .with_refspecs(refspecs(revision).iter().map(String::as_str), Direction::Fetch)
        .map_err(failed)?;
    let budget = Budget::new(settings, cancel);
    let wire = Wire::new(settings, budget.clone()).map_err(AnalysisError::Fetch)?;
    let broken_off = |error: gix::Error| budget.over().unwrap_or_else(|| larger_or_failed(&error));
    let prepared = remote
        .to_connection_with_transport(Transport::new_http(wire, address, Protocol::V2, false))
        // Nobody is asked for a password, no helper is run.
        .with_credentials(|_| Ok(None))
        .prepare_fetch(Discard, gix::remote::ref_map::Options::default())
        .map_err(broken_off)?;
    let told = &prepared.ref_map().mappings;
    if told.len() > MAX_MAPPINGS {
        return Err(AnalysisError::Fetch(
            "the server tells more references than were asked for".into(),
        ));
    }
    let branch = told.iter().find(|mapping| {
        mapping
            .local
            .as_ref()
            .is_some_and(|local| local.ends_with(b"branch"))
    });
    let id = branch
        .or(told.first())
        .and_then(|mapping| mapping.remote.peeled_id());
    let Some(id) = id.map(ToOwned::to_owned) else {
        let name = revision.unwrap_or("HEAD");
        return Err(AnalysisError::NotFound(format!(
            "the server has no revision {name}"
        )));
    };
    if let Some(lease) = cache.find(url, id) {
        return Ok((lease, id));
    }
    prepared
        .with_shallow(Shallow::DepthAtRemote(std::num::NonZeroU32::MIN))
        .receive(Discard, stop)
        .map_err(broken_off)?;
    drop(remote);
    drop(repository);
    Ok((cache.keep(unfinished, url, id).map_err(local)?, id))
}
