//! Why there is no report.

/// Why there is no report. What is wrong with single files is told in the report instead.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The source may not be read, or is not written as it must be: nothing changes by itself.
    #[error("the source is refused: {0}")]
    Refused(String),
    /// The source may not be read as the setting of this name stands.
    #[error("the source is refused: {what} (setting `{setting}`)")]
    NotAllowed {
        /// The setting.
        setting: &'static str,
        /// What it does not allow.
        what: String,
    },
    /// There is no such path, repository or revision.
    #[error("not found: {0}")]
    NotFound(String),
    /// The repository could not be fetched; it may be another time.
    #[error("the repository could not be fetched: {0}")]
    Fetch(String),
    /// More than the setting of this name allows.
    #[error("more than the setting `{setting}` allows: {what}")]
    TooMuch {
        /// The setting.
        setting: &'static str,
        /// What there was too much of.
        what: String,
    },
    /// The repository cannot be read.
    #[error("the repository cannot be read: {0}")]
    Broken(String),
    /// The index does not answer; it may another time.
    #[error("the index does not answer: {0}")]
    Index(#[from] crate::index::IndexError),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A thread that parsed has panicked.
    #[error("the analysis has failed: {0}")]
    Internal(String),
}

impl AnalysisError {
    /// Whether the same analysis may succeed another time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::Index(_) | Self::Cancelled => true,
            Self::Refused(_)
            | Self::NotAllowed { .. }
            | Self::NotFound(_)
            | Self::TooMuch { .. }
            | Self::Broken(_)
            | Self::Internal(_) => false,
        }
    }

    /// The setting that is in the way.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::NotAllowed { setting, .. } | Self::TooMuch { setting, .. } => Some(setting),
            _ => None,
        }
    }
}
