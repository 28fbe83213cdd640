//! The command line.

mod cache;
mod dlq;
mod look;
mod past;
mod rules;
mod warm;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use shared::event::{EventId, Key, Priority, Tenant};
use shared::subject::Service;

pub(crate) use cache::{Cache, CacheDrop, CacheStats, CacheWorth};
pub(crate) use dlq::{Chosen, Dlq, DlqList, DlqPurge, DlqReplay, DlqShow, Rate, Selection};
pub(crate) use look::{
    Explain, Limits, LimitsList, LimitsReset, LimitsSet, LimitsShadow, LimitsShow, Turned,
};
pub(crate) use past::{History, Of, Tail};
pub(crate) use rules::{Check, Rules};
pub(crate) use warm::{Warm, WarmExplain, WarmPause, WarmResume, WarmStatus};

/// Runs and looks after a fleet for integration events.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    after_help = "\
Start with:
  weir up        the whole fleet on this machine, until Ctrl-C
  weir publish github --type call --data '{\"path\":\"/zen\"}'
                 an event, from another terminal
  weir status    what waits where
  weir explain github
                 why it waits, and until when

Exit codes: 0 done, 1 failed, 64 wrong arguments or settings."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run ingest, workers and scheduler here, with private servers where none are given.
    Up(Up),
    /// Publish an event and wait until it is kept.
    Publish(Publish),
    /// Show what waits, what is retried and what is dead, by service and lane.
    Status(Status),
    /// Show what became of events, or all that is known of one of them.
    History(History),
    /// Show ends and failed attempts as they come, until Ctrl-C.
    Tail(Tail),
    /// List, show, replay and purge dead letters.
    #[command(subcommand)]
    Dlq(Dlq),
    /// Drop what is cached, and show how much there is and what it is worth.
    #[command(subcommand)]
    Cache(Cache),
    /// Show, explain and pause what is fetched ahead into caches.
    #[command(subcommand)]
    Warm(Warm),
    /// List, show and change the limits while the fleet runs.
    #[command(subcommand)]
    Limits(Limits),
    /// Check a rules file, and show what it would emit on a sample.
    #[command(subcommand)]
    Rules(Rules),
    /// Say where an event is or what a service waits for, why, and until when.
    Explain(Explain),
}

/// Where the fleet is: a flag wins over its WEIR_* variable, and that over the fleet that `weir up` runs here.
#[derive(Debug, Clone, Args)]
pub(crate) struct Where {
    /// NATS of the fleet [WEIR_NATS_URL, else the fleet of `weir up`, else nats://127.0.0.1:4222]
    #[arg(long, value_name = "URL")]
    pub(crate) nats_url: Option<String>,
    /// Data folder of `weir up` [.weir here or in a folder above]
    #[arg(long = "fleet", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir up
  weir up --workers 4 --services github
  weir up --nats-url nats://127.0.0.1:4222 --postgres-url postgres://weir@127.0.0.1/weir
  weir up --json-ready | while read -r fleet; do ...; done

Servers that are not given by a flag or by WEIR_NATS_URL, WEIR_REDIS_URL or
WEIR_POSTGRES_URL run privately, from the binaries of this machine, on loopback;
their data stays in the data folder. All WEIR_* and OTEL_* variables reach the
services. Ctrl-C stops everything in order, a second Ctrl-C at once. Nothing
runs on when this process is killed.")]
pub(crate) struct Up {
    /// How many workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    pub(crate) workers: u16,
    /// Folder for data, logs, ports, the token and fleet.json.
    #[arg(long, value_name = "DIR", default_value = ".weir")]
    pub(crate) data: PathBuf,
    /// Services of the fleet, separated by commas [WEIR_SERVICES, else the default ones]
    #[arg(long, value_name = "LIST")]
    pub(crate) services: Option<String>,
    /// Use this NATS server instead of a private one.
    #[arg(long, value_name = "URL")]
    pub(crate) nats_url: Option<String>,
    /// Use this Redis server instead of a private one.
    #[arg(long, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// Use this Postgres database instead of a private one.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres_url: Option<String>,
    /// Where ingest listens [WEIR_INGEST_LISTEN, else 127.0.0.1:8080 when free, else a free port]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) ingest_listen: Option<SocketAddr>,
    /// Where the scheduler listens [WEIR_SCHEDULER_LISTEN, else 127.0.0.1:8082 when free, else a free port]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) scheduler_listen: Option<SocketAddr>,
    /// Run no ingest.
    #[arg(long)]
    pub(crate) no_ingest: bool,
    /// Run no scheduler.
    #[arg(long)]
    pub(crate) no_scheduler: bool,
    /// When all is ready, print one JSON line about the fleet on standard output and nothing else there.
    #[arg(long)]
    pub(crate) json_ready: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir publish http --type user.created --data '{\"name\":\"Ada\"}'
  weir publish github --type issues.opened --key octo/repo --priority 9 --data @payload.json
  gzip -c report.csv | weir publish http --type report --content-type application/gzip --data -")]
pub(crate) struct Publish {
    /// Service that is to handle it.
    #[arg(value_parser = service)]
    pub(crate) service: Service,
    /// What happened.
    #[arg(long = "type", value_name = "TYPE", default_value = "weir.test")]
    pub(crate) kind: String,
    /// Id of the event; the same id again is the same event [a new one]
    #[arg(long, value_parser = |text: &str| EventId::new(text))]
    pub(crate) id: Option<EventId>,
    /// What it belongs to, for example a repository.
    #[arg(long, value_parser = |text: &str| Key::new(text))]
    pub(crate) key: Option<Key>,
    /// Whose it is.
    #[arg(long, value_parser = |text: &str| Tenant::new(text))]
    pub(crate) tenant: Option<Tenant>,
    /// Who says so.
    #[arg(long, default_value = "cli")]
    pub(crate) source: String,
    /// How urgent it is, 1 to 10, 10 the most urgent.
    #[arg(long, default_value = "5", value_parser = priority)]
    pub(crate) priority: Priority,
    /// The payload: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(crate) data: Option<String>,
    /// Media type of the payload.
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    pub(crate) content_type: String,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir status
  weir status --json | jq '.services[] | {service, waiting: .totals.waiting}'

Figures come from NATS itself; one that cannot be read is shown as unknown, and
the exit code is 1. What was done in the last hour comes from Postgres
[WEIR_POSTGRES_URL, else the fleet of `weir up`].")]
pub(crate) struct Status {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask this scheduler (http://host:8082) instead of NATS.
    #[arg(long, value_name = "URL")]
    pub(crate) scheduler: Option<String>,
    /// Postgres of the fleet.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres_url: Option<String>,
    #[command(flatten)]
    pub(crate) fleet: Where,
}

fn service(text: &str) -> Result<Service, String> {
    Service::new(text).map_err(|error| error.to_string())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.strip_prefix("localhost").unwrap_or(text);
        match port.strip_prefix(':').unwrap_or(port).parse::<u16>() {
            Ok(port) => format!("is no address: write 127.0.0.1:{port}"),
            Err(_) => "is no address: write an IP address and a port, such as 127.0.0.1:8080".to_owned(),
        }
    })
}

fn priority(text: &str) -> Result<Priority, String> {
    let number = text
        .parse()
        .map_err(|_| "must be a whole number from 1 to 10".to_owned())?;
    Priority::new(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        for text in ["9000", ":9000", "localhost:9000"] {
            assert!(
                address(text).unwrap_err().ends_with("write 127.0.0.1:9000"),
                "{text}"
            );
        }
    }
}
