//! The arguments of `weir cache`.

use clap::{Args, Subcommand};
use shared::cache::{Key, Pattern, What};

use super::Where;
use super::look::Buckets;

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// Let the whole fleet forget answers that are cached.
    Drop(CacheDrop),
    /// Show how much is cached in Redis, and how much was dropped lately.
    Stats(CacheStats),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir cache drop --tag repo:octo/repo
  weir cache drop --pattern 'github-*:acme:*'
  weir cache drop --key github-reads::/repos/octo/repo

A key is written space:tenant:name, or space::name where it is no tenant's. In
a pattern * is any run of characters and ? any one. What was asked for before is
used nowhere any more, in any process; there can be 256 different patterns a
day, and any number of keys and tags.")]
pub(crate) struct CacheDrop {
    #[command(flatten)]
    pub(crate) what: CacheWhat,
    /// Do not ask before everything is dropped.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

/// What is dropped: one of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct CacheWhat {
    /// One answer.
    #[arg(long, value_name = "SPACE:TENANT:NAME", value_parser = key)]
    key: Option<What>,
    /// All answers that depend on this.
    #[arg(long, value_parser = tag)]
    tag: Option<What>,
    /// All answers whose keys match.
    #[arg(long, value_parser = pattern)]
    pattern: Option<What>,
}

impl CacheWhat {
    /// The one that is given.
    pub(crate) fn given(&self) -> Option<&What> {
        let one = self.key.as_ref().or(self.tag.as_ref());
        one.or(self.pattern.as_ref())
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  weir cache stats\n  weir cache stats --json")]
pub(crate) struct CacheStats {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) buckets: Buckets,
}

fn key(text: &str) -> Result<What, String> {
    text.parse::<Key>()
        .map(What::Key)
        .map_err(|error| error.to_string())
}

fn tag(text: &str) -> Result<What, String> {
    What::tag(text)
}

fn pattern(text: &str) -> Result<What, String> {
    text.parse::<Pattern>().map(What::Pattern)
}
