//! The arguments of `weir cache`.

use clap::{Args, Subcommand};
use shared::access::worth::MOST_HOURS;
use shared::cache::{Key, Pattern, What};
use shared::subject::Service;

use super::look::Buckets;
use super::{Where, service};

/// How the tag of a repository begins.
const REPOSITORY: &str = "repo:";

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// Let the whole fleet forget answers that are cached.
    Drop(CacheDrop),
    /// Show how much is cached in Redis, and how much was dropped lately.
    Stats(CacheStats),
    /// Show what cached answers were worth, hour by hour.
    Worth(CacheWorth),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir cache drop --tag repo:octo/hello
  weir cache drop --pattern 'github:acme:* GET /repos/octo/*'
  weir cache drop --key 'github::43a84c18 GET /repos/octo/hello'

A key is written space:tenant:name, or space::name where it is no tenant's;
`weir warm explain github /repos/octo` shows those that are known. In a pattern
* is any run of characters and ? any one. Tags are repo:OWNER/NAME (written in
small letters, whatever is given) and drive-file:ID. What was asked for before
is used nowhere any more, in any process: it is fetched anew. There can be 256
different patterns a day, and any number of keys and tags.")]
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
#[command(after_help = "\
Examples:
  weir cache stats
  weir cache stats --json

What was dropped lies in Redis until it lapses or is overwritten, and counts
until then. How much may lie there the workers say (WEIR_CACHE_REDIS).")]
pub(crate) struct CacheStats {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) buckets: Buckets,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir cache worth
  weir cache worth --service github --hours 168
  weir cache worth --json | jq '.lines[] | {service, hour, hit_share}'

The newest hour first. HITS is the part of the look-ups that found an answer,
SAVED how many calls were not made, AHEAD how many were made before anybody
asked, WAITING how much of it was saved. A read that must be asked for anew is
one that missed. Comes from Postgres
[WEIR_POSTGRES_URL, else the fleet of `weir up`].")]
pub(crate) struct CacheWorth {
    /// Of this service; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = service)]
    pub(crate) service: Vec<Service>,
    /// How many hours, the current one included, at most 360.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_HOURS)))]
    pub(crate) hours: u16,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Postgres of the fleet.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres_url: Option<String>,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

fn key(text: &str) -> Result<What, String> {
    text.parse::<Key>()
        .map(What::Key)
        .map_err(|error| error.to_string())
}

/// A tag. GitHub does not tell cases apart, and workers write a repository's tag in small letters.
fn tag(text: &str) -> Result<What, String> {
    match text.strip_prefix(REPOSITORY) {
        Some(named) => What::tag(format!("{REPOSITORY}{}", named.to_ascii_lowercase())),
        None => What::tag(text),
    }
}

fn pattern(text: &str) -> Result<What, String> {
    text.parse::<Pattern>().map(What::Pattern)
}
