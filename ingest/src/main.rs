//! `weir-ingest`: webhooks and events over HTTP into JetStream.

use std::process::ExitCode;

use clap::Parser;
use ingest::Config;
use shared::config::Process;
use shared::lifecycle;

/// Takes webhooks and events over HTTP and keeps them in NATS JetStream.
#[derive(Parser)]
#[command(name = ingest::NAME, version, after_help = ingest::config::HELP)]
struct Arguments {
    /// Show the settings in effect, without secrets, and exit.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match lifecycle::configure(&Process, &Config::OWN, arguments.print_config, Config::read) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let fleet = config.fleet.clone();
    lifecycle::run(ingest::NAME, &fleet, |shutdown| async move {
        let listener = ingest::listen(&config).await?;
        ingest::run(config, listener, shutdown).await
    })
}
