//! What a stock autoscaler of Kubernetes makes of the depth alone and of the demand, in simulated time:
//! `cargo run -p scheduler --example hpa` prints the table of `docs/scaling.md`.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod controller;
mod fleet;
mod scenario;

use std::time::Duration;

use scenario::{Outcome, Signal, all, play};

fn main() {
    println!("| | by | worker-seconds | drained after | mean wait | most workers |");
    println!("|---|---|---:|---:|---:|---:|");
    for scenario in all() {
        for (name, signal) in [("depth", Signal::Depth(50)), ("demand", Signal::Demand)] {
            let row = columns(&play(&scenario, signal));
            println!("| {} | {name} | {row} |", scenario.name);
        }
    }
}

fn columns(outcome: &Outcome) -> String {
    let drained = match outcome.drained {
        None => format!("not: {} wait", outcome.left),
        // There was nothing to drain.
        Some(after) if after < Duration::from_secs(1) => "-".to_owned(),
        Some(after) => format!("{} s", after.as_secs()),
    };
    let wait = outcome.mean_wait.as_secs_f64();
    format!(
        "{:.0} | {drained} | {wait:.1} s | {}",
        outcome.pod_seconds, outcome.most_pods
    )
}
