//! Why a command did not do what it was asked to, and the exit code that says so.

use std::fmt::Display;
use std::process::ExitCode;

use crate::terminal;

/// A command's failure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Arguments or settings are wrong: exit code 64.
    Usage(String),
    /// Everything else: exit code 1.
    Failed(String),
}

impl Failure {
    pub(crate) fn failed(what: impl Display) -> Self {
        Self::Failed(what.to_string())
    }

    pub(crate) fn usage(what: impl Display) -> Self {
        Self::Usage(what.to_string())
    }

    /// For `map_err`: the error after what was being done.
    pub(crate) fn at<E: Display>(doing: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Failed(format!("{doing}: {error}"))
    }

    /// Says it on standard error.
    pub(crate) fn tell(&self) -> ExitCode {
        terminal::note(format_args!("weir: {self}"));
        match self {
            Self::Usage(_) => ExitCode::from(shared::config::EXIT_CONFIG),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(text) | Self::Failed(text)) = self;
        f.write_str(text)
    }
}
