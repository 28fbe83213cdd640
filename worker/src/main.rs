//! `weir-worker`: pulls events under shared limits and calls the APIs.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker::program::main(worker::handler::KINDS)
}
