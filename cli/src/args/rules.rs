//! The arguments of `weir rules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use shared::event::{Key, Tenant};
use shared::subject::Service;

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Tell everything that is wrong with a rules file; with a sample, what follows from it.
    Check(Check),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rules check rules.toml
  weir rules check rules.toml --payload webhook.json --service github --type issues.opened
  weir rules check rules.toml --event opened.json
  weir rules check rules.toml --event opened.json --json | jq '.rules[].emits'

A payload is the body of a webhook, as it was sent. A sample says more: how the
event ended, and what context it has:
  {\"service\": \"github\", \"event\": {\"type\": \"call\", \"data\": {\"path\": \"/zen\"}},
   \"code\": \"http_200\", \"result\": {\"text\": \"...\"}}

Nothing is published. Warnings are about rules that come to nothing: what they
emit nobody does anything with, or what they wait for never comes. The exit code
is 1 when the file is wrong or a rule fails on the sample.")]
pub(crate) struct Check {
    /// The rules, TOML.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A sample to decide on.
    #[arg(long, value_name = "FILE")]
    pub(crate) event: Option<PathBuf>,
    /// The body of a webhook to decide on, JSON or a form.
    #[arg(long, value_name = "FILE", conflicts_with = "event", requires_all = ["service", "kind"])]
    pub(crate) payload: Option<PathBuf>,
    /// The service that the payload came to.
    #[arg(long, value_name = "NAME", requires = "payload", value_parser = super::service)]
    pub(crate) service: Option<Service>,
    /// The event's type, as `X-GitHub-Event` and the body's action: issues.opened
    #[arg(long = "type", value_name = "TYPE", requires = "payload")]
    pub(crate) kind: Option<String>,
    /// The source of the payload [the service's name]
    #[arg(long, value_name = "NAME", requires = "payload")]
    pub(crate) source: Option<String>,
    /// Key of the payload's event.
    #[arg(long, value_name = "KEY", requires = "payload", value_parser = |text: &str| Key::new(text))]
    pub(crate) key: Option<Key>,
    /// Tenant of the payload's event.
    #[arg(long, value_name = "TENANT", requires = "payload", value_parser = |text: &str| Tenant::new(text))]
    pub(crate) tenant: Option<Tenant>,
    /// Services of the fleet, separated by commas [WEIR_SERVICES, else any may be named]
    #[arg(long, value_name = "LIST")]
    pub(crate) services: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
