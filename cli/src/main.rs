//! `weir`: run the fleet on this machine, publish events, look at queues and limits, change limits, say why something waits,
//! list and replay dead letters, check rules.

mod args;
mod cache;
mod dlq;
mod explain;
mod failure;
mod fleet;
mod history;
mod limits;
mod moment;
mod publish;
mod rules;
mod status;
mod tables;
mod tail;
mod terminal;
mod up;
mod upstreams;
mod warm;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let _ = message.print();
            return if message.use_stderr() {
                ExitCode::from(shared::config::EXIT_CONFIG)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    shared::lifecycle::install_tls();
    terminal::quiet_client();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(error).tell(),
    };
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Up(up) => Box::pin(up::run(up)).await,
            Command::Publish(publish) => publish::run(publish).await,
            Command::Status(status) => status::run(status).await,
            Command::History(history) => Box::pin(history::run(history)).await,
            Command::Tail(tail) => Box::pin(tail::run(tail)).await,
            Command::Dlq(dlq) => Box::pin(dlq::run(dlq)).await,
            Command::Cache(cache) => cache::run(cache).await,
            Command::Warm(warm) => Box::pin(warm::run(warm)).await,
            Command::Limits(limits) => Box::pin(limits::run(limits)).await,
            Command::Rules(rules) => rules::run(&rules),
            Command::Explain(explain) => Box::pin(explain::run(explain)).await,
        }
    });
    // A blocking read of standard input must not keep the process.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
