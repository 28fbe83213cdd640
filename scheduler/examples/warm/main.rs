//! What warming is worth on made-up look-ups: `cargo run --release -p scheduler --example warm` prints the tables of
//! `docs/warming.md`. Arguments: `-- --days 14 --ttl 15 --seed 1` (the time in
//! minutes).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the tables are what it is for"
)]

mod cache;
mod random;
mod trace;

use cache::play;
use scheduler::warm::Settings;
use scheduler::warm::predict::Source;
use trace::{Company, DAY, Look, MINUTE, START};

/// The last days are measured.
const MEASURED: u64 = 4;

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().unwrap())
}

fn main() {
    let (days, ttl, seed) = (
        argument("--days", 14),
        argument("--ttl", 15),
        argument("--seed", 1),
    );
    let company = Company {
        days,
        people: 60,
        repositories: 80,
    };
    let looks = company.looks(seed);
    let count = looks.len() as u64;
    let mut sets = vec![("all", Source::ALL.to_vec())];
    sets.extend(Source::ALL.map(|source| (source.as_str(), vec![source])));
    println!("{days} days, the last {MEASURED} measured, entries stay for {ttl} minutes, {count} look-ups");
    println!(
        "| look-ups | share | predicted by | hit rate | precision | coverage | calls | of warming | wasted | lead |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|");
    let table = Table { days, ttl };
    table.row("company", &looks, None);
    for share in [50, 500] {
        for (name, sources) in &sets {
            table.row("company", &looks, Some((share, name, sources)));
        }
    }
    let bursts = trace::bursts(seed, days, count);
    let others = [
        ("random", trace::random(seed, days, count)),
        ("company, then bursts", trace::turning(&looks, &bursts, days - 2)),
        ("bursts", bursts),
    ];
    for (name, looks) in others {
        table.row(name, &looks, None);
        for share in [50, 500] {
            for (sources, set) in &sets[..2] {
                table.row(name, &looks, Some((share, sources, set)));
            }
        }
    }
}

struct Table {
    days: u64,
    ttl: u64,
}

impl Table {
    fn row(&self, look_ups: &str, looks: &[Look], by: Option<(u32, &str, &[Source])>) {
        let settings = by.map(|(share, _, sources)| Settings {
            share_permille: share,
            sources: sources.to_vec(),
            ..Settings::new(self.ttl * MINUTE)
        });
        let (outcome, _) = play(
            looks,
            self.ttl * MINUTE,
            settings,
            START + (self.days - MEASURED) * DAY,
        );
        let share = by.map_or_else(|| "-".to_owned(), |(share, ..)| format!("{} %", share / 10));
        let name = by.map_or("off", |(_, name, _)| name);
        let precision = outcome
            .precision()
            .map_or_else(|| "-".to_owned(), |precision| format!("{precision:.2}"));
        let lead = outcome.lead_ms.checked_div(outcome.used * 1_000);
        println!(
            "| {look_ups} | {share} | {name} | {:.1} % | {precision} | {:.1} % | {} | {} | {} | {} |",
            outcome.hit_rate() * 100.0,
            outcome.coverage() * 100.0,
            outcome.calls,
            outcome.warmed,
            outcome.warmed - outcome.used,
            lead.map_or_else(|| "-".to_owned(), |lead| format!("{lead} s")),
        );
    }
}
