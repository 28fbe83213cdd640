//! What came of the scenarios, as a table in a Markdown file.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Scenario, Told, Trouble};

/// Between these two lines a file has the table.
const MARKS: [&str; 2] = ["<!-- chaos: begin -->", "<!-- chaos: end -->"];

/// One scenario, played with some seeds.
#[derive(Debug)]
pub struct Played {
    /// What it is called.
    pub name: String,
    /// What happens.
    pub what: String,
    /// What came of it, by seed.
    pub runs: Vec<(u64, Result<Told, Trouble>)>,
}

impl Played {
    /// Not played yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            what: scenario.what.clone(),
            runs: Vec::new(),
        }
    }

    /// Whether everything was played and held.
    pub fn holds(&self) -> bool {
        self.runs
            .iter()
            .all(|(_, run)| run.as_ref().is_ok_and(Told::holds))
    }

    fn told(&self) -> impl Iterator<Item = &Told> {
        self.runs.iter().filter_map(|(_, run)| run.as_ref().ok())
    }

    fn row(&self) -> String {
        let sum = |of: fn(&Told) -> u64| self.told().map(of).sum::<u64>();
        let account = [
            sum(|told| told.account.accepted),
            sum(|told| told.account.done),
            sum(|told| told.account.dead),
            sum(|told| told.account.waiting),
            sum(|told| told.account.lost),
            sum(|told| told.account.doubled),
            sum(|told| told.effects_twice),
            sum(|told| told.effects_missing),
            sum(|told| told.delivered_again),
        ];
        let account: Vec<String> = account.iter().map(u64::to_string).collect();
        let mut times: Vec<Duration> = self.told().filter_map(|told| told.recovery).collect();
        times.sort_unstable();
        let back = match (times.first(), times.last()) {
            (Some(least), Some(most)) => format!("{:.1}–{:.1} s", least.as_secs_f64(), most.as_secs_f64()),
            _ => "–".to_owned(),
        };
        let holds = if self.holds() { "yes" } else { "**no**" };
        format!(
            "| `{}`: {} | {} | {} | {back} | {holds} |",
            self.name,
            self.what,
            self.runs.len(),
            account.join(" | ")
        )
    }
}

/// A scenario's part of the table.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    row: String,
    /// Why it does not hold, one line a seed.
    why: Vec<String>,
}

impl Entry {
    fn of(played: &Played) -> Self {
        let line = |(seed, run): &(u64, Result<Told, Trouble>)| {
            let why = match run {
                Ok(told) => told.problems.join("; "),
                Err(trouble) => trouble.to_string(),
            };
            let first = why.lines().next().unwrap_or_default();
            (!first.is_empty()).then(|| format!("- seed {seed}: {first}"))
        };
        Self {
            name: played.name.clone(),
            row: played.row(),
            why: played.runs.iter().filter_map(line).collect(),
        }
    }

    /// What a table says that was written before.
    fn read(table: &str) -> Vec<Self> {
        let mut entries: Vec<Self> = Vec::new();
        let mut about = None;
        for line in table.lines() {
            let name = || line.split('`').nth(1).unwrap_or_default();
            if line.starts_with("| `") {
                entries.push(Self {
                    name: name().to_owned(),
                    row: line.to_owned(),
                    why: Vec::new(),
                });
            } else if line.ends_with(FAILS) {
                about = entries.iter().position(|entry| entry.name == name());
            } else if let Some(at) = about.filter(|_| line.starts_with("- ")) {
                entries[at].why.push(line.to_owned());
            }
        }
        entries
    }
}

const FAILS: &str = " does not hold:";

fn write(entries: &[Entry]) -> String {
    let mut lines = vec![
        "| scenario | runs | acknowledged | done | dead | waiting | lost | in two places | effects twice | done without effect | webhooks again | back after | holds |".to_owned(),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|".to_owned(),
    ];
    lines.extend(entries.iter().map(|entry| entry.row.clone()));
    for entry in entries.iter().filter(|entry| !entry.why.is_empty()) {
        lines.extend([String::new(), format!("`{}`{FAILS}", entry.name), String::new()]);
        lines.extend(entry.why.iter().cloned());
    }
    lines.join("\n") + "\n"
}

/// The table.
pub fn table(played: &[Played]) -> String {
    let entries: Vec<Entry> = played.iter().map(Entry::of).collect();
    write(&entries)
}

/// Puts what was played into the file's table. Of the other `scenarios` the table keeps what it says.
pub fn put(path: &Path, played: &[Played], scenarios: &[Scenario]) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let [begin, end] = MARKS;
    let missing = || io::Error::other(format!("{} has no lines {begin} and {end}", path.display()));
    let (before, rest) = text.split_once(begin).ok_or_else(missing)?;
    let (former, after) = rest.split_once(end).ok_or_else(missing)?;
    let known = Entry::read(former);
    let entry = |scenario: &Scenario| {
        let now = played.iter().find(|one| one.name == scenario.name).map(Entry::of);
        now.or_else(|| known.iter().find(|one| one.name == scenario.name).cloned())
    };
    let entries: Vec<Entry> = scenarios.iter().filter_map(entry).collect();
    fs::write(path, format!("{before}{begin}\n{}{end}{after}", write(&entries)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_last_one() {
        let told = Told {
            recovery: Some(Duration::from_millis(1_500)),
            ..Told::default()
        };
        let bad = Told {
            problems: vec!["2 events are lost".into()],
            ..told.clone()
        };
        let played = |name: &str, runs| Played {
            name: name.into(),
            what: "it breaks".into(),
            runs,
        };
        let scenarios = ["kept", "good", "bad"].map(|name| {
            Scenario::new(name, "it breaks", async |_| {
                Err(Trouble::Failed("not played".into()))
            })
        });
        let all = [
            played("good", vec![(1, Ok(told))]),
            played(
                "bad",
                vec![(1, Ok(bad)), (2, Err(Trouble::Failed("late".into())))],
            ),
        ];
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("doc.md");
        let former = "| `gone`: x | 1 |\n| `kept`: x | 7 |\n| `bad`: x | 8 |\n\n`kept` does not hold:\n\n- seed 9: why\n";
        let [begin, end] = MARKS;
        fs::write(&file, format!("before\n{begin}\n{former}{end}\nafter\n")).unwrap();
        for _ in 0..2 {
            put(&file, &all, &scenarios).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                text.starts_with("before\n") && text.ends_with("-->\nafter\n"),
                "{text}"
            );
            assert!(!text.contains("gone") && !text.contains("| 8 |"), "{text}");
            assert!(
                text.contains("| `kept`: x | 7 |\n| `good`: it breaks | 1 | 0 |"),
                "{text}"
            );
            for line in [
                "1.5–1.5 s | yes |",
                "- seed 1: 2 events are lost",
                "- seed 2: late",
                "- seed 9: why",
            ] {
                assert_eq!(text.matches(line).count(), 1, "{line} in {text}");
            }
        }
        assert!(put(&file.with_extension("none"), &all, &scenarios).is_err());
    }
}
