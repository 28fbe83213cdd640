//! One commit from a server, without its history, into the cache.

use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::progress::Discard;
use gix::remote::Direction;
use gix::remote::fetch::{Shallow, Tags};
use gix_transport::Protocol;
use gix_transport::client::blocking_io::http::Transport;
use tokio_util::sync::CancellationToken;
use url::Url;

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

/// What to ask for, best first: `name` is a branch before it is a tag.
fn refspecs(revision: Option<&str>) -> Vec<String> {
    match revision {
        None | Some("HEAD") => vec!["+HEAD:refs/weir/head".into()],
        Some(name) if name.starts_with("refs/") => vec![format!("+{name}:refs/weir/named")],
        Some(hash) if ObjectId::from_hex(hash.as_bytes()).is_ok() => {
            vec![format!("+{hash}:refs/weir/commit")]
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
        return Err(AnalysisError::Refused(
            "the setting `cache` is missing, so no URL is fetched".into(),
        ));
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
    let repository = gix::ThreadSafeRepository::init_opts(unfinished.path(), kind, create, options())
        .map_err(failed)?
        .to_thread_local();
    let address = gix::Url::try_from(url.as_str()).map_err(failed)?;
    let remote = repository
        .remote_at_without_url_rewrite(address.clone())
        .map_err(failed)?
        .with_fetch_tags(Tags::None)
        .with_refspecs(refspecs(revision).iter().map(String::as_str), Direction::Fetch)
        .map_err(failed)?;
    let wire = Wire::new(settings, cancel).map_err(AnalysisError::Fetch)?;
    let prepared = remote
        .to_connection_with_transport(Transport::new_http(wire, address, Protocol::V2, false))
        // Nobody is asked for a password, no helper is run.
        .with_credentials(|_| Ok(None))
        .prepare_fetch(Discard, gix::remote::ref_map::Options::default())
        .map_err(failed)?;
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
        .map_err(failed)?;
    drop(remote);
    drop(repository);
    Ok((cache.keep(unfinished, url, id).map_err(local)?, id))
}
