//! The arguments of `weir rules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Tell everything that is wrong with a rules file; with a sample, what follows from it.
    Check(Check),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rules check rules.toml
  weir rules check rules.toml --event opened.json
  weir rules check rules.toml --event opened.json --json | jq '.rules[].emits'

A sample says which event is done, and how it ended:
  {\"service\": \"github\", \"event\": {\"type\": \"call\", \"data\": {\"path\": \"/zen\"}},
   \"code\": \"http_200\", \"result\": {\"text\": \"...\"}}

Nothing is published. The exit code is 1 when the file is wrong or a rule fails
on the sample.")]
pub(crate) struct Check {
    /// The rules, TOML.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A sample to decide on.
    #[arg(long, value_name = "FILE")]
    pub(crate) event: Option<PathBuf>,
    /// Services of the fleet, separated by commas [WEIR_SERVICES, else any may be named]
    #[arg(long, value_name = "LIST")]
    pub(crate) services: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
