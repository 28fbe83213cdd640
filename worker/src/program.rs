//! The process `weir-worker`, with the handlers that ship or with others too.

use std::process::ExitCode;

use clap::Parser;
use shared::config::Process;
use shared::lifecycle;
use tokio::net::TcpListener;

use crate::config::{Config, OWN};
use crate::handler::{Kind, analysis};

/// Pulls events under shared limits, calls the APIs, records results, acks.
#[derive(Debug, Parser)]
#[command(name = "weir-worker", version, after_help = include_str!("settings.txt"))]
struct Args {
    /// Show the settings in effect, without secrets, and exit
    #[arg(long)]
    print_config: bool,
}

/// Runs a worker that knows these handlers, from its command line to its exit code.
pub fn main(kinds: &[&'static Kind]) -> ExitCode {
    if let Some(code) = analysis::parse_if_asked() {
        return code;
    }
    let args = Args::parse();
    let config = lifecycle::configure(&Process, &OWN, args.print_config, |reader| {
        Config::read_for(reader, kinds)
    });
    let config = match config {
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
            Ok(crate::run(config, &crate::registered, listener, shutdown).await?)
        },
    )
}
