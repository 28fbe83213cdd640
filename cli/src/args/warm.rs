//! The arguments of `weir warm`.

use std::time::Duration;

use clap::{Args, Subcommand};
use shared::config::value;
use shared::subject::Service;

use super::{Where, service};

#[derive(Debug, Subcommand)]
pub(crate) enum Warm {
    /// Show what is fetched ahead into caches, and what that was worth.
    Status(WarmStatus),
    /// Say why something is or is not fetched ahead.
    Explain(WarmExplain),
    /// Fetch nothing ahead for a while.
    Pause(WarmPause),
    /// Go on after a pause.
    Resume(WarmResume),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir warm status
  weir warm status --json | jq '.services[] | {service, state, day}'

PRECISION is the part of what was fetched that was then asked for, COVERAGE the
part of what would have been missed that was there, GAIN what that added to the
hit rate, LEAD how long before. Figures in parentheses are of what was only
noted. All are of the last 24 hours and of the keys that the access log notes.
STATE is `no room` while an event of the service has waited for 5 s, or while
nobody knows whether one has: the calls are left to those. In shadow nothing is
fetched; a source leaves it when enough of its predictions have been judged, and
half of them right. The scheduler that leads is asked, over NATS.")]
pub(crate) struct WarmStatus {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir warm explain github /repos/octo/repo
  weir warm explain github 5f0c1a77d2e94b08")]
pub(crate) struct WarmExplain {
    /// Of which service.
    #[arg(value_parser = service)]
    pub(crate) service: Service,
    /// A part of the key's name, or its id: 16 hex digits.
    pub(crate) key: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir warm pause --for 1h
  weir warm pause github --by ada

It holds whether a scheduler runs or not, until its time is up or `weir warm
resume`. What is foreseen is noted and judged all the same.")]
pub(crate) struct WarmPause {
    /// The service [all of them]
    #[arg(value_parser = service)]
    pub(crate) service: Option<Service>,
    /// For how long [until it is resumed]
    #[arg(long = "for", value_name = "SPAN", value_parser = lasts)]
    pub(crate) lasts: Option<Duration>,
    /// Who wants it, for others to see [USER]
    #[arg(long, value_name = "NAME", value_parser = by)]
    pub(crate) by: Option<String>,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir warm resume
  weir warm resume github

Without a service it ends the pause of all of them; one that was paused by its
name stays paused.")]
pub(crate) struct WarmResume {
    /// The service [all of them]
    #[arg(value_parser = service)]
    pub(crate) service: Option<Service>,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

fn lasts(text: &str) -> Result<Duration, String> {
    match value::duration(text)? {
        Duration::ZERO => Err("a pause of no time is none: write 30s, 5m or 2h".to_owned()),
        span => Ok(span),
    }
}

fn by(text: &str) -> Result<String, String> {
    if text.chars().all(|c| c.is_whitespace() || c.is_control()) {
        Err("is nobody's name".to_owned())
    } else {
        Ok(text.trim().to_owned())
    }
}
