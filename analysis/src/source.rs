//! What is to be analyzed, and whether it may be.

use std::path::{Path, PathBuf};

use shared::address::is_public;
use url::{Host, Url};

use crate::error::AnalysisError;
use crate::settings::Settings;

/// A repository or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder or a repository on this machine, below one of the roots.
    Path(PathBuf),
    /// A repository on a server.
    Url(Url),
}

impl Source {
    /// A source as people write it: `https://...`, `file:///...` or a path.
    ///
    /// # Errors
    /// Refused: another scheme, `git@host:path`, or something that is no URL. What is wrong is told without the text
    /// itself, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, AnalysisError> {
        let refused = |what: &str| Err(AnalysisError::Refused(what.into()));
        if text.is_empty() || text.len() > 2048 || text.contains(char::is_control) {
            return refused("it is empty, longer than 2048 bytes or holds control characters");
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::Path(path.into()))
            } else {
                refused("a file:// URL names a path of this machine: file:///path")
            };
        }
        if text.contains("://") {
            let Ok(url) = Url::parse(text) else {
                return refused("it is no URL");
            };
            return match url.scheme() {
                "https" | "http" => Ok(Self::Url(url)),
                _ => refused("only https:// is fetched"),
            };
        }
        let before_slash = text.split('/').next().unwrap_or_default();
        if before_slash.contains(':') || text.starts_with('-') {
            return refused("it is neither an https:// URL nor a path");
        }
        Ok(Self::Path(text.into()))
    }

    /// Its name without secrets: a URL without user, password, query and fragment.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Url(url) => {
                let mut url = url.clone();
                // Neither fails with http and https, which have a host.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_query(None);
                url.set_fragment(None);
                url.into()
            }
        }
    }
}

/// The path, if it is below a root once all links are followed.
pub(crate) fn admit_path(path: &Path, settings: &Settings) -> Result<PathBuf, AnalysisError> {
    let below = |real: &Path| {
        settings
            .roots
            .iter()
            .filter_map(|root| root.canonicalize().ok())
            .any(|root| real.starts_with(root))
    };
    // The same answer for what is not there and for what may not be seen.
    let refused = || AnalysisError::NotAllowed {
        setting: "roots",
        what: format!("{} is not a folder below one of the roots", path.display()),
    };
    let real = path.canonicalize().map_err(|_| refused())?;
    (below(&real) && real.is_dir())
        .then_some(real)
        .ok_or_else(refused)
}

/// Whether a URL may be fetched, as far as it tells by itself; names are looked at when they are resolved.
pub(crate) fn admit_url(url: &Url, settings: &Settings) -> Result<(), AnalysisError> {
    let refused = |what: String| Err(AnalysisError::Refused(what));
    let private = |what: &str| {
        let (setting, what) = ("allow_private", what.to_owned());
        Err(AnalysisError::NotAllowed { setting, what })
    };
    match url.scheme() {
        "https" => {}
        "http" if settings.allow_private => {}
        _ => return private("only https:// is fetched"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("a URL must not hold a user or a password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("a repository's URL has no query and no fragment".into());
    }
    let inside = match url.host() {
        None => return refused("the URL names no host".into()),
        Some(Host::Ipv4(ip)) => !is_public(ip.into()),
        Some(Host::Ipv6(ip)) => !is_public(ip.into()),
        Some(Host::Domain(_)) => false,
    };
    if inside && !settings.allow_private {
        return private("the URL leads to an address that is not public");
    }
    Ok(())
}

/// A revision: a branch, a tag, a full reference name or a commit's hash; nothing that would be computed.
pub(crate) fn admit_revision(revision: &str) -> Result<(), AnalysisError> {
    let bad = revision.is_empty()
        || revision.len() > 256
        || revision.starts_with(['-', '/', '.'])
        || revision.ends_with(['/', '.'])
        || revision.contains("..")
        || revision.contains("//")
        || revision.contains("@{")
        || revision
            .rsplit('/')
            .any(|part| part.strip_suffix(".lock").is_some())
        || revision
            .chars()
            .any(|c| c.is_control() || " ~^:?*[\\".contains(c));
    if bad {
        return Err(AnalysisError::Refused(
            "a revision is the name of a branch or a tag, or a commit's hash".into(),
        ));
    }
    Ok(())
}
