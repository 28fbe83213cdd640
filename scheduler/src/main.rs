//! The process `weir-scheduler`.

use std::process::ExitCode;

use clap::Parser;
use scheduler::Config;
use shared::{config, lifecycle};
use tokio::net::TcpListener;

/// Observes every queue of the fleet, serves what it saw, and buries messages that no worker can settle.
#[derive(Debug, Parser)]
#[command(name = "weir-scheduler", version, after_help = scheduler::config::HELP)]
struct Arguments {
    /// Show the settings in effect, without secrets, and exit.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let _ = message.print();
            return if message.use_stderr() {
                ExitCode::from(config::EXIT_CONFIG)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let config = lifecycle::configure(&config::Process, &Config::OWN, arguments.print_config, |reader| {
        let config = Config::read(reader);
        if !arguments.print_config {
            config.check_files(reader);
        }
        config
    });
    let config = match config {
        Ok(config) => config,
        Err(code) => return code,
    };
    let fleet = config.fleet.clone();
    lifecycle::run("weir-scheduler", &fleet, |shutdown| async move {
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            format!(
                "WEIR_SCHEDULER_LISTEN: cannot listen on {}: {error}",
                config.listen
            )
        })?;
        scheduler::run(config, listener, shutdown)
            .await
            .map_err(|error| error.to_string())
    })
}
