//! Which credential goes along with a model's calls, and to whom.

use url::{Origin, Url};

/// A model's credential.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// The service's, which goes to the host of the service's URL alone.
    Service,
    /// It has none.
    None,
    /// Its own.
    Own(String),
}

impl Token {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            text if text.contains(char::is_control) => Err("has several lines".into()),
            text => Ok(Self::Own(text.to_owned())),
        }
    }

    pub(super) fn show(&self) -> String {
        match self {
            Self::Service => "",
            Self::None => "none",
            Self::Own(_) => "(set)",
        }
        .into()
    }
}

/// Scheme, host and port: whoever is there may see what is for one of its paths.
pub(super) fn host(base: &str) -> Option<Origin> {
    Url::parse(base).ok().map(|url| url.origin())
}
