//! The short version of every scenario, one test each; `make chaos` plays the long ones.

use std::io::{self, Write as _};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial, run};
use loadtest::chaos::{Length, Order, Scenario, Trouble, all};

/// Scenarios at the same time: they spend most of theirs waiting.
const AT_ONCE: usize = 4;
const SEED: u64 = 7;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let trial = |scenario: Scenario| Trial::test(scenario.name.clone(), move || short(&scenario));
    run(&arguments, all().into_iter().map(trial).collect()).exit_code()
}

fn short(scenario: &Scenario) -> Result<(), Failed> {
    let order = Order {
        seed: SEED,
        length: Length::Short,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match runtime.block_on(scenario.play(order)) {
        Ok(told) if told.holds() => Ok(()),
        Ok(told) => Err(format!("with seed {SEED}: {:#?}\n{told:#?}", told.problems).into()),
        // Not for want of a privilege or library; whoever runs the tests is told.
        Err(trouble @ Trouble::Unplayable(_)) => Ok(writeln!(io::stderr(), "{trouble}")?),
        Err(trouble) => Err(trouble.into()),
    }
}
