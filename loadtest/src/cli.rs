//! The command line: `provider`, `traces`, `run`, `chaos`.

mod chaos;
mod provider;
mod run;
mod traces;

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use shared::lifecycle;
use tokio_util::sync::CancellationToken;

/// Exit code when something was lost or doubled, or the command could not do its work.
const FAILED: u8 = 1;

/// Proof for a Weir fleet: load, a simulated provider that counts, and an account of every accepted event.
#[derive(Debug, Parser)]
#[command(name = "weir-loadtest", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Provider(Box<provider::ProviderArgs>),
    Traces(traces::TracesArgs),
    Run(Box<run::RunArgs>),
    Chaos(chaos::ChaosArgs),
}

impl Cli {
    /// Runs the command until it is done or told to stop by SIGTERM or Ctrl-C.
    pub(crate) async fn run(self) -> ExitCode {
        let stop = CancellationToken::new();
        if let Err(error) = lifecycle::cancel_on_signal(stop.clone()) {
            return failed(&error);
        }
        let ended = match self.command {
            Command::Provider(args) => args.run(&stop).await.map(|()| true),
            Command::Traces(args) => args.run(&stop).await.map(|()| true),
            Command::Run(args) => args.run(&stop).await,
            Command::Chaos(args) => args.run(&stop).await,
        };
        match ended {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(error) => failed(&error),
        }
    }
}

/// Why a command could not do its work, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CliError(String);

impl CliError {
    /// An error told behind what was being done.
    fn at<E: Display>(doing: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{doing}: {error}"))
    }
}

fn failed(error: &impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "weir-loadtest: {error}");
    ExitCode::from(FAILED)
}

/// One line on standard output, flushed, for scripts that wait for it.
fn say(line: &impl Display) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(CliError::at("writing to standard output"))
}
