//! `weir-loadtest chaos`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use loadtest::chaos::{
    self, Length, Order, Scenario, Told, Trouble,
    table::{Played, put, table},
};
use tokio_util::sync::CancellationToken;

use super::{CliError, say};

/// Breaks things under load on a private fleet, scenario after scenario, and accounts for every event.
///
/// Everything has to be built with failpoints: `make chaos` does it. Exit code 1 when something did not hold.
#[derive(Debug, Args)]
pub(super) struct ChaosArgs {
    /// Play each scenario with so many seeds.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    first_seed: u64,
    /// Put the table into this Markdown file, between `<!-- chaos: begin -->` and `<!-- chaos: end -->`. What it says of
    /// scenarios that are not played stays.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Scenarios at the same time: they spend most of theirs waiting.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = at_once)]
    at_once: usize,
    /// Play these scenarios only.
    #[arg(long = "only", value_name = "NAME")]
    only: Vec<String>,
    /// A few seconds for each instead of as long as it takes in life.
    #[arg(long)]
    short: bool,
    /// Tell the scenarios and play none.
    #[arg(long)]
    list: bool,
}

impl ChaosArgs {
    /// True when everything was played and held.
    pub(super) async fn run(self, stop: &CancellationToken) -> Result<bool, CliError> {
        let scenarios = self.chosen()?;
        if self.list {
            for scenario in &scenarios {
                say(&format!("{:34} {}", scenario.name, scenario.what))?;
            }
            return Ok(true);
        }
        let length = if self.short { Length::Short } else { Length::Long };
        let bar = ProgressBar::new(scenarios.len() as u64 * self.seeds);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut played: Vec<Played> = scenarios.iter().map(Played::new).collect();
        let seeds = self.first_seed..self.first_seed + self.seeds;
        let runs = scenarios.iter().enumerate().flat_map(|(at, scenario)| {
            let bar = &bar;
            seeds.clone().map(move |seed| async move {
                bar.set_message(format!("{} with seed {seed}", scenario.name));
                (at, seed, scenario.play(Order { seed, length }).await)
            })
        });
        let mut runs = stream::iter(runs).buffer_unordered(self.at_once);
        loop {
            let Some(next) = stop.run_until_cancelled(runs.next()).await else {
                return Err(CliError("stopped".to_owned()));
            };
            let Some((at, seed, run)) = next else { break };
            let line = verdict(&played[at].name, seed, &run);
            bar.suspend(|| writeln!(io::stderr(), "{line}"))
                .map_err(CliError::at("telling"))?;
            bar.inc(1);
            played[at].runs.push((seed, run));
        }
        for one in &mut played {
            one.runs.sort_by_key(|(seed, _)| *seed);
        }
        bar.finish_and_clear();
        match &self.table {
            Some(path) => put(path, &played, &chaos::all()).map_err(CliError::at("--table"))?,
            None => say(&table(&played))?,
        }
        Ok(played.iter().all(Played::holds))
    }

    fn chosen(&self) -> Result<Vec<Scenario>, CliError> {
        let mut scenarios = chaos::all();
        let names: BTreeSet<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        if let Some(unknown) = self.only.iter().find(|name| !names.contains(*name)) {
            return Err(CliError(format!(
                "--only {unknown}: no such scenario (--list tells them)"
            )));
        }
        scenarios.retain(|scenario| self.only.is_empty() || self.only.contains(&scenario.name));
        Ok(scenarios)
    }
}

/// One line about a run, more when there is something to tell.
fn verdict(name: &str, seed: u64, run: &Result<Told, Trouble>) -> String {
    let (verdict, rest) = match run {
        Ok(told) if told.holds() => ("holds", told.notes.join("; ")),
        Ok(told) => (
            "DOES NOT HOLD",
            format!("{}\n{}", told.problems.join("\n"), told.notes.join("\n")),
        ),
        Err(trouble) => ("BROKEN OFF", trouble.to_string()),
    };
    format!("{verdict:14} {name} seed {seed} {rest}")
}

fn at_once(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=64).contains(number));
    number.ok_or_else(|| format!("{text:?} is no number from 1 to 64"))
}
