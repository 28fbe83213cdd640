//! `weir`: run the fleet on this machine, publish events, look at queues and limits, change limits, say why something waits,
//! list and replay dead letters.

mod args;
mod dlq;
mod explain;
mod failure;
mod fleet;
mod limits;
mod moment;
mod publish;
mod status;
mod tables;
mod terminal;
mod up;
mod upstreams;

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
    quiet_client();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(error).tell(),
    };
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Up(up) => Box::pin(up::run(up)).await,
            Command::Publish(publish) => publish::run(publish).await,
            Command::Status(status) => status::run(status).await,
            Command::Dlq(dlq) => Box::pin(dlq::run(dlq)).await,
            Command::Limits(limits) => Box::pin(limits::run(limits)).await,
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

/// The NATS client panics on some headers that any publisher can write. Its connection ends, which whoever uses it is told
/// as an error; people need not read how.
fn quiet_client() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_the_client = |place: &std::panic::Location<'_>| place.file().contains("async-nats");
        if !panic.location().is_some_and(of_the_client) {
            tell(panic);
        }
    }));
}
