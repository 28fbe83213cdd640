//! `weir-loadtest`: see `--help`.

mod cli;

use std::{io::Write, process::ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    shared::lifecycle::install_tls();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "weir-loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}
