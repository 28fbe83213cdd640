//! `weir-worker`: pulls events under shared limits and calls the APIs.

use std::process::ExitCode;

use clap::Parser;
use shared::config::Process;
use shared::lifecycle;
use tokio::net::TcpListener;
use worker::config::{Config, OWN};

/// Pulls events under shared limits, calls the APIs, records results, acks.
#[derive(Debug, Parser)]
#[command(name = "weir-worker", version, after_help = include_str!("settings.txt"))]
struct Args {
    /// Show the settings in effect, without secrets, and exit
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match lifecycle::configure(&Process, &OWN, args.print_config, Config::read) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let fleet = config.fleet.clone();
    lifecycle::run(
        "weir-worker",
        &fleet,
        async |shutdown| -> Result<(), Box<dyn std::error::Error>> {
            let listener = TcpListener::bind(config.listen)
                .await
                .map_err(|e| format!("WEIR_WORKER_LISTEN: {e}"))?;
            Ok(worker::run(config, &worker::registered, listener, shutdown).await?)
        },
    )
}
